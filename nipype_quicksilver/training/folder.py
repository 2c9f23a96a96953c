"""The folder of a training: a record of its inputs, logs, and the state from which it resumes."""

from __future__ import annotations

import csv
import importlib
import io
import json
import logging
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial.files import PathLike, staged, write_error, write_json
from nipype_quicksilver.spatial.folders import check_output_dir
from nipype_quicksilver.training.digests import FileDigest

RUN, RECIPE, STATE = "run.json", "recipe.json", "state.pt"
LOG, VALIDATION, CURVE = "log.csv", "validation.csv", "curve.png"
FILES = (RUN, RECIPE, STATE, LOG, VALIDATION, CURVE)
TENSORBOARD = "tensorboard"

# Entries of the record that have to be the same when a training is resumed.
_FIXED = {
    "recipe": "a different recipe",
    "role": "a different role",
    "before": "different earlier networks",
    "start": "different initial weights",
    "inputs": "different images, label maps or momenta",
    "processes": "a different number of processes",
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRecord:
    """What makes a training reproducible; the content of ``run.json``.

    Attributes
    ----------
    versions : dict
        Versions of the libraries.
    command : str
        Command line.
    role : {'prediction', 'correction'}
    recipe : dict
        As the file of a recipe holds it.
    before, start, inputs : list of FileDigest
        Networks that are corrected, the network with the initial weights, and all data.
    processes : int
        Number of processes.
    device : str
        Type of the device.
    """

    versions: dict[str, str]
    command: str
    role: str
    recipe: dict[str, Any]
    before: list[FileDigest]
    start: list[FileDigest]
    inputs: list[FileDigest]
    processes: int
    device: str

    def as_json(self) -> dict[str, Any]:
        """Return the record as its file holds it."""
        return {
            "format": "quicksilver-training",
            "version": 1,
            "versions": self.versions,
            "command": self.command,
            "role": self.role,
            "recipe": self.recipe,
            "before": [digest.as_json() for digest in self.before],
            "start": [digest.as_json() for digest in self.start],
            "inputs": [digest.as_json() for digest in self.inputs],
            "processes": self.processes,
            "device": self.device,
        }


class TrainingFolder:
    """The folder of one training.

    Parameters
    ----------
    folder : path-like
        Created by :meth:`start` if needed.
    record : TrainingRecord
    writes : bool
        Whether this process writes files; only one of several does.

    Raises
    ------
    InputError
        If the folder cannot be written to, or holds a different training.
    """

    def __init__(self, folder: PathLike, record: TrainingRecord, *, writes: bool = True) -> None:
        self.folder = Path(folder)
        self.record = record
        self.writes = writes
        check_output_dir(folder)
        if writes and self.path(STATE).exists():
            self._check()

    def start(self) -> None:
        """Create the folder and write the record of a new training.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        if not self.writes or self.path(STATE).exists():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        write_json(self.path(RECIPE), self.record.recipe)
        write_json(self.path(RUN), self.record.as_json())

    def path(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.folder / name

    def _check(self) -> None:
        """Refuse to resume a training with a different record."""
        try:
            recorded = json.loads(self.path(RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path(RUN)}: is missing or damaged; choose another output folder"
            ) from error
        current = json.loads(json.dumps(self.record.as_json()))
        for key, difference in _FIXED.items():
            if without_paths(recorded.get(key)) != without_paths(current[key]):
                raise InputError(
                    f"{self.folder}: holds a training with {difference}; choose another output "
                    "folder, or give the original inputs and options to resume it"
                )
        if recorded.get("versions") != current["versions"]:
            _logger.warning(
                "%s: was started with other versions of libraries: the result will not be "
                "bit-identical",
                self.folder,
            )

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last state on a device, None for a new training.

        Raises
        ------
        InputError
            If it is damaged.
        """
        path = self.path(STATE)
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
            raise InputError(
                f"{path}: is damaged; delete it to start again, or choose another output folder"
            ) from error
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write a state to a temporary file, then replace the last state by it.

        Raises
        ------
        QuicksilverError
            If weights are not finite; the last state is kept.
        InputError
            If the disk is full; the last state is kept.
        """
        if not self.writes:
            return
        for name, weights in state["training"]["network"].items():
            if not weights.isfinite().all():
                raise QuicksilverError(
                    f"{self.folder}: the training diverged ({name} is not finite); lower the "
                    "learning rate in the recipe and start again in another folder"
                )
        # To memory first: torch does not report a full disk as an OSError.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with staged(self.path(STATE)) as part:
            part.write_bytes(buffer.getbuffer())


class Table:
    """A CSV file to which rows are appended.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        The first is ``iteration``.
    last : int
        The training is resumed after this iteration: rows of later ones, and a truncated row, are
        removed.
    writes : bool
        Whether this process writes files.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], last: int, *, writes: bool = True
    ) -> None:
        self._path, self._columns, self._writes = path, columns, writes
        rows = [row for row in read_table(path) if float(row["iteration"]) <= last]
        if writes:
            with staged(path) as part:
                part.write_text(_as_csv(columns, [columns]) + _as_csv(columns, rows))

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows.

        Raises
        ------
        InputError
            If the disk is full.
        """
        if not self._writes or not rows:
            return
        try:
            self._append(_as_csv(self._columns, rows))
        except OSError as error:
            raise write_error(self._path, error) from error

    def _append(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)


def _as_csv(columns: Sequence[str], rows: Sequence[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        if isinstance(row, dict):
            writer.writerow([_cell(row.get(name, "")) for name in columns])
        else:
            writer.writerow(row)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a file of :class:`Table`; empty if there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(complete.splitlines())
    return [row for row in reader if None not in row.values() and row.get("iteration")]


class Board:
    """Curves for TensorBoard, if it is installed.

    Parameters
    ----------
    folder : Path
    last : int
        Points of later iterations are removed.
    writes : bool
        Whether this process writes files.
    """

    def __init__(self, folder: Path, last: int, *, writes: bool = True) -> None:
        self._writer: Any = None
        module = _tensorboard() if writes else None
        if module is not None:
            self._writer = module.SummaryWriter(str(folder), purge_step=last + 1)

    def add(self, group: str, iteration: int, numbers: dict[str, float]) -> None:
        """Add points to the curves."""
        if self._writer is None:
            return
        for name, value in numbers.items():
            if not math.isnan(value):
                self._writer.add_scalar(f"{group}/{name}", value, iteration)

    def close(self) -> None:
        """Write the remaining points."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard() -> ModuleType | None:
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None


def without_paths(content: Any) -> Any:
    """Return a record's content without the paths of files, which may have been moved.

    Examples
    --------
    >>> without_paths([{"use": "image", "file": "/data/a.nii", "sha256": "e3b0"}])
    [{'use': 'image', 'sha256': 'e3b0'}]
    """
    if isinstance(content, dict):
        return {key: without_paths(value) for key, value in content.items() if key != "file"}
    if isinstance(content, list):
        return [without_paths(item) for item in content]
    return content
