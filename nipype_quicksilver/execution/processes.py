"""Processes: they end with their parent, and keep freed memory or return it to the system."""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: Environment variable with the id of the process that runs the node of a command.
PARENT = "QUICKSILVER_PARENT"

_PAUSE = 0.5  # seconds between two checks of the parent
_GRACE = 10.0  # seconds in which a process that is to end cleans up, before it is killed


def end_with_parent() -> None:
    """End this process when the process of :data:`PARENT` has ended.

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
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE)
            os.kill(os.getpid(), signal.SIGKILL)
        except PermissionError:
            pass  # it exists, and belongs to another user
        time.sleep(_PAUSE)


def end_descendants() -> None:
    """End the processes that this one started, and those that they started (Linux).

    A batch system may send its signal to this process alone.
    """
    for number, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, 1.0)):
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(OSError):  # it has ended
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while _descendants(os.getpid()) and time.monotonic() < deadline:
            time.sleep(0.05)


@contextlib.contextmanager
def descendants_end_first() -> Iterator[None]:
    """End the descendants before an interrupt of the block goes on, and removes their files."""
    try:
        yield
    except KeyboardInterrupt:
        # It would report each process of a pool that is ended.
        logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL + 1)
        end_descendants()
        raise


def _descendants(parent: int) -> list[int]:
    """Return the processes below one, without those that have ended and helpers of Python."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it has ended
            state, above = file.read_text(errors="replace").rpartition(")")[2].split()[:2]
            # The resource tracker ignores signals, and ends by itself.
            tracks = b"resource_tracker" in file.with_name("cmdline").read_bytes()
            if state != "Z" and not tracks:
                children.setdefault(int(above), []).append(int(file.parent.name))
    below = children.get(parent, [])
    for pid in below:  # grows while it is read
        below.extend(children.get(pid, []))
    return below


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
