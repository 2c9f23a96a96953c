"""Output folders: one run at a time; its files are written all together or not at all.

The files of a run are moved in two steps: a journal of the moves is written, then they are made. A
run that is killed before the journal exists has changed nothing; a run that is killed later has
changed everything, since the next run into the folder completes the moves first.
"""

import contextlib
import json
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution.locks import Lock, locked
from nipype_quicksilver.execution.signals import deferred
from nipype_quicksilver.spatial.files import PathLike, write_error, write_json

# The hidden folders of runs, and what is in one.
_SPACE = ".quicksilver-files-"
_NEW, _OLD, _JOURNAL = "new", "old", "journal.json"
# Names of the hidden folders of this process, which are no leftovers.
_in_use: set[str] = set()


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
def output_folder(folder: PathLike) -> Iterator[Lock]:
    """Hold the lock of an output folder, in which killed runs have left nothing.

    Moves that a killed run began are completed, and its temporary files are removed.

    Parameters
    ----------
    folder : path-like
        Created if needed, and removed again if it stays empty.

    Yields
    ------
    Lock
        The lock, see :func:`nipype_quicksilver.execution.locks.locked`.

    Raises
    ------
    InputError
        As :func:`check_output_dir`.
    QuicksilverError
        If a move cannot be completed.
    """
    check_output_dir(folder)
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(folder))
            for space in lock.folder.glob(f"{_SPACE}*"):
                if space.name not in _in_use:
                    _settle(space, lock.folder)
        except OSError as error:
            raise write_error(folder, error) from error
        yield lock


def complete_moves(folder: PathLike) -> None:
    """Complete the moves that a killed run began in a folder, before it is read."""
    if any(Path(folder).glob(f"{_SPACE}*/{_JOURNAL}")):
        with output_folder(folder):
            pass


@contextlib.contextmanager
def staged_folder(
    folder: PathLike, names: Iterable[str] = (), record: str | None = None
) -> Iterator[Path]:
    """Yield an empty folder whose files move into `folder` when the block succeeds.

    On failure `folder` stays as it was: it is not created, no file is added, and replaced files are
    restored. Files of other names are never changed. Runs into one folder follow each other.

    Parameters
    ----------
    folder : path-like
        Output folder; created if needed.
    names : iterable of str
        All files that belong together, if there is a record of them. Those that the block does not
        write are removed if the record of an earlier run says that it wrote them, so that no file
        of an earlier run stays next to the new ones.
    record : str, optional
        JSON file among them, which gains ``files``, the sizes of the others by name. It is moved
        last: a folder without it is not complete.

    Yields
    ------
    Path
        A hidden folder on the same file system.

    Raises
    ------
    InputError
        As :func:`check_output_dir` and :func:`check_replaceable`, and on a full disk.
    QuicksilverError
        If writing fails otherwise.
    """
    names = list(names)
    with output_folder(folder) as lock:
        target = lock.folder
        if record is not None:
            check_replaceable(folder, names, record)
        space = target / f"{_SPACE}{secrets.token_hex(8)}"
        stage = space / _NEW
        _in_use.add(space.name)
        try:
            stage.mkdir(parents=True)
            yield stage
            if names and record is not None:
                _record_sizes(stage, record)
            lock.check()
            with deferred():
                _plan(space, target, Path(folder), names, record).run()
                shutil.rmtree(space, ignore_errors=True)
        except QuicksilverError as error:
            # The user knows the file by its final name.
            raise type(error)(str(error).replace(str(stage), str(folder))) from error
        except OSError as error:
            raise write_error(folder, error) from error
        finally:
            _in_use.discard(space.name)
            if not (space / _JOURNAL).exists():  # else the next run completes it
                with deferred():
                    shutil.rmtree(space, ignore_errors=True)


def _existing(path: Path) -> Path:
    """Return the path itself or its nearest existing parent."""
    path = path.absolute()
    # Not `Path.exists`, which raises an error where a parent folder is not accessible.
    return next(parent for parent in (path, *path.parents) if os.path.exists(parent))


