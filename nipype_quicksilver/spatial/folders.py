"""Folders whose files appear all together or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial.files import PathLike, write_error


def check_output_dir(folder: PathLike) -> None:
    """Refuse a folder that could not be written to, before anything is computed.

    Parameters
    ----------
    folder : path-like
        Where files are to be written; it need not exist yet.

    Raises
    ------
    InputError
        If it is a file, lies below one, or is not writable.
    """
    existing = _existing(Path(folder))
    if not existing.is_dir():
        raise InputError(f"{folder}: {existing} is no folder; choose another output folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be written to; choose another folder or its rights")


@contextlib.contextmanager
def staged_folder(folder: PathLike, names: Iterable[str] = ()) -> Iterator[Path]:
    """Give an empty folder whose files move into `folder` when the block succeeds.

    On failure `folder` is as it was: it is not made, nothing is added to it, and files that were
    to be replaced are back in their place. Files of other names are never touched.

    Parameters
    ----------
    folder : path-like
        Where the files belong; made if needed.
    names : iterable of str
        Files that belong together: those that the block does not write are removed, so that none
        of an earlier time stays beside the new ones.

    Yields
    ------
    Path
        A hidden folder on the same file system.

    Raises
    ------
    InputError
        As :func:`check_output_dir`, and on a full disk.
    QuicksilverError
        If writing fails otherwise.
    """
    check_output_dir(folder)
    target = Path(folder).absolute()
    # Inside a folder that exists, since its parent may be read-only or on another file system.
    stage = _existing(target) / f".{secrets.token_hex(8)}"
    try:
        stage.mkdir()
        yield stage
        if target.exists():
            _move_files(stage, target, names)
        else:
            _move_folder(stage, target)
    except QuicksilverError as error:
        # The user knows the file by its final name.
        raise type(error)(str(error).replace(str(stage), str(folder))) from error
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _existing(path: Path) -> Path:
    """Return the path itself or its nearest parent that exists."""
    path = path.absolute()
    # Not `Path.exists`, which raises where a folder on the way may not be looked into.
    return next(place for place in (path, *path.parents) if os.path.exists(place))


def _move_folder(stage: Path, target: Path) -> None:
    """Turn the stage into the target, which does not exist; make its parents."""
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage.rename(target)
    except OSError:
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise


def _move_files(stage: Path, target: Path, names: Iterable[str]) -> None:
    """Move the files of the stage into the target; on failure undo what was moved."""
    replaced = stage / "replaced"
    files = {file.name: file for file in sorted(stage.iterdir())}
    replaced.mkdir()
    moved: list[Path] = []
    try:
        for name in dict.fromkeys((*files, *names)):
            place = target / name
            if place.exists():
                os.replace(place, replaced / name)
            moved.append(place)
            if name in files:
                os.replace(files[name], place)
    except OSError:
        for place in moved:
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
            if (replaced / place.name).exists():
                os.replace(replaced / place.name, place)
        raise
