"""Findings: warnings of a registration, and values outside their usual range."""

from __future__ import annotations

from pathlib import Path

from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.files import sha256_of

#: Largest usual distance between the affines of both directions, mm, at the rim of the brain.
DIRECTIONS_APART = 10.0
#: Largest usual absolute value of the log-Jacobian: a factor of 20 in volume.
LOG_JACOBIAN = 3.0
#: Largest usual mean inverse consistency over the brain, mm.
INVERSE_CONSISTENCY = 0.5


def findings(summary: RegistrationSummary) -> list[str]:
    """Return what a reader should check, one sentence each.

    Parameters
    ----------
    summary : RegistrationSummary
        Of a registration.

    Returns
    -------
    list of str
        Warnings of the registration first; empty where there are none and all values are usual.
    """
    sentences = list(summary.warnings)
    jacobian, similarity = summary.jacobian, summary.similarity
    if jacobian.folded:
        sentences.append(
            f"{jacobian.folded} voxels of the brain are folded "
            f"({jacobian.folded_percent:.4f}%): the map is not invertible there."
        )
    if similarity.after <= similarity.before:
        sentences.append(
            "The similarity of the images did not increase with the deformation (local "
            f"correlation {similarity.before:.3f} before, {similarity.after:.3f} after)."
        )
    if summary.labels is not None:
        before, after = summary.labels.before.mean.dice, summary.labels.after.mean.dice
        if before is not None and after is not None and after <= before:
            sentences.append("The overlap of the labels did not increase with the deformation.")
    low, high = (jacobian.log_jacobian.get(name) for name in ("p1", "p99"))
    if low is not None and high is not None and (low < -LOG_JACOBIAN or high > LOG_JACOBIAN):
        sentences.append(
            "Volumes change by more than a factor of 20 in at least 1% of the brain: check that "
            "both images show the same anatomy."
        )
    consistency = summary.inverse_consistency_mm.mean
    if consistency > INVERSE_CONSISTENCY:
        sentences.append(
            "Forward and inverse map are inconsistent: points return "
            f"{consistency:.2f} mm from where they started, on average."
        )
    affine = summary.preprocessing.affine
    difference = 0.0 if affine is None else affine.directions_apart_mm or 0.0
    if difference > DIRECTIONS_APART:
        sentences.append(
            f"The affines estimated in the two directions differ by {difference:.1f} mm: check the "
            "alignment."
        )
    return sentences


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
