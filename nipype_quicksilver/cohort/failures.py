"""Failures of registrations, read from Nipype's crash files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nipype_quicksilver.cohort.jobs import Job
from nipype_quicksilver.cohort.progress import part_of
from nipype_quicksilver.execution.crashes import describe, is_lost

_NODE = re.compile(r"^Node: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Failure:
    """The failure of a part of a cohort.

    Attributes
    ----------
    node : str
        Full name of the node that failed.
    reason : str
        Why it failed, in one line.
    crash_file : Path
        Nipype's crash file.
    lost : bool
        Whether the node's batch job ended without a result, so that another attempt may succeed.
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
        The latest failure of each part of the workflow, by the part's name.
    """
    files = [path for path in folder.glob("crash-*.txt") if path.stat().st_mtime >= since]
    failures = {}
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        text = path.read_text(encoding="utf-8", errors="replace")
        node = _NODE.search(text)
        if node is not None:
            failures[part_of(node[1])] = Failure(node[1], describe(text), path, is_lost(text))
    return failures


def failure_of(job: Job, failures: dict[str, Failure]) -> Failure | None:
    """Return the failure because of which a job could not be finished."""
    return next((failures[part] for part in job.parts if part in failures), None)


def lost_jobs(jobs: Iterable[Job], failures: dict[str, Failure]) -> list[Job]:
    """Return the jobs that failed because a batch job ended without a result."""
    pairs = [(job, failure_of(job, failures)) for job in jobs]
    return [job for job, failure in pairs if failure is not None and failure.lost]
