"""Check, hash and write files; a file is written completely or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError, QuicksilverError

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
    return path.with_name(re.sub(r"\.(nii|mgh|mgz)(\.gz)?$", "", path.name) + ".tsv")


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
        If the file does not exist, is a folder, or cannot be read.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give the file of the {what}")
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
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: its folder does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{path}: its folder is not writable; choose another or change its permissions"
        )


def sha256_of(path: PathLike) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
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
    temporary = path.parent / f".{secrets.token_hex(8)}{ending}"
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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
    """Raise an error if the disk has no space for a file of `size` bytes.

    For libraries that do not report a full disk as an `OSError`.
    """
    if shutil.disk_usage(Path(path).absolute().parent).free < size:
        raise write_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
