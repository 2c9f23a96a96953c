"""Nipype's MultiProc plugin, in which a process that is killed ends its own job only."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins import MultiProcPlugin
from nipype.pipeline.plugins.multiproc import process_initializer


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


def _begin(folder: str) -> None:
    """Begin a worker: signals end it at once, since Nipype would swallow what a handler raises."""
    process_initializer(folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Processes(MultiProcPlugin):
    """Runs nodes in processes on this machine.

    Nipype waits forever for a job whose process was killed, and for one whose result cannot be
    sent to it.

    Parameters
    ----------
    plugin_args : dict, optional
        As for Nipype's plugin.
    """

    pool: Any

    def __init__(self, plugin_args: dict[str, Any] | None = None) -> None:
        super().__init__(plugin_args=plugin_args)
        self.pool.shutdown()
        self.pool = _Workers(self._start_process)

    def _start_process(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context(self.plugin_args.get("mp_context"))
        return ProcessPoolExecutor(1, context, _begin, (self._cwd,))

    def _async_callback(self, future: Future[Any]) -> None:
        if future.exception() is None:
            super()._async_callback(future)

    def _get_result(self, taskid: int) -> Any:
        """Return the result of a job, or the error because of which it has none."""
        future = self._task_obj[taskid]
        error = future.exception() if future.done() else None
        if error is not None:
            return {"result": None, "traceback": format_exception(error), "taskid": taskid}
        return super()._get_result(taskid)
