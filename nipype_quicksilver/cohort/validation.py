"""The BIDS validator, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAM = "bids-validator-deno"


def find_validator() -> str | None:
    """Return the validator's program, that of this environment first; None if there is none."""
    beside = Path(sys.executable).parent / _PROGRAM
    return str(beside) if beside.exists() else shutil.which(_PROGRAM)


def validate(folder: Path) -> list[str] | None:
    """Check a data set against BIDS.

    Parameters
    ----------
    folder : Path
        The data set.

    Returns
    -------
    list of str or None
        The errors, a line for each; None where the validator is not installed or does not run.
    """
    program = find_validator()
    if program is None:
        return None
    command = [program, "--format", "json", "--ignoreWarnings", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        issues = json.loads(done.stdout)["issues"]["issues"]
    except (OSError, ValueError, KeyError):
        return None
    return [_line(issue) for issue in issues if issue.get("severity") == "error"]


def _line(issue: dict[str, Any]) -> str:
    parts = (issue.get("location"), issue.get("code"), issue.get("subCode"))
    return " ".join(part for part in parts if part)
