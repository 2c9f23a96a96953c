"""Output folders; their files are written all together or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial.files import PathLike, write_error


def check_output_dir(folder: PathLike) -> None:
    """Raise an error if a folder could not be written to, before anything is computed.

    Parameters
    ----------
    folder : path-like
        Output folder; it need not exist yet.

    Raises
    ------
    InputError
        If it is a file, lies below one, or is not writable.
    """
    existing = _existing(Path(folder))
    if not existing.is_dir():
        raise InputError(f"{folder}: {existing} is not a folder; choose another output folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: not writable; choose another folder or change its permissions")


@contextlib.contextmanager
def staged_folder(folder: PathLike, names: Iterable[str] = ()) -> Iterator[Path]:
    """Yield an empty folder whose files move into `folder` when the block succeeds.

    On failure `folder` stays as it was: it is not created, no file is added, and replaced files are
    restored. Files of other names are never changed.

    Parameters
    ----------
    folder : path-like
        Output folder; created if needed.
    names : iterable of str
        All files that belong together: those that the block does not write are removed, so that no
        file of an earlier run stays next to the new ones.

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
    """Return the path itself or its nearest existing parent."""
    path = path.absolute()
    # Not `Path.exists`, which raises an error where a parent folder is not accessible.
    return next(parent for parent in (path, *path.parents) if os.path.exists(parent))


def _move_folder(stage: Path, target: Path) -> None:
    """Rename the stage to the target, which does not exist; create its parents."""
    created = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage.rename(target)
    except OSError:
        with contextlib.suppress(OSError):
            for parent in created:
                parent.rmdir()
        raise


def _move_files(stage: Path, target: Path, names: Iterable[str]) -> None:
    """Move the files of the stage into the target; on failure restore it."""
    replaced = stage / "replaced"
    files = {file.name: file for file in sorted(stage.iterdir())}
    replaced.mkdir()
    moved: list[Path] = []
    try:
        for name in dict.fromkeys((*files, *names)):
            destination = target / name
            if destination.exists():
                os.replace(destination, replaced / name)
            moved.append(destination)
            if name in files:
                os.replace(files[name], destination)
    except OSError:
        for destination in moved:
            with contextlib.suppress(OSError):
                destination.unlink(missing_ok=True)
            if (replaced / destination.name).exists():
                os.replace(replaced / destination.name, destination)
        raise