@dataclass(frozen=True)
class _Moves:
    """The moves of the files of one run.

    Attributes
    ----------
    space : Path
        Hidden folder with the new files and, later, the old ones.
    target : Path
        The output folder.
    new : list of str
        Files that are moved to the target, the record last.
    outdated : list of str
        Files of an earlier run that are removed.
    """

    space: Path
    target: Path
    new: list[str]
    outdated: list[str]

    @classmethod
    def read(cls, space: Path, target: Path) -> "_Moves | None":
        """Return the moves that a run began; None if it did not."""
        journal = space / _JOURNAL
        try:
            moves = json.loads(journal.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            moves = None
        known = isinstance(moves, list) and len(moves) == 2 and all(map(_are_names, moves))
        if not known:
            raise InputError(f"{journal}: is damaged; look into {space}, then remove it")
        return cls(space, target, *moves)

    def run(self) -> None:
        """Write the journal, and move the files."""
        (self.space / _OLD).mkdir()
        draft = self.space / f"{_JOURNAL}.part"
        draft.write_text(json.dumps([self.new, self.outdated]), encoding="utf-8")
        os.replace(draft, self.space / _JOURNAL)
        self.complete()

    def complete(self) -> None:
        """Make the moves that are not made yet, or on failure undo all."""
        try:
            self._forward()
        except OSError:
            self._backward()
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        (self.space / _JOURNAL).unlink()

    def _forward(self) -> None:
        # Without its record, which leaves first and comes last, a folder is not complete.
        record_first = (*self.new[-1:], *self.outdated)
        for name in record_first:
            self._put_aside(name)
        for name in self.new:
            self._put_aside(name)
            if self._is_here(_NEW, name):
                os.replace(self.space / _NEW / name, self.target / name)

    def _put_aside(self, name: str) -> None:
        """Keep the old file, unless it was moved already."""
        moved = self._is_here(_OLD, name) or (name in self.new and not self._is_here(_NEW, name))
        if not moved and os.path.lexists(self.target / name):
            os.replace(self.target / name, self.space / _OLD / name)

    def _backward(self) -> None:
        for name in self.new:
            if not self._is_here(_NEW, name):
                os.replace(self.target / name, self.space / _NEW / name)
        for name in (*self.outdated, *self.new):
            if self._is_here(_OLD, name):
                os.replace(self.space / _OLD / name, self.target / name)

    def _is_here(self, part: str, name: str) -> bool:
        return os.path.lexists(self.space / part / name)


def _plan(
    space: Path, target: Path, shown: Path, names: Iterable[str], record: str | None
) -> _Moves:
    """Return the moves of a run; refuse those over a folder."""
    new = sorted(
        (path.name for path in (space / _NEW).iterdir()), key=lambda name: (name == record, name)
    )
    others = set(names) - set(new)
    outdated = sorted(others & _written_earlier(target, record))
    for name in (*new, *outdated):
        check_no_folder(shown / name)
    for name in sorted(others - set(outdated)):
        if os.path.lexists(target / name):
            warnings.warn(
                f"{shown / name}: is of an earlier run, and was changed since; it is kept",
                UserWarning,
                stacklevel=3,
            )
    return _Moves(space, target, new, outdated)


def check_no_folder(path: PathLike) -> None:
    """Refuse a folder where a file is to be written.

    Raises
    ------
    InputError
        If there is one.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        raise InputError(
            f"{path}: is a folder, and a file of this name is written; move it, or choose another "
            "output folder"
        )


def check_replaceable(folder: PathLike, names: Iterable[str], record: str) -> None:
    """Refuse files of other origin under the names of a run's files.

    Parameters
    ----------
    folder : path-like
        Output folder; it need not exist.
    names : iterable of str
        The files that a run may write there.
    record : str
        The one among them that lists the others.

    Raises
    ------
    InputError
        If one of them is there, and no record says that an earlier run wrote it; or if the record
        lists other files, which are those of another command.
    """
    target, names = Path(folder), set(names)
    there = sorted(name for name in names if os.path.lexists(target / name))
    content = _content(target / record)
    sizes = _sizes(content)
    if sizes is None and "versions" in content:
        return  # of a version that listed no files
    ours = {record, *sizes} if sizes is not None else set[str]()
    for name in sorted(ours - names - {record}):
        raise InputError(
            f"{target}: holds {name}, of another command, whose {record} would be replaced; choose "
            "another output folder"
        )
    for name in there:
        if name not in ours:
            raise InputError(
                f"{target / name}: would be replaced, and no {record} says that an earlier run "
                "wrote it; move it, or choose another output folder"
            )


def _content(record: Path) -> dict[str, Any]:
    """Return the content of a record; empty if it cannot be read."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _sizes(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the sizes that a record lists; None if it lists none."""
    sizes = content.get("files")
    return sizes if isinstance(sizes, dict) and _are_names(list(sizes)) else None


def _record_sizes(stage: Path, record: str) -> None:
    """Add the sizes of all other files to the record of a run."""
    content = _content(stage / record)
    others = (path for path in sorted(stage.iterdir()) if path.name != record)
    if content:
        sizes = {path.name: path.stat().st_size for path in others}
        write_json(stage / record, {**content, "files": sizes})


def _written_earlier(target: Path, record: str | None) -> set[str]:
    """Return the files that are still as an earlier run recorded them."""
    sizes = {} if record is None else _sizes(_content(target / record)) or {}
    return {name for name, size in sizes.items() if _size(target / name) == size}


def _size(path: Path) -> int | None:
    """Return the size of a file, None for anything else."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _are_names(values: object) -> bool:
    """Return whether these are names of files in one folder."""
    return isinstance(values, list) and all(
        isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value
        for value in values
    )


def _settle(space: Path, target: Path) -> None:
    """Complete the moves that a killed run began, and remove its hidden folder."""
    with deferred():
        moves = _Moves.read(space, target)
        if moves is not None:
            moves.complete()
        shutil.rmtree(space, ignore_errors=True)
