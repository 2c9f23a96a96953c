"""Findings: warnings of a registration, and inputs that have changed since."""

from __future__ import annotations

from pathlib import Path

from nipype_quicksilver.registration.judging import Evidence, impossible_checks, judge
from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.files import sha256_of


def findings(summary: RegistrationSummary) -> list[str]:
    """Return what a reader should check, one sentence each.

    Parameters
    ----------
    summary : RegistrationSummary
        Of a registration.

    Returns
    -------
    list of str
        Warnings of the registration, and what `judging.judge` finds that it did not warn of, as an
        earlier version; empty where there is nothing.
    """
    known = summary.warnings
    new = judge(Evidence.of(summary))
    return [*known, *(text for text in new if not any(text in warning for warning in known))]


def unchecked(summary: RegistrationSummary) -> list[str]:
    """Return the checks that could not be made, because an earlier version did not measure enough.

    Parameters
    ----------
    summary : RegistrationSummary
        Of a registration.

    Returns
    -------
    list of str
        Their names; empty if all checks that apply were made.
    """
    return impossible_checks(Evidence.of(summary))


def changed_files(summary: RegistrationSummary) -> list[str]:
    """Return which inputs have changed since the registration, one sentence each.

    Parameters
    ----------
    summary : RegistrationSummary
        Of a registration; all its inputs are read, and those that no longer exist are skipped.

    Returns
    -------
    list of str
        Empty where nothing has changed.
    """
    return [
        f"{file} has changed since the registration; the pictures may be misleading."
        for name, file in summary.inputs.items()
        if (known := summary.sha256.get(name)) is not None
        and file
        and Path(file).is_file()
        and sha256_of(file) != known
    ]
