"""Runs the workflow of a cohort, so that a run that was killed can be started again."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype_quicksilver.cohort.derivatives import is_whole
from nipype_quicksilver.cohort.failures import Failure, failure_of, lost_jobs, read_failures
from nipype_quicksilver.cohort.jobs import Job, Settings
from nipype_quicksilver.cohort.progress import Progress
from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution import resources
from nipype_quicksilver.execution.crashes import describe, nipype_is_silent
from nipype_quicksilver.execution.processes import forked_end_with_this

#: Jobs of one workflow at least: Nipype takes time that grows with the square of their number.
AT_ONCE = 200
#: How often a job whose batch job vanished is tried.
TRIES = 2
_SECONDS_TO_CANCEL = 60

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """How nodes are run.

    Attributes
    ----------
    plugin : str
        One of :data:`nipype_quicksilver.execution.resources.PLUGINS`.
    given : dict
        Arguments from the user's file.
    n_procs, mem_gb, n_gpus
        What all nodes together may use on this machine; memory in GB, None: nine tenths of it.
    work_dir, crash_dir : Path
        Nipype's working folder, and that of its crash files.
    verbose : bool
        Let Nipype say what it does.
    """

    plugin: str
    work_dir: Path
    crash_dir: Path
    given: dict[str, Any] = field(default_factory=dict)
    n_procs: int = 1
    mem_gb: float | None = None
    n_gpus: int = 0
    verbose: bool = False


def run(
    jobs: Sequence[Job],
    settings: Settings,
    output_dir: Path,
    build: Callable[[Sequence[Job]], Any],
    engine: Engine,
    progress: Progress,
) -> dict[str, Failure]:
    """Run jobs; those whose batch jobs vanished a second time.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done.
    settings : Settings
        How it is registered.
    output_dir : Path
        Folder of the derivatives.
    build : callable
        Returns the workflow of jobs.
    engine : Engine
        How nodes are run.
    progress : Progress
        Is told of every change.

    Returns
    -------
    dict
        Of each job that is not whole in the end, by its name: why.
    """
    start, left, error = time.time(), list(jobs), None
    for attempt in range(1, TRIES + 1):
        size = _batch_size(engine)
        for first in range(0, len(left), size):
            error = _run_once(build(left[first : first + size]), engine, progress) or error
        remaining = [job for job in jobs if not is_whole(job, settings, output_dir)]
        failures = read_failures(engine.crash_dir, start)
        left = lost_jobs(remaining, failures)
        if not left or attempt == TRIES:
            break
        _logger.warning("%d jobs ended without a result: they are started again", len(left))
        progress.again(left)
    why = "its files changed meanwhile" if error is None else f"not run: {describe(str(error))}"
    unknown = Failure("", why, engine.crash_dir, False)
    return {job.name: failure_of(job, failures) or unknown for job in remaining}


def _batch_size(engine: Engine) -> int:
    """Return how many jobs one workflow holds."""
    if engine.plugin == "Linear":
        return 1  # it takes the first step of all images before the second one of any
    slots = engine.n_procs
    if engine.plugin not in resources.LOCAL:
        slots = engine.given.get("max_jobs", resources.MAX_JOBS)
    return max(AT_ONCE, 4 * slots)


def check(workflow: Any, engine: Engine) -> None:
    """Refuse limits under which a node of a workflow could never run.

    Parameters
    ----------
    workflow : nipype Workflow
        Of one job; the others are like it.
    engine : Engine
        With the limits.

    Raises
    ------
    InputError
        If a node needs more.
    """
    if engine.plugin in resources.LOCAL:
        nodes = _nodes(workflow)
        resources.check_limits(nodes, n_procs=engine.n_procs, mem_gb=engine.mem_gb)


def _nodes(workflow: Any) -> list[Any]:
    return [workflow.get_node(name) for name in workflow.list_node_names()]


def _run_once(workflow: Any, engine: Engine, progress: Progress) -> Exception | None:
    """Run a workflow; return what Nipype raised."""
    workflow.base_dir = str(engine.work_dir)
    local = engine.plugin in resources.LOCAL
    workflow.config["execution"] = {
        **workflow.config.get("execution", {}),
        "crashdump_dir": str(engine.crash_dir),
        "crashfile_format": "txt",
        "poll_sleep_duration": "0.2" if local else "2",
        "job_finished_timeout": "10",
    }
    if not local:
        comment = f"--comment={_name(engine.work_dir)}" if engine.plugin == "SLURM" else ""
        resources.charge(_nodes(workflow), engine.plugin, engine.given, always=comment)
    arguments = resources.plugin_arguments(
        engine.plugin,
        engine.given,
        n_procs=engine.n_procs,
        mem_gb=engine.mem_gb,
        n_gpus=engine.n_gpus,
    )
    from nipype_quicksilver.cohort.plugins import make_plugin

    with nipype_is_silent(not engine.verbose):
        plugin = make_plugin(engine.plugin, {**arguments, "status_callback": progress})
        try:
            workflow.run(plugin=plugin)
        except Exception as error:
            # Nipype raises the first failure of a node again, of which its crash file tells.
            _logger.debug("Nipype: %s", error)
            return error
    return None


@contextlib.contextmanager
def alone(work_dir: Path) -> Iterator[None]:
    """Keep other runs off a working folder, and end what a killed one left behind.

    Parameters
    ----------
    work_dir : Path
        Made if needed.

    Raises
    ------
    InputError
        If another run uses it.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock = open(work_dir / ".lock", "a")  # noqa: SIM115 - held until the end
    except OSError as error:
        raise InputError(
            f"{work_dir}: no such folder can be made ({error.strerror}); give another --work-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{work_dir}: another run works there; wait for its end, or give another --work-dir"
            ) from error
        except OSError as error:
            _logger.warning("%s: cannot be locked (%s): start one run only", work_dir, error)
        with forked_end_with_this():
            yield


def cancel_leftovers(work_dir: Path) -> None:
    """Cancel the SLURM jobs of a run that was killed, and wait until they are gone.

    Parameters
    ----------
    work_dir : Path
        Working folder of the run, by which its jobs are known.

    Raises
    ------
    QuicksilverError
        If SLURM does not answer, or the jobs do not end.
    """
    deadline = time.monotonic() + _SECONDS_TO_CANCEL
    while jobs := _slurm_jobs(work_dir):
        if time.monotonic() > deadline:
            raise QuicksilverError(f"SLURM job {jobs[0]} of an earlier run does not end; cancel it")
        _ask("scancel", *jobs)
        time.sleep(1)


def _slurm_jobs(work_dir: Path) -> list[str]:
    listed = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i %k")
    pairs = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [pair[0] for pair in pairs if pair[1:] == [_name(work_dir)]]


def _ask(*command: str) -> str:
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


def _name(work_dir: Path) -> str:
    """Return what stands for a working folder in the comment of a SLURM job."""
    return f"quicksilver_{hashlib.sha256(os.fsencode(work_dir.absolute())).hexdigest()[:16]}"


def clean(work_dir: Path, workflow_name: str, part: str) -> None:
    """Remove the intermediate files of a part whose results are whole."""
    shutil.rmtree(work_dir / workflow_name / part, ignore_errors=True)
