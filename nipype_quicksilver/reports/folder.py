"""The folder of a registration, as `quicksilver register` writes it, read and checked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.spatial.files import PathLike, check_readable

_REGISTER = "give the output folder of 'quicksilver register'"
# What every summary of a registration has; those of other commands lack some of it.
_NEEDED = ("versions", "inputs", "parameters", "working_grid", "affine_matrix", "preprocessing")
_NUMBERS = (
    ("similarity", ("before", "after")),
    ("jacobian", ("voxels", "folded", "folded_percent", "minimum")),
    ("inverse_consistency_mm", ("mean", "p99", "max")),
    ("seconds", ("total",)),
)


def summary_file(registration: PathLike) -> Path:
    """Return the summary of a registration: of its folder, or the file itself.

    Parameters
    ----------
    registration : path-like
        A folder of `quicksilver register`, or its ``summary.json``.

    Returns
    -------
    Path
        The file, which need not exist.

    Raises
    ------
    InputError
        If there is nothing of that name.
    """
    path = Path(registration)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such folder; {_REGISTER}")
    return path / FILES["summary"] if path.is_dir() else path


def read_summary(registration: PathLike) -> dict[str, Any]:
    """Read the summary of a registration.

    Parameters
    ----------
    registration : path-like
        A folder of `quicksilver register`, or its ``summary.json``.

    Returns
    -------
    dict
        As :class:`nipype_quicksilver.registration.Registration` has it.

    Raises
    ------
    InputError
        If there is no summary, or it is not that of a registration.
    """
    file = summary_file(registration)
    if not file.exists():
        raise InputError(f"{registration}: holds no {file.name}; {_REGISTER}")
    check_readable(file, "summary")
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: is no JSON; run 'quicksilver register' again") from error
    lacking = _lacking(summary)
    if lacking:
        raise InputError(
            f"{file}: has no {lacking}, so it is not of a registration by this version; {_REGISTER}"
        )
    return dict(summary)


def _lacking(summary: Any) -> str | None:
    """Return what is missing in a summary, None where it is complete."""
    if not isinstance(summary, dict):
        return "named values"
    for name in _NEEDED:
        if name not in summary:
            return f"'{name}'"
    for name, numbers in _NUMBERS:
        part = summary.get(name)
        for number in numbers:
            if not isinstance(part, dict) or not isinstance(part.get(number), int | float):
                return f"number '{name}.{number}'"
    return None
