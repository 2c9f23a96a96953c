"""Running the workflow of a cohort, so that an interrupted run can be resumed."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from traits.api import TraitError

from nipype_quicksilver.cohort.derivatives import Place, prepare
from nipype_quicksilver.cohort.failures import (
    Failure,
    failure_of,
    input_failure,
    lost_jobs,
    read_failures,
)
from nipype_quicksilver.cohort.jobs import CohortOptions, Job
from nipype_quicksilver.cohort.progress import Progress, Status
from nipype_quicksilver.cohort.records import check_same_fixed, is_complete
from nipype_quicksilver.cohort.slurm import cancel_leftovers, comment
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution import gpus, resources
from nipype_quicksilver.execution.crashes import describe, quiet_nipype
from nipype_quicksilver.execution.interrupts import interrupts_raised
from nipype_quicksilver.execution.locks import locked
from nipype_quicksilver.execution.private import private_folder
from nipype_quicksilver.execution.processes import descendants_end_first, forked_end_with_this

#: Name of the workflow of a cohort.
WORKFLOW = "cohort_wf"
#: Jobs of one workflow, at least: Nipype's time grows with the square of their number.
MIN_BATCH = 200
#: How often a job is started whose batch job ends without a result.
ATTEMPTS = 2
# Characters of a path that neither a shell nor SLURM replaces.
_PLAIN = re.compile(r"[\w./+=,@:-]+")

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
    if options.plugin not in resources.LOCAL:
        _check_batch_folder(options.work_dir)
    private_folder(options.work_dir, place.output_dir)
    with _alone(place.output_dir, "OUT"), _alone(options.work_dir, "--work-dir"):
        if options.plugin == "SLURM":
            cancel_leftovers(options.work_dir, place.output_dir)
        for job in jobs:
            check_same_fixed(job, chosen, place.output_dir)
        prepare(place)
        missing = _incomplete(jobs, chosen, place.output_dir, options)
        done = len(jobs) - len(missing)
        _logger.info("%d to register, %d done already", len(missing), done)
        if not missing:
            return {}
        with forked_end_with_this(), _shared_gpus(options), display as show:
            progress = Progress(
                missing,
                done=done,
                show=show,
                unneeded=lambda part: _remove_intermediate_files(options.work_dir, part),
            )
            return run(missing, chosen, place.output_dir, build, options, progress)


def _check_batch_folder(folder: Path) -> None:
    """Refuse a working folder whose name would be something else in the commands of a batch system.

    Nipype submits jobs by a shell, and does not quote the names of scripts.
    """
    if not _PLAIN.fullmatch(str(folder)):
        raise InputError(
            f"{folder}: batch systems need a working folder without spaces and special characters "
            "in its name; give another --work-dir"
        )


@contextlib.contextmanager
def _alone(folder: Path, option: str) -> Iterator[None]:
    """Hold the lock of a folder within the block.

    Raises
    ------
    InputError
        If another run holds it, or it cannot be written.
    """
    try:
        with locked(folder, waits=False):
            yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be locked ({error.strerror}); give another {option}"
        ) from error


def _incomplete(
    jobs: Sequence[Job], chosen: CohortOptions, output_dir: Path, options: RunOptions
) -> list[Job]:
    """Return the jobs whose derivatives are not complete; files are read in parallel."""
    with ThreadPoolExecutor(options.n_procs) as pool:
        complete = pool.map(lambda job: is_complete(job, chosen, output_dir), jobs)
        return [job for job, whole in zip(jobs, complete, strict=True) if not whole]


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
    broken: dict[str, Failure] = {}
    for attempt in range(1, ATTEMPTS + 1):
        size = _batch_size(options)
        for first in range(0, len(todo), size):
            workflow = _build_usable(build, todo[first : first + size], chosen, broken)
            progress.fail(broken)
            if workflow is not None:
                error = _run_once(workflow, output_dir, options, progress) or error
        remaining = _incomplete(jobs, chosen, output_dir, options)
        failures = read_failures(options.crash_dir, start)
        todo = lost_jobs(remaining, failures)
        if not todo or attempt == ATTEMPTS:
            break
        _logger.warning("%d jobs ended without a result: they are started again", len(todo))
        progress.retry(todo)
    reason = "its files changed meanwhile" if error is None else f"not run: {describe(str(error))}"
    return {
        job.name: broken.get(job.name)
        or input_failure(job, chosen)
        or failure_of(job, failures)
        or Failure("", reason, options.crash_dir)
        for job in remaining
    }


def _build_usable(
    build: Build, jobs: Sequence[Job], chosen: CohortOptions, broken: dict[str, Failure]
) -> Any | None:
    """Build the workflow of the jobs whose files can be read; add the others to `broken`.

    Returns
    -------
    nipype Workflow or None
        None if there are none.
    """
    while True:
        for job in jobs:
            if failure := input_failure(job, chosen):
                broken[job.name] = failure
        usable = [job for job in jobs if job.name not in broken]
        if not usable:
            return None
        try:
            return build(jobs=usable)
        except TraitError:  # what Nipype raises for a file that has just vanished
            if not any(input_failure(job, chosen) for job in usable):
                raise


def _batch_size(options: RunOptions) -> int:
    """Return the number of jobs of one workflow."""
    if options.plugin == "Linear":
        return 1  # it runs the first step of all images before the second one of any
    slots = options.n_procs
    if options.plugin not in resources.LOCAL:
        slots = options.plugin_args.get("max_jobs", resources.MAX_JOBS)
    return max(MIN_BATCH, 4 * slots)


def check(build: Build, jobs: Sequence[Job], chosen: CohortOptions, options: RunOptions) -> None:
    """Refuse a cohort none of whose jobs can be run.

    Parameters
    ----------
    build : callable
        Called with a sequence of `jobs`, returns their workflow.
    jobs : sequence of Job
        All jobs of the cohort; their workflows have the same nodes.
    chosen : CohortOptions
        How the images are registered.
    options : RunOptions
        How nodes are run.

    Raises
    ------
    InputError
        If no image can be read, or if a node needs more than the limits of all nodes together.
    """
    failures = ((job, input_failure(job, chosen)) for job in jobs)
    usable = next((job for job, failure in failures if failure is None), None)
    if usable is None:
        first = input_failure(jobs[0], chosen)
        assert first is not None
        raise InputError(f"no image can be registered; the first one: {first.reason}")
    workflow = build(jobs=[usable])
    if options.plugin in resources.LOCAL:
        resources.check_limits(_nodes(workflow), n_procs=options.n_procs, mem_gb=options.mem_gb)


def _nodes(workflow: Any) -> list[Any]:
    return [workflow.get_node(name) for name in workflow.list_node_names()]


def _run_once(
    workflow: Any, output_dir: Path, options: RunOptions, progress: Progress
) -> Exception | None:
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
        used = comment(options.work_dir, output_dir) if options.plugin == "SLURM" else ""
        resources.set_job_arguments(
            _nodes(workflow), options.plugin, options.plugin_args, always=used
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
            with descendants_end_first(), interrupts_raised():
                workflow.run(plugin=plugin)
        except Exception as error:
            # Nipype raises the first failure of a node again; its crash file describes it.
            _logger.debug("Nipype: %s", error)
            return error
    return None


def _remove_intermediate_files(work_dir: Path, part: str) -> None:
    """Remove the intermediate files of a part of the workflow whose results are complete."""
    shutil.rmtree(work_dir / WORKFLOW / part, ignore_errors=True)
