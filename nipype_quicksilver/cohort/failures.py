"""Failures of registrations: files that cannot be read, and Nipype's crash files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nipype_quicksilver.cohort.jobs import CohortOptions, Job
from nipype_quicksilver.cohort.progress import part_of
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.crashes import describe, is_lost
from nipype_quicksilver.spatial.files import check_readable

_NAME = re.compile(r"[\w-]+")  # of a workflow of Nipype
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
    crash_file : Path or None
        Nipype's crash file; None where no node failed.
    lost : bool
        Whether the node's batch job ended without a result, so that another attempt may succeed.
    """

    node: str
    reason: str
    crash_file: Path | None = None
    lost: bool = False


def input_failure(job: Job, chosen: CohortOptions) -> Failure | None:
    """Return the failure of a job that cannot be run because of its files.

    Parameters
    ----------
    job : Job
        The registration.
    chosen : CohortOptions
        How the image is registered.

    Returns
    -------
    Failure or None
        None if all files of the job can be opened, and Nipype accepts the names of its images.
    """
    try:
        for image in (job.moving, job.fixed):
            if image is None:
                continue
            if not _NAME.fullmatch(image.name):
                raise InputError(
                    f"{image.path}: the name has characters other than letters, digits, _ and -; "
                    "rename it as BIDS says"
                )
            for what, file in image.inputs().items():
                check_readable(file, what)
        for file in chosen.files():
            check_readable(file, "file")
    except InputError as error:
        return Failure("", str(error))
    return None


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
