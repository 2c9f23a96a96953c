"""Nipype's plugins, changed: one image after the other; a lost process ends its own job only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype.pipeline import plugins
from nipype.pipeline.plugins.multiproc import process_initializer

from nipype_quicksilver.cohort.progress import part_of
from nipype_quicksilver.cohort.slurm import end_of
from nipype_quicksilver.execution.crashes import STATE, is_lost
from nipype_quicksilver.execution.resources import BATCH_SYSTEMS


class _ImageByImage:
    """Base class, before a plugin that runs several nodes in parallel: finishes image by image."""

    procs: list[Any]
    depidx: Any

    def _generate_dependency_list(self, graph: Any) -> None:
        """Put the nodes of an image together, so that it is finished before the next one starts.

        Nipype runs the first node that is ready. In its own order, the first step of all images
        comes before the second one of any, and all intermediate files exist at the same time.
        """
        super()._generate_dependency_list(graph)  # type: ignore[misc]
        images = [part_of(node.fullname).split("_to-")[0] for node in self.procs]
        rank = {image: number for number, image in enumerate(dict.fromkeys(images))}
        order = sorted(range(len(images)), key=lambda index: rank[images[index]])
        self.procs = [self.procs[index] for index in order]
        self.depidx = self.depidx[order, :][:, order]
        self.refidx = self.depidx.astype(int)


class _Workers:
    """Worker processes, each in a pool of its own.

    A pool of the standard library is lost when one of its processes is killed, with the jobs of all
    the others.

    Parameters
    ----------
    start : callable
        Returns a pool of one process.
    """

    def __init__(self, start: Callable[[], ProcessPoolExecutor]) -> None:
        self._start = start
        self._idle: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run a function in an idle process, or in a new one."""
        while True:
            pool = self._idle.pop() if self._idle else self._start()
            try:
                future = pool.submit(function, *arguments)
            except BrokenProcessPool:  # it was killed while it had no job
                pool.shutdown(wait=False)
                continue
            future.add_done_callback(partial(self._release, pool))
            return future

    def _release(self, pool: ProcessPoolExecutor, future: Future[Any]) -> None:
        if isinstance(future.exception(), BrokenProcessPool):
            pool.shutdown(wait=False)
        else:
            self._idle.append(pool)

    def shutdown(self) -> None:
        """End all processes."""
        for pool in self._idle:
            pool.shutdown()


class _MultiProc(_ImageByImage):
    """Base class for processes on this machine.

    Nipype waits forever for a job whose process was killed, and for one whose result cannot be
    sent to it.
    """

    plugin_args: dict[str, Any]
    pool: Any
    _cwd: str
    _task_obj: dict[Any, Future[Any]]

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        super().__init__(plugin_args=plugin_args)  # type: ignore[call-arg]
        self.pool.shutdown()
        self.pool = _Workers(self._start_process)

    def _start_process(self) -> ProcessPoolExecutor:
        context = get_context(self.plugin_args.get("mp_context"))
        return ProcessPoolExecutor(1, context, process_initializer, (self._cwd,))

    def _async_callback(self, future: Future[Any]) -> None:
        if future.exception() is None:
            super()._async_callback(future)  # type: ignore[misc]

    def _get_result(self, taskid: Any) -> Any:
        """Return the result of a job, or the error because of which it has none."""
        future = self._task_obj[taskid]
        error = future.exception() if future.done() else None
        if error is not None:
            return {"result": None, "traceback": format_exception(error), "taskid": taskid}
        return super()._get_result(taskid)  # type: ignore[misc]


class _Batch(_ImageByImage):
    """Base class for batch systems."""

    def _submit_job(self, node: Any, updatehash: bool = False) -> Any:
        """Submit a node; remove its earlier result, which is out of date.

        Nipype would read that result if the job is cancelled before it starts.
        """
        for result in Path(node.output_dir()).glob("result_*.pklz"):
            result.unlink()
        return super()._submit_job(node, updatehash)  # type: ignore[misc]

    def _get_result(self, taskid: Any) -> Any:
        """Return the result of a job, with the traceback as a list of lines.

        Where there is no result, Nipype 1.11 gives the traceback as one text, and then stops the
        whole run when it adds lines to it.
        """
        result = super()._get_result(taskid)  # type: ignore[misc]
        if result is not None and isinstance(result["traceback"], str):
            result["traceback"] = result["traceback"].splitlines(keepends=True)
        return result


class _Slurm(_Batch):
    """Base class for SLURM."""

    def _get_result(self, taskid: Any) -> Any:
        """Return the result of a job; where there is none, with the state in which it ended."""
        result = super()._get_result(taskid)
        if result is not None and is_lost("".join(result["traceback"] or "")):
            result["traceback"].append(f"\n{STATE}{end_of(taskid)}\n")
        return result


def make_plugin(name: str, arguments: dict[str, Any]) -> Any:
    """Return a plugin of Nipype by its name.

    Parameters
    ----------
    name : str
        One of :data:`nipype_quicksilver.execution.resources.PLUGINS`.
    arguments : dict
        Its arguments.
    """
    plugin = getattr(plugins, f"{name}Plugin")
    bases = {**dict.fromkeys(BATCH_SYSTEMS, _Batch), "MultiProc": _MultiProc, "SLURM": _Slurm}
    if name in bases:
        plugin = type(f"{name}Plugin", (bases[name], plugin), {})
    return plugin(plugin_args=arguments)
