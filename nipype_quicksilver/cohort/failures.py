"""Why registrations failed, as Nipype's crash files tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nipype_quicksilver.cohort.jobs import Job
from nipype_quicksilver.cohort.progress import part_of

_NODE = re.compile(r"^Node: (\S+)$", re.MULTILINE)
_OF_COMMAND = re.compile(r"quicksilver: error: (.*)$", re.MULTILINE)
_SIGNAL = re.compile(r"-9|137")
# Before the message of our own errors, which say all that there is to say.
_OURS = re.compile(r"^nipype_quicksilver\.errors\.\w+: ")
# What Nipype says where a batch job left nothing behind.
_WITHOUT_RESULT = "results file does not exist"
_LOST = "its job ended without a result: cancelled, out of memory, or out of time"


@dataclass(frozen=True)
class Failure:
    """Why a part of a cohort could not be finished.

    Attributes
    ----------
    node : str
        Full name of the node that failed.
    reason : str
        One line.
    crash_file : Path
        Nipype's account.
    lost : bool
        Whether the node's batch job vanished, so that trying again may help.
    """

    node: str
    reason: str
    crash_file: Path
    lost: bool


def read_failures(folder: Path, since: float) -> dict[str, Failure]:
    """Read the crash files that are newer than a time.

    Parameters
    ----------
    folder : Path
        Folder of crash files.
    since : float
        Seconds since the epoch.

    Returns
    -------
    dict
        By the name of the part of the workflow; of several the latest.
    """
    files = [path for path in folder.glob("crash-*.txt") if path.stat().st_mtime >= since]
    found = {}
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        text = path.read_text(encoding="utf-8", errors="replace")
        node = _NODE.search(text)
        if node is not None:
            reason = describe(text)
            found[part_of(node[1])] = Failure(node[1], reason, path, reason == _LOST)
    return found


def describe(text: str) -> str:
    r"""Return the reason that a crash file gives, in one line.

    Examples
    --------
    >>> describe("Stderr:\n\tquicksilver: error: a.nii: is empty\nTraceback:\n\tRuntimeError: x")
    'a.nii: is empty'
    >>> describe("Traceback (most recent call last):\n  ...\nOSError: No space left on device\n\n")
    'OSError: No space left on device'
    """
    if _WITHOUT_RESULT in text:
        return _LOST
    of_command = _OF_COMMAND.findall(text)
    if of_command:
        return of_command[-1].strip()
    code = re.search(r"return ?code[: ]+(-?\d+)", text, re.IGNORECASE)
    if code is not None and _SIGNAL.fullmatch(code[1]):
        return "its process was killed, probably for want of memory"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _OURS.sub("", lines[-1]) if lines else "the crash file is empty"


def failure_of(job: Job, failures: dict[str, Failure]) -> Failure | None:
    """Return the failure on account of which a job could not be finished."""
    return next((failures[part] for part in job.parts if part in failures), None)


def lost_jobs(jobs: Iterable[Job], failures: dict[str, Failure]) -> list[Job]:
    """Return the jobs that failed because a batch job vanished."""
    found = [(job, failure_of(job, failures)) for job in jobs]
    return [job for job, failure in found if failure is not None and failure.lost]
