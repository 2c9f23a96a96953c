"""Running the workflow of a cohort, so that an interrupted run can be resumed."""

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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype_quicksilver.cohort.derivatives import Place, is_complete, prepare
from nipype_quicksilver.cohort.failures import Failure, failure_of, lost_jobs, read_failures
from nipype_quicksilver.cohort.jobs import CohortOptions, Job
from nipype_quicksilver.cohort.progress import Progress, Status
from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution import gpus, resources
from nipype_quicksilver.execution.crashes import describe, quiet_nipype
from nipype_quicksilver.execution.processes import forked_end_with_this

#: Name of the workflow of a cohort.
WORKFLOW = "cohort_wf"
#: Jobs of one workflow, at least: Nipype's time grows with the square of their number.
MIN_BATCH = 200
#: How often a job is started whose batch job ends without a result.
ATTEMPTS = 2
_SECONDS_TO_CANCEL = 60

_logger = logging.getLogger(__name__)

Build = Callable[..., Any]


@dataclass(frozen=True)
class RunOptions:
    """How Nipype runs the nodes.

    Attributes
    ----------
    plugin : str
        One of :data:`nipype_quicksilver.execution.resources.PLUGINS`.
    work_dir, crash_dir : Path
        Folders of Nipype's intermediate files and of its crash files.
    plugin_args : dict
        Arguments of the plugin, as the user gave them.
    n_procs, mem_gb, n_gpus
        Processors, memory (GB) and GPUs of all nodes together on this machine; memory None: nine
        tenths of it.
    verbose : bool
        Show Nipype's own messages.
    """

    plugin: str
    work_dir: Path
    crash_dir: Path
    plugin_args: dict[str, Any] = field(default_factory=dict)
    n_procs: int = 1
    mem_gb: float | None = None
    n_gpus: int = 0
    verbose: bool = False


def run_missing(
    jobs: Sequence[Job],
    chosen: CohortOptions,
    place: Place,
    build: Build,
    options: RunOptions,
    display: AbstractContextManager[Callable[[Status], object]],
) -> dict[str, Failure]:
    """Run the jobs of a cohort whose derivatives are not complete yet.

    Parameters
    ----------
    jobs : sequence of Job
        All jobs of the cohort.
    chosen : CohortOptions
        How the images are registered.
    place : Place
        Folders of the derivatives and of the images.
    build : callable
        Called with a sequence of `jobs`, returns their workflow.
    options : RunOptions
        How nodes are run.
    display : context manager
        Gives a function to be called with the status of the cohort whenever it changes; entered
        when the run begins.

    Returns
    -------
    dict
        The failure of each job whose derivatives are not complete in the end, by its name.

    Raises
    ------
    InputError, QuicksilverError
        If the working folder or SLURM cannot be used.
    """
    with exclusive(options.work_dir):
        if options.plugin == "SLURM":
            cancel_leftovers(options.work_dir)
        prepare(place, jobs)
        missing = [job for job in jobs if not is_complete(job, chosen, place.output_dir)]
        done = len(jobs) - len(missing)
        _logger.info("%d to register, %d done already", len(missing), done)
        if not missing:
            return {}
        with _shared_gpus(options), display as show:
            progress = Progress(
                missing,
                done=done,
                show=show,
                unneeded=lambda part: _remove_intermediate_files(options.work_dir, part),
            )
            return run(missing, chosen, place.output_dir, build, options, progress)


def _shared_gpus(options: RunOptions) -> AbstractContextManager[None]:
    """Return a context in which the nodes on this machine share its GPUs."""
    if options.n_gpus == 0 or options.plugin not in resources.LOCAL:
        return nullcontext()
    return gpus.shared(resources.visible_gpus()[: options.n_gpus])


def run(
    jobs: Sequence[Job],
    chosen: CohortOptions,
    output_dir: Path,
    build: Build,
    options: RunOptions,
    progress: Progress,
) -> dict[str, Failure]:
    """Run jobs; those whose batch jobs end without a result are run a second time.

    Parameters
    ----------
    jobs : sequence of Job
        What to register.
    chosen : CohortOptions
        How the images are registered.
    output_dir : Path
        Folder of the derivatives.
    build : callable
        Called with a sequence of `jobs`, returns their workflow.
    options : RunOptions
        How nodes are run.
    progress : Progress
        Called at each start and end of a node.

    Returns
    -------
    dict
        The failure of each job whose derivatives are not complete in the end, by its name.
    """
    start, todo, error = time.time(), list(jobs), None
    for attempt in range(1, ATTEMPTS + 1):
        size = _batch_size(options)
        for first in range(0, len(todo), size):
            error = _run_once(build(jobs=todo[first : first + size]), options, progress) or error
        remaining = [job for job in jobs if not is_complete(job, chosen, output_dir)]
        failures = read_failures(options.crash_dir, start)
        todo = lost_jobs(remaining, failures)
        if not todo or attempt == ATTEMPTS:
            break
        _logger.warning("%d jobs ended without a result: they are started again", len(todo))
        progress.retry(todo)
    reason = "its files changed meanwhile" if error is None else f"not run: {describe(str(error))}"
    unknown = Failure("", reason, options.crash_dir, False)
    return {job.name: failure_of(job, failures) or unknown for job in remaining}


