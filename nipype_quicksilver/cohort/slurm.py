"""Programs of SLURM: jobs of killed runs, and the states in which jobs ended."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from nipype_quicksilver.errors import InputError, QuicksilverError

_COMMENT = "quicksilver_"  # begin of the comments of jobs
_SECONDS_TO_CANCEL = 60


def cancel_leftovers(*folders: Path) -> None:
    """Cancel the SLURM jobs that a killed run left, and wait until they have ended.

    Parameters
    ----------
    *folders : Path
        Folder of the derivatives and working folder: jobs that use one of them are cancelled.

    Raises
    ------
    QuicksilverError
        If SLURM does not answer, or the jobs do not end.
    """
    deadline = time.monotonic() + _SECONDS_TO_CANCEL
    while jobs := _slurm_jobs(folders):
        if time.monotonic() > deadline:
            raise QuicksilverError(f"SLURM job {jobs[0]} of an earlier run does not end; cancel it")
        _run_slurm("scancel", *jobs)
        time.sleep(1)


def _slurm_jobs(folders: Iterable[Path]) -> list[str]:
    listed = _run_slurm("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i %k")
    pairs = [line.split(maxsplit=1) for line in listed.splitlines()]
    names = _folder_names(folders)
    return [
        pair[0]
        for pair in pairs
        if len(pair) == 2
        and pair[1].startswith(_COMMENT)
        and not names.isdisjoint(pair[1].removeprefix(_COMMENT).split("_"))
    ]


def _run_slurm(*command: str) -> str:
    """Run a program of SLURM; return what it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise InputError(
            f"{command[0]}: no such program; run on a machine that submits to SLURM, or choose "
            "another --plugin"
        ) from error
    except subprocess.CalledProcessError as error:
        raise QuicksilverError(f"{command[0]} failed: {error.stderr.strip()}") from error
    return done.stdout


def comment(*folders: Path) -> str:
    """Return the argument of ``sbatch`` that says which folders a job uses."""
    return f"--comment={_COMMENT}{'_'.join(sorted(_folder_names(folders)))}"


def end_of(job: int) -> str:
    """Return the state in which a job ended, such as ``TIMEOUT``; SLURM forgets it in minutes."""
    try:
        listed = _run_slurm("scontrol", "show", "job", str(job))
    except QuicksilverError:
        return "unknown"
    state = re.search(r"JobState=(\w+)", listed)
    return state[1] if state else "unknown"


def _folder_names(folders: Iterable[Path]) -> set[str]:
    """Return what the comment of a SLURM job says for each folder that it uses."""
    names = (os.fsencode(folder.absolute()) for folder in folders)
    return {hashlib.sha256(name).hexdigest()[:16] for name in names}
