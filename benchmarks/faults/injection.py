"""Runs in forked processes, ended by a signal at a chosen step or moment."""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

#: How a run is ended: Ctrl-C, a batch system, the system itself.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# Operations on files, as Python's audit hooks name them, before which a run is ended.
_STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir")


def start(run: Callable[[], int | None], log: Path | None = None) -> int:
    """Run a function in a forked process; return its id.

    The process that forks has imported what the function needs, but has computed nothing: threads
    are not forked.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if log is not None:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from nipype_quicksilver.execution import signals

        try:
            with signals.raised():
                code = run() or 0
        except KeyboardInterrupt as interrupt:
            code = signals.describe(interrupt)[1]
        except Exception:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a process; return its exit code, or the negative number of its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_at_step(step: int, number: int, folder: Path) -> None:
    """End this process before an operation on a file below a folder, the first one is 0."""
    seen = -1

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in _STEPS or not arguments:
            return
        if not str(arguments[0]).startswith(str(folder)):
            return
        seen += 1
        if seen == step:
            os.kill(os.getpid(), number)

    sys.addaudithook(hook)  # of this process alone


def end_after(child: int, seconds: float, number: int) -> int:
    """End a process after a time; return its exit code."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    return wait(child)
