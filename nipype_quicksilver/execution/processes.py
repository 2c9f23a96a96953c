"""Processes: they end with those that started them, and keep freed memory or give it back."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

#: Environment variable with the number of the process whose node a command is.
PARENT = "QUICKSILVER_PARENT"

_PAUSE = 0.5  # seconds between two looks for the parent


def end_with_parent() -> None:
    """Let this process be killed when the one that :data:`PARENT` names is gone.

    A shell may stand between the two, so that the system's own signal would not come.
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
            pass  # it lives, as another user
        time.sleep(_PAUSE)


def keep_freed_memory() -> None:
    """Let this process keep the memory of arrays that are freed, for the next ones.

    The C library of Linux gives large blocks back at once, and the system clears them anew for
    every temporary array: a fifth of the CPU time of a registration.
    """
    no_mapped_blocks, never_give_back = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
    with contextlib.suppress(OSError, AttributeError):  # another system or C library
        library = ctypes.CDLL("libc.so.6")
        for option in (no_mapped_blocks, never_give_back):
            library.mallopt(*option)


def give_back_memory() -> None:
    """Give freed memory back to the system, also where the process keeps it (glibc)."""
    with contextlib.suppress(OSError, AttributeError):  # another system or C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def forked_end_with_this() -> Iterator[None]:
    """Let every process that is forked within the block be killed when this one ends (Linux)."""
    global _forked_end
    if sys.platform == "linux" and _forked_end is None:
        os.register_at_fork(after_in_child=_end_with_forking)  # there is no way to take it back
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
