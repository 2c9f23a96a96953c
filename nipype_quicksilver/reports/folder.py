"""The output folder of `quicksilver register`, read and checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.files import PathLike, check_readable
from nipype_quicksilver.spatial.folders import complete_moves
from nipype_quicksilver.spatial.records import from_json

_REMEDY = "give the output folder of 'quicksilver register'"


def summary_file(registration: PathLike) -> Path:
    """Return the path of the summary of a registration.

    Parameters
    ----------
    registration : path-like
        Output folder of `quicksilver register`, or its ``summary.json``.

    Returns
    -------
    Path
        The file, which need not exist.

    Raises
    ------
    InputError
        If `registration` does not exist.
    """
    path = Path(registration)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such folder; {_REMEDY}")
    return path / FILES["summary"] if path.is_dir() else path


def read_summary(registration: PathLike) -> RegistrationSummary:
    """Read the summary of a registration.

    Parameters
    ----------
    registration : path-like
        Output folder of `quicksilver register`, or its ``summary.json``.

    Returns
    -------
    RegistrationSummary
        Keys that it does not have, as in the records of a cohort, are ignored.

    Raises
    ------
    InputError
        If there is no summary, or it is damaged or not that of a registration.
    """
    file = summary_file(registration)
    complete_moves(file.parent)
    if not file.exists():
        raise InputError(f"{registration}: contains no {file.name}; {_REMEDY}")
    check_readable(file, "summary")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: is not JSON; run 'quicksilver register' again") from error
    return from_json(RegistrationSummary, content, str(file), f"{_REMEDY}, written by this version")
