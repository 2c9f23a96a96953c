"""Folders that nobody else may write: their files, such as Nipype's pickles, can run code."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from pathlib import Path

from nipype_quicksilver.errors import InputError

_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path, root: Path) -> None:
    """Create a working folder for this user alone, or check an existing one.

    Parameters
    ----------
    folder : Path
        The working folder. It and its content become inaccessible for others (mode 0700).
    root : Path
        The output folder. Of the parents of `folder`, those below `root` and `root` itself must
        not be writable for others either, who could exchange the working folder.

    Raises
    ------
    InputError
        If the folder cannot be created, belongs to another user, or if others may write into it
        or into one of these parents.
    """
    parents = [path for path in folder.parents if path.is_relative_to(root)]
    try:
        for path in reversed(parents):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be created ({error.strerror}); give another --work-dir"
        ) from error
    if status.st_uid != os.geteuid() or _others_may_write(status):
        raise InputError(
            f"{folder}: belongs to another user, or others may write into it: their files could "
            "run as yours; remove it, or give another --work-dir"
        )
    for path in parents:
        if _others_may_write(path.stat()) and not path.stat().st_mode & stat.S_ISVTX:
            raise InputError(
                f"{path}: others may write into it, and could exchange its working folder for "
                "one whose files run as yours; chmod go-w it, or give a --work-dir elsewhere"
            )
    if status.st_mode & _GROUP_AND_OTHERS:
        folder.chmod(0o700)


def _others_may_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_own_group(status.st_gid)


def _is_own_group(gid: int) -> bool:
    """Return whether a group has no member but this user, as many systems create one for each."""
    with contextlib.suppress(KeyError):  # a container without names of its users
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid()).pw_name
        return group.gr_name == user and set(group.gr_mem) <= {user}
    return False
