"""Progress of a cohort: images done, running and failed, and the time left."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nipype_quicksilver.cohort.jobs import FIXED, Job


@dataclass(frozen=True)
class Status:
    """Status of a cohort.

    Attributes
    ----------
    total, done, failed : int
        Number of all registrations, of complete ones, and of those that cannot be finished.
    running : int
        Number of parts that run, or wait in a batch system.
    seconds_left : float
        Estimated from the registrations done so far; infinite before the first one.
    """

    total: int
    done: int
    failed: int
    running: int
    seconds_left: float


class Progress:
    """Counts the nodes of a cohort; called by Nipype.

    Parameters
    ----------
    jobs : iterable of Job
        Registrations that are run.
    done : int
        Number of further registrations that were complete before.
    show : callable, optional
        Called with the :class:`Status` whenever it changes.
    unneeded : callable, optional
        Called with the name of a part when all registrations that need it are done.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        *,
        done: int = 0,
        show: Callable[[Status], object] = lambda status: None,
        unneeded: Callable[[str], object] = lambda part: None,
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._needing: dict[str, set[str]] = defaultdict(set)
        for job in self._jobs.values():
            for part in job.parts:
                self._needing[part].add(job.name)
        self._before, self._show, self._unneeded = done, show, unneeded
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._active: dict[str, int] = defaultdict(int)
        self._start = time.monotonic()

    def retry(self, jobs: Iterable[Job]) -> None:
        """Count jobs that failed as not finished: they are started again."""
        self._failed -= {job.name for job in jobs}
        self._active.clear()

    def fail(self, names: Iterable[str]) -> None:
        """Count jobs as failed that are not started."""
        self._failed |= set(names)
        self._show(self.status)

    def __call__(self, node: Any, event: str) -> None:
        """Count an event of a node: ``start``, ``end`` or ``exception``."""
        part = part_of(node.fullname)
        if event == "start":
            self._active[part] += 1
        else:
            self._active[part] = max(self._active[part] - 1, 0)
        if event == "exception":
            self._failed |= self._needing[part] - self._done
        # Nipype's Linear plugin also reports the end of nodes that it skips after a failure.
        elif event == "end" and node.name == "save" and part not in self._done | self._failed:
            self._done.add(part)
            for name in set(self._jobs[part].parts) - {FIXED}:
                if self._needing[name] <= self._done:
                    self._unneeded(name)
        self._show(self.status)

    @property
    def status(self) -> Status:
        """The status now."""
        done, failed = len(self._done), len(self._failed)
        left = len(self._jobs) - done - failed
        seconds = (time.monotonic() - self._start) / done * left if done else math.inf
        return Status(
            total=self._before + len(self._jobs),
            done=self._before + done,
            failed=failed,
            running=sum(count > 0 for count in self._active.values()),
            seconds_left=seconds if left else 0.0,
        )


def part_of(fullname: str) -> str:
    """Return the part of a cohort's workflow to which a node belongs.

    Examples
    --------
    >>> part_of("cohort_wf.sub-01.brain_extraction_wf.extract")
    'sub-01'
    """
    return fullname.split(".")[1]
