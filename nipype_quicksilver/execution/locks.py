"""Locks of folders, on shared file systems too: one run at a time writes into a folder.

A lock is a file in the folder. It says who holds it, is kept alive by its holder, and is taken over
when its holder is gone; neither needs the locks of the file system, which shared ones often lack.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import SoftFileLease, Timeout

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution.signals import deferred

#: Name of the lock file, and of the file that says what its holder does.
LOCK = ".quicksilver-lock"
HOLDER = f"{LOCK}.json"
#: Seconds without a sign of life after which a holder on another host counts as gone. Holders of
#: the same host are gone as soon as their process is.
LIFETIME = 120.0

_HEARTBEAT = 20.0  # seconds between two signs of life
_AT_ONCE = 0.5  # seconds in which a free lock, or that of a process that is gone, is taken
_PAUSE = 0.5  # seconds between two attempts of a run that waits
# Variables in which batch systems put the id of a job.
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")

_logger = logging.getLogger(__name__)


class Lock:
    """A lock that is held; see :func:`locked`.

    Parameters
    ----------
    folder : Path
        The locked folder.
    lease : SoftFileLease
        Its lock file.
    """

    def __init__(self, folder: Path, lease: SoftFileLease) -> None:
        self.folder = folder
        self._lease = lease

    def check(self) -> None:
        """Raise an error if the lock was lost, before something is changed in the folder.

        Raises
        ------
        QuicksilverError
            If the lock file was removed, or another run took it over because this one was
            suspended for longer than :data:`LIFETIME`.
        """
        if self._lease.compromise is not None or not self._lease.is_lock_held_by_us:
            raise QuicksilverError(
                f"{self.folder}: another run has taken over this folder; nothing was written, "
                "run again"
            )


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, waits: bool = True) -> Iterator[Lock]:
    """Hold the lock of a folder within the block.

    A thread may lock a folder again that it has locked; other threads and processes may not.

    Parameters
    ----------
    folder : path-like
        Created if needed; a created folder that is still empty at the end is removed again.
    waits : bool
        Wait while another run holds the lock, and say for whom in one line; otherwise refuse.

    Yields
    ------
    Lock
        The lock.

    Raises
    ------
    InputError
        If another run holds the lock and `waits` is false.
    OSError
        If the folder cannot be created or written to.
    """
    folder = Path(folder).resolve()
    created: list[Path] = []
    try:
        lease = _acquire(folder, waits, created)
        try:
            if lease.lock_counter == 1:
                with contextlib.suppress(OSError):
                    text = json.dumps(_description()) + "\n"
                    (folder / HOLDER).write_text(text, encoding="utf-8")
            yield Lock(folder, lease)
        finally:
            with deferred():
                _release(folder, lease)
    finally:
        for path in reversed(created):
            with contextlib.suppress(OSError):  # it has files
                path.rmdir()


def _acquire(folder: Path, waits: bool, created: list[Path]) -> SoftFileLease:
    """Take the lock; add the folders that had to be created to a list."""
    lease = SoftFileLease(
        folder / LOCK, lease_duration=LIFETIME, heartbeat_interval=_HEARTBEAT, is_singleton=True
    )
    timeout = _AT_ONCE
    while True:
        created += _create(folder)
        try:
            lease.acquire(timeout=timeout, poll_interval=_AT_ONCE / 10 if timeout > 0 else _PAUSE)
            break
        except FileNotFoundError:  # its last holder failed, and removed the folder
            continue
        except Timeout as error:
            if not waits:
                raise InputError(
                    f"{folder}: {_holder(folder, lease)}; wait until it has ended, or choose "
                    "another folder"
                ) from error
            _logger.warning("%s: %s; waiting until it has ended", folder, _holder(folder, lease))
            timeout = -1.0  # without end
    return lease


def _release(folder: Path, lease: SoftFileLease) -> None:
    if lease.lock_counter == 1 and lease.is_lock_held_by_us:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
    lease.release()


def _create(folder: Path) -> list[Path]:
    """Create a folder; return it and its parents as far as they did not exist, top first."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _description() -> dict[str, str | int]:
    """Return what others should know about this process."""
    job = next((f"{name}={os.environ[name]}" for name in _JOBS if name in os.environ), "")
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "since": since, "job": job, "command": " ".join(sys.argv)}


def _holder(folder: Path, lease: SoftFileLease) -> str:
    """Say who holds the lock, as far as it is known."""
    owner = lease.owner
    if owner is None:
        return f"another run holds {LOCK}"
    text = f"process {owner.pid} on {owner.hostname} writes into it"
    try:
        known = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        if known["pid"] != owner.pid:
            return text
        job = f", {known['job']}" if known["job"] else ""
        return f"{text} since {known['since']} ({known['command']}{job})"
    except (OSError, ValueError, KeyError, TypeError):  # not yet written, or gone
        return text
