"""The folder of a training: what makes it reproducible, its logs, and the state to go on from."""

from __future__ import annotations

import csv
import importlib
import io
import json
import logging
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial.files import PathLike, staged, write_error, write_json
from nipype_quicksilver.spatial.folders import check_output_dir

if TYPE_CHECKING:
    from types import ModuleType

    import torch

RUN, RECIPE, STATE = "run.json", "recipe.json", "state.pt"
LOG, VALIDATION, CURVE = "log.csv", "validation.csv", "curve.png"
TENSORBOARD = "tensorboard"

# What must be as it was for a training to go on; the rest may change on the way.
_FIXED = ("recipe", "role", "before", "start", "inputs", "processes")

_logger = logging.getLogger(__name__)


class Run:
    """The folder of one training.

    Parameters
    ----------
    folder : path-like
        Made by :meth:`start`, if needed.
    facts : dict
        What makes the training reproducible, for ``run.json``.
    writes : bool
        Whether this process writes; of several, one does.

    Raises
    ------
    InputError
        If the folder cannot be written to, or holds another training.
    """

    def __init__(self, folder: PathLike, facts: dict[str, Any], *, writes: bool = True) -> None:
        self.folder = Path(folder)
        self.writes = writes
        self._facts = facts
        check_output_dir(folder)
        if writes and self.path(STATE).exists():
            self._check(facts)

    def start(self) -> None:
        """Make the folder and write what makes the training reproducible.

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
        write_json(self.path(RECIPE), self._facts["recipe"])
        write_json(self.path(RUN), self._facts)

    def path(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.folder / name

    def _check(self, facts: dict[str, Any]) -> None:
        try:
            known = json.loads(self.path(RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path(RUN)}: is missing or damaged; choose another output folder"
            ) from error
        now = json.loads(json.dumps(facts))
        for key in _FIXED:
            if comparable(known.get(key)) != comparable(now[key]):
                raise InputError(
                    f"{self.folder}: holds a training with other {_NAMES[key]}; choose another "
                    "output folder, or give what it was started with to go on"
                )
        if known.get("versions") != now["versions"]:
            _logger.warning(
                "%s: was started with other versions of libraries: the result will not be the same "
                "to the bit",
                self.folder,
            )

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last state on a device, None at the start.

        Raises
        ------
        InputError
            If it is damaged.
        """
        import torch

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
        """Write a state aside, then put it in the place of the last one.

        Raises
        ------
        QuicksilverError
            If weights are not finite; the last state stays.
        InputError
            If the disk is full; the last state stays.
        """
        import torch

        if not self.writes:
            return
        for name, weights in state["training"]["network"].items():
            if not weights.isfinite().all():
                raise QuicksilverError(
                    f"{self.folder}: the training diverged ({name} is not finite); lower the "
                    "learning rate in the recipe and start again in another folder"
                )
        # To memory first: torch reports a full disk as no OSError.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with staged(self.path(STATE)) as part:
            part.write_bytes(buffer.getbuffer())


class Table:
    """A CSV file that grows, a row for each iteration.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        The first is ``iteration``.
    last : int
        Rows of later iterations, and a row that was cut off, are dropped: the training goes on
        after this one.
    writes : bool
        Whether this process writes.
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
    """Return the whole rows of a file that :class:`Table` wrote; none where there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(whole.splitlines())
    return [row for row in reader if None not in row.values() and row.get("iteration")]


class Board:
    """Curves for TensorBoard, where it is installed.

    Parameters
    ----------
    folder : Path
    last : int
        What was logged of later iterations is dropped.
    writes : bool
        Whether this process writes.
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
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard() -> ModuleType | None:
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None


def comparable(facts: Any) -> Any:
    """Return facts without the paths of files: a training may go on from another folder."""
    if isinstance(facts, dict):
        return {key: comparable(value) for key, value in facts.items() if key != "file"}
    if isinstance(facts, list):
        return [comparable(item) for item in facts]
    return facts


_NAMES = {
    "recipe": "numbers in its recipe",
    "role": "purpose",
    "before": "earlier networks",
    "start": "weights at its start",
    "inputs": "images, label maps or momenta",
    "processes": "numbers of processes",
}
