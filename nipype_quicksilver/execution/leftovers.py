"""Temporary files and folders whose names say whose they are, so that later runs remove them."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_PREFIX = "quicksilver"


def temporary_name() -> str:
    """Return a new name that holds this host and this process."""
    return f"{_PREFIX}-{_host()}-{os.getpid()}-{secrets.token_hex(8)}"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder, which is removed at the end.

    Those of processes that were killed are removed first.
    """
    remove_leftovers(Path(tempfile.gettempdir()))
    folder = Path(tempfile.gettempdir()) / temporary_name()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def remove_leftovers(folder: Path, hidden: bool = False) -> None:
    """Remove what processes of this host left in a folder when they were killed.

    A process looks once into each folder.

    Parameters
    ----------
    folder : Path
        Any folder.
    hidden : bool
        Whether the names start with a dot.
    """
    name = re.compile(rf"{'[.]' if hidden else ''}{_PREFIX}-{_host()}-([0-9]+)-[0-9a-f]{{16}}.*")
    with contextlib.suppress(OSError):  # not readable, or not there
        for entry in os.scandir(folder):
            match = name.fullmatch(entry.name)
            if match is None or _runs(int(match[1])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    return True


@cache
def _host() -> str:
    """Return a short name of this host and, in a container, of its process numbers."""
    try:
        numbers = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        numbers = 0
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]
