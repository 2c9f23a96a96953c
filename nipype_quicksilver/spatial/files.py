"""Files that appear complete or not at all."""

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError, QuicksilverError

PathLike = str | os.PathLike[str]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_USER_CAN_MEND = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG)


@contextlib.contextmanager
def staged(path: PathLike) -> Iterator[Path]:
    """Give a temporary path next to `path` that takes its place when the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to be written.

    Yields
    ------
    Path
        A name in the same folder with the same suffix; nothing exists there yet.

    Raises
    ------
    InputError
        If the folder is missing, not writable or full, or `path` is a folder.
    QuicksilverError
        If writing fails otherwise. The temporary file is removed.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: its folder is not writable; choose another or change its rights")
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
    """Write `obj` as indented JSON; the file appears complete or not at all.

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
    """Return the error that says in one line why a file or folder could not be written."""
    if error.errno in _NO_SPACE:
        return InputError(f"{path}: no space left to write it; free some and run again")
    reason = (error.strerror or str(error)).splitlines()[0]
    kind = InputError if error.errno in _USER_CAN_MEND else QuicksilverError
    return kind(f"{path}: cannot be written ({reason}); check the folder and its rights")


def check_space(path: PathLike, size: int) -> None:
    """Refuse a file of so many bytes where the disk has no room for it.

    For writers that do not report a full disk as an `OSError`.
    """
    if shutil.disk_usage(Path(path).absolute().parent).free < size:
        raise write_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
