"""The BIDS validator, where it is installed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from nipype_quicksilver.spatial.records import parse_json

_PROGRAM = "bids-validator-deno"

_logger = logging.getLogger(__name__)


def find_validator() -> str | None:
    """Return the path of the validator, first in this Python environment; None if not installed."""
    own = Path(sys.executable).parent / _PROGRAM
    return str(own) if own.exists() else shutil.which(_PROGRAM)


def validate(folder: Path) -> list[str] | None:
    """Check a data set against BIDS.

    Parameters
    ----------
    folder : Path
        The data set.

    Returns
    -------
    list of str or None
        One line for each error; None if the validator is not installed or does not run.
    """
    program = find_validator()
    if program is None:
        return None
    command = [program, "--format", "json", "--ignoreWarnings", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        issues = parse_json(done.stdout)["issues"]["issues"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return [_line(issue) for issue in issues if issue.get("severity") == "error"]


def log_errors(folder: Path) -> None:
    """Log the errors that :func:`validate` finds in a data set."""
    errors = validate(folder)
    if errors is None:
        _logger.info(
            "derivatives not validated: install the validator with pip install "
            "'nipype-quicksilver[bids]'"
        )
    elif errors:
        _logger.warning("BIDS validator: %d errors, first %s", len(errors), errors[0])
    else:
        _logger.info("BIDS validator: no errors")


def _line(issue: dict[str, Any]) -> str:
    parts = (issue.get("location"), issue.get("code"), issue.get("subCode"))
    return " ".join(part for part in parts if part)