def _batch_size(options: RunOptions) -> int:
    """Return the number of jobs of one workflow."""
    if options.plugin == "Linear":
        return 1  # it runs the first step of all images before the second one of any
    slots = options.n_procs
    if options.plugin not in resources.LOCAL:
        slots = options.plugin_args.get("max_jobs", resources.MAX_JOBS)
    return max(MIN_BATCH, 4 * slots)


def check_limits(workflow: Any, options: RunOptions) -> None:
    """Refuse limits under which a node of a workflow could never run.

    Parameters
    ----------
    workflow : nipype Workflow
        The workflow of one job; those of the others have the same nodes.
    options : RunOptions
        With the limits.

    Raises
    ------
    InputError
        If a node needs more.
    """
    if options.plugin in resources.LOCAL:
        nodes = _nodes(workflow)
        resources.check_limits(nodes, n_procs=options.n_procs, mem_gb=options.mem_gb)


def _nodes(workflow: Any) -> list[Any]:
    return [workflow.get_node(name) for name in workflow.list_node_names()]


def _run_once(workflow: Any, options: RunOptions, progress: Progress) -> Exception | None:
    """Run a workflow; return the error that Nipype raised, if any."""
    from nipype_quicksilver.cohort.plugins import make_plugin

    workflow.base_dir = str(options.work_dir)
    local = options.plugin in resources.LOCAL
    workflow.config["execution"] = {
        **workflow.config.get("execution", {}),
        "crashdump_dir": str(options.crash_dir),
        "crashfile_format": "txt",
        "poll_sleep_duration": "0.2" if local else "2",
        "job_finished_timeout": "10",
    }
    if not local:
        comment = f"--comment={_job_comment(options.work_dir)}" if options.plugin == "SLURM" else ""
        resources.set_job_arguments(
            _nodes(workflow), options.plugin, options.plugin_args, always=comment
        )
    arguments = resources.plugin_arguments(
        options.plugin,
        options.plugin_args,
        n_procs=options.n_procs,
        mem_gb=options.mem_gb,
        n_gpus=options.n_gpus,
    )
    with quiet_nipype(verbose=options.verbose):
        plugin = make_plugin(options.plugin, {**arguments, "status_callback": progress})
        try:
            workflow.run(plugin=plugin)
        except Exception as error:
            # Nipype raises the first failure of a node again; its crash file describes it.
            _logger.debug("Nipype: %s", error)
            return error
    return None


@contextlib.contextmanager
def exclusive(work_dir: Path) -> Iterator[None]:
    """Lock a working folder within the block; forked processes end with this one.

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
            f"{work_dir}: cannot be created ({error.strerror}); give another --work-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{work_dir}: another run uses this folder; wait for its end, or give another "
                "--work-dir"
            ) from error
        except OSError as error:
            _logger.warning("%s: cannot be locked (%s): start one run only", work_dir, error)
        with forked_end_with_this():
            yield


def cancel_leftovers(work_dir: Path) -> None:
    """Cancel the SLURM jobs that a killed run left, and wait until they have ended.

    Parameters
    ----------
    work_dir : Path
        Working folder of the run, which identifies its jobs.

    Raises
    ------
    QuicksilverError
        If SLURM does not answer, or the jobs do not end.
    """
    deadline = time.monotonic() + _SECONDS_TO_CANCEL
    while jobs := _slurm_jobs(work_dir):
        if time.monotonic() > deadline:
            raise QuicksilverError(f"SLURM job {jobs[0]} of an earlier run does not end; cancel it")
        _run_slurm("scancel", *jobs)
        time.sleep(1)


def _slurm_jobs(work_dir: Path) -> list[str]:
    listed = _run_slurm("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i %k")
    pairs = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [pair[0] for pair in pairs if pair[1:] == [_job_comment(work_dir)]]


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


def _job_comment(work_dir: Path) -> str:
    """Return the comment of the SLURM jobs of a working folder."""
    return f"quicksilver_{hashlib.sha256(os.fsencode(work_dir.absolute())).hexdigest()[:16]}"


def _remove_intermediate_files(work_dir: Path, part: str) -> None:
    """Remove the intermediate files of a part of the workflow whose results are complete."""
    shutil.rmtree(work_dir / WORKFLOW / part, ignore_errors=True)
