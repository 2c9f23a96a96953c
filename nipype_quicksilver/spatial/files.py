"""Check, hash and write files; a file is written completely or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import re
import resource
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution.leftovers import remove_leftovers, temporary_name
from nipype_quicksilver.execution.signals import deferred

PathLike = str | os.PathLike[str]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_USER_CAN_FIX = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG)


def label_table(label_map: PathLike) -> Path:
    """Return the path of the table that names the labels of a label map, as in BIDS.

    Examples
    --------
    >>> label_table("sub-01/aparc.a2009s+aseg.nii.gz").name
    'aparc.a2009s+aseg.tsv'
    """
    path = Path(label_map)
    return path.with_name(re.sub(r"\.(nii|img|hdr|mgh|mgz)(\.gz)?$", "", path.name) + ".tsv")


def check_readable(path: PathLike, what: str) -> None:
    """Raise an error if a path is not a readable file.

    Parameters
    ----------
    path : path-like
        The file to be read.
    what : str
        Role of the file, for messages.

    Raises
    ------
    InputError
        If the file does not exist, is a folder, a named pipe or a device, or cannot be read.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give the file of the {what}")
    check_ordinary(path)
    try:
        with open(path, "rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):
            raise InputError(
                f"{path}: is a link whose target is missing; get its content (with datalad: "
                "datalad get), or correct the link"
            ) from error
        raise InputError(f"{path}: no such file; check the path of the {what}") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def check_ordinary(path: PathLike) -> None:
    """Refuse a named pipe, for which a program would wait without end, a socket or a device.

    Raises
    ------
    InputError
        If the path is one; a path that does not exist is none.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{path}: is a named pipe, a socket or a device; give an ordinary file instead"
        )


def check_writable(path: PathLike) -> None:
    """Raise an error if a file could not be written, before anything is computed.

    Parameters
    ----------
    path : path-like
        The file to be written.

    Raises
    ------
    InputError
        If it is a folder, or its folder is missing or not writable.
    """
    path = Path(path)
    # os.path, since pathlib's methods raise an error where a parent folder is not accessible.
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give the name of a file")
    check_ordinary(path)
    if path.parent == Path("/dev"):  # also where it leads to a file, as `/dev/stdout` may
        raise InputError(f"{path}: is a device, which a file would replace; give another name")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: its folder does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{path}: its folder is not writable; choose another or change its permissions"
        )


def check_apart(outputs: Iterable[PathLike], inputs: Iterable[PathLike]) -> None:
    """Refuse outputs that would destroy an input or each other, before anything is computed.

    Parameters
    ----------
    outputs : iterable of path-like
        Files that are going to be written.
    inputs : iterable of path-like
        Files that are read, also by other names: links are followed.

    Raises
    ------
    InputError
        If an output is an input, or two outputs are one file.
    """
    outputs = list(outputs)
    check_no_input(outputs, inputs)
    written: set[str] = set()
    for output in outputs:
        place = os.path.realpath(output)
        if place in written:
            raise InputError(f"{output}: is given for two outputs; choose another name for one")
        written.add(place)


def check_no_input(outputs: Iterable[PathLike], inputs: Iterable[PathLike]) -> None:
    """Refuse outputs that would destroy an input, before anything is computed.

    Parameters
    ----------
    outputs : iterable of path-like
        Files that are going to be written.
    inputs : iterable of path-like
        Files that are read, also by other names: links are followed.

    Raises
    ------
    InputError
        If an output is an input.
    """
    read = {identity: path for path in inputs if (identity := _identity(path)) is not None}
    for output in outputs:
        identity = _identity(output)
        if identity in read:
            named = "" if str(read[identity]) == str(output) else f" ({read[identity]})"
            raise InputError(
                f"{output}: is an input of this run{named}, and would be overwritten or removed; "
                "choose another output"
            )


def _identity(path: PathLike) -> tuple[int, int] | None:
    """Return what tells a file from others, whatever its name; None if there is no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def sha256_of(path: PathLike) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    check_ordinary(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


@contextlib.contextmanager
def staged(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to be written.

    Yields
    ------
    Path
        In the same folder, with the same suffix; it does not exist yet.

    Raises
    ------
    InputError
        If the folder is missing, not writable or full, or `path` is a folder.
    QuicksilverError
        If writing fails otherwise. The temporary file is removed.
    """
    path = Path(path)
    check_writable(path)
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    remove_leftovers(path.parent.absolute(), hidden=True)
    temporary = path.parent / f".{temporary_name()}{ending}"
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files; none is replaced before all are written.

    Parameters
    ----------
    writers : mapping
        Function that writes a file, by its path.

    Raises
    ------
    InputError, QuicksilverError
        As :func:`staged`; all files are as they were.
    """
    with contextlib.ExitStack() as stack:
        for path, write in writers.items():
            temporary = stack.enter_context(staged(path))
            try:
                write(temporary)
            except QuicksilverError as error:
                # The user knows the file by its final name.
                raise type(error)(str(error).replace(str(temporary), str(path))) from error
        with deferred():
            stack.close()


def write_json(path: PathLike, obj: Any) -> Path:
    """Write `obj` as indented JSON; the file is written completely or not at all.

    Parameters
    ----------
    path : path-like
        The file to be written.
    obj : Any
        Dictionaries, lists, strings, finite numbers; NumPy scalars and arrays too.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError, QuicksilverError
        As :func:`staged`.
    ValueError
        If a number is NaN or infinite, which JSON cannot hold.
    """
    text = json.dumps(obj, indent=2, allow_nan=False, default=lambda item: item.tolist())
    with staged(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def write_error(path: PathLike, error: OSError) -> QuicksilverError:
    """Return the one-line error for a file or folder that could not be written."""
    if error.errno in _NO_SPACE:
        return InputError(f"{path}: no space left to write it; free some space and run again")
    reason = (error.strerror or str(error)).splitlines()[0]
    kind = InputError if error.errno in _USER_CAN_FIX else QuicksilverError
    return kind(f"{path}: cannot be written ({reason}); check the folder and its permissions")


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Suppress what C libraries write to the standard error stream.

    HDF5 prints a stack of calls for every error, which is raised as an exception as well.
    """
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error stream
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def check_space(path: PathLike, size: int) -> None:
    """Raise an error if there is no space on the disk for a file of `size` bytes, or none allowed.

    For libraries that do not report it as an `OSError`: HDF5 even crashes later, when it closes
    the file that it could not write.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    is_allowed = limit == resource.RLIM_INFINITY or size <= limit
    if not is_allowed or shutil.disk_usage(Path(path).absolute().parent).free < size:
        raise write_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
