"""Processes: they end with their parent, and keep freed memory or return it to the system."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: Environment variable with the id of the process that runs the node of a command.
PARENT = "QUICKSILVER_PARENT"

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PAUSE = 0.5  # seconds between two checks of the parent


def end_with_parent() -> None:
    """Kill this process when the process of :data:`PARENT` has ended.

    There may be a shell between the two, so that the signal of the operating system does not come.
    """
    parent = os.environ.pop(PARENT, "")
    if parent.isdigit():
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(os.getpid(), signal.SIGKILL)
        except PermissionError:
            pass  # it exists, and belongs to another user
        time.sleep(_PAUSE)


def keep_freed_memory() -> None:
    """Keep freed memory in this process, to be used again.

    The C library of Linux returns large blocks to the system at once, which clears them for every
    new temporary array: this took a fifth of the CPU time of a registration.
    """
    no_mapped_blocks, never_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
    with contextlib.suppress(OSError, AttributeError):  # another system or C library
        library = ctypes.CDLL("libc.so.6")
        for option in (no_mapped_blocks, never_trim):
            library.mallopt(*option)


def return_freed_memory() -> None:
    """Return freed memory to the system, also after :func:`keep_freed_memory` (glibc)."""
    with contextlib.suppress(OSError, AttributeError):  # another system or C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def forked_end_with_this() -> Iterator[None]:
    """Kill every process that is forked within the block when this one ends (Linux)."""
    global _forked_end
    if sys.platform == "linux" and _forked_end is None:
        os.register_at_fork(after_in_child=_end_with_forking)  # cannot be undone
    _forked_end = True
    try:
        yield
    finally:
        _forked_end = False


@contextlib.contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise an interrupt at the end of the block where the block has swallowed it.

    Nipype takes what a signal handler raises within a node, such as `KeyboardInterrupt`, for a
    failure of the node, and continues with the next one.
    """
    caught: list[BaseException] = []

    def note(handler: Callable[[int, FrameType | None], object]) -> Any:
        def noting(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                caught.append(error)
                raise

        return noting

    if threading.current_thread() is not threading.main_thread():  # where no handler runs
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _INTERRUPTS}
    replaced = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number, handler in replaced.items():
        signal.signal(number, note(handler))
    try:
        yield
    except Exception:
        if not caught:
            raise
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    if caught:
        raise caught[0]


_forked_end: bool | None = None


def _end_with_forking() -> None:
    set_death_signal = 1  # PR_SET_PDEATHSIG
    if _forked_end:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
