"""Processes: they end with their parent, and keep freed memory or return it to the system."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

#: Environment variable with the id of the process that runs the node of a command.
PARENT = "QUICKSILVER_PARENT"

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


_forked_end: bool | None = None


def _end_with_forking() -> None:
    set_death_signal = 1  # PR_SET_PDEATHSIG
    if _forked_end:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
