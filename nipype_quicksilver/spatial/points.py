"""Read and write points in CSV files, and in TSV files as of BIDS."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import check_readable
from nipype_quicksilver.spatial.tables import number

if TYPE_CHECKING:
    import numpy as np

AXES = ("x", "y", "z")
UNKNOWN = "n/a"

# BIDS: cells are separated by tabs and never quoted.
_FORMATS: dict[str, dict[str, Any]] = {
    ".csv": {"delimiter": ","},
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None},
}
#: Suffixes of files of points.
SUFFIXES = tuple(_FORMATS)


@dataclass(frozen=True)
class PointTable:
    """The rows of a file with columns `x`, `y` and `z`.

    Attributes
    ----------
    columns : list of str
        Names of all columns, in the order of the file.
    rows : list of list of str
        Cells of each row, as text.
    """

    columns: list[str]
    rows: list[list[str]]

    def coordinates(self) -> np.ndarray:
        """Return the points that are known, (N, 3), float64, in the frame of the file, mm."""
        import numpy as np

        indices = _indices(self.columns)
        points = [[float(row[i]) for i in indices] for row in self.rows if _is_known(row, indices)]
        return np.array(points, dtype=np.float64)

    def with_coordinates(self, points: np.ndarray) -> PointTable:
        """Return the table with new coordinates (N, 3) of known points; the rest is unchanged."""
        indices = _indices(self.columns)
        rows = [list(row) for row in self.rows]
        known = [row for row in rows if _is_known(row, indices)]
        for row, point in zip(known, points, strict=True):
            for i, value in zip(indices, point, strict=True):
                row[i] = f"{value:.6f}"
        return PointTable(self.columns, rows)

    def write(self, path: Path) -> None:
        """Write the table in the format of its name."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n", **_FORMATS[path.suffix.lower()])
            writer.writerows([self.columns, *self.rows])


def _indices(columns: list[str]) -> list[int]:
    return [columns.index(axis) for axis in AXES]


def _is_known(row: list[str], indices: list[int]) -> bool:
    return any(row[i].strip() != UNKNOWN for i in indices)


def read_points(path: Path) -> PointTable:
    """Read a file of points.

    Parameters
    ----------
    path : Path
        CSV or TSV file with one header line that names the columns `x`, `y`, `z` and any others. In
        TSV, points whose three coordinates are ``n/a`` are kept as they are.

    Returns
    -------
    PointTable
        All rows; the coordinates of known points are within `limits.LARGEST_COORDINATE`.

    Raises
    ------
    InputError
        If the file cannot be read, lacks one of the columns, contains no points, or a
        coordinate is not a finite number, or too large.
    """
    check_readable(path, "points")
    _check_units(path)
    form = _FORMATS[path.suffix.lower()]
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            # Empty lines are dropped; line numbers are kept for messages.
            reader = csv.reader(file, strict=True, **form)
            lines = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        kind = path.suffix[1:].upper()
        raise InputError(f"{path}: is not a {kind} file ({error}); save it as text") from error
    columns = [name.strip() for name in lines[0][1]] if lines else []
    for axis in AXES:
        if columns.count(axis) != 1:
            raise InputError(
                f"{path}: its first line must name the columns x, y and z, each once "
                f"(it reads {form['delimiter'].join(columns)[:80]!r})"
            )
    indices, known = _indices(columns), 0
    for line, row in lines[1:]:
        if len(row) != len(columns):
            raise InputError(
                f"{path}: line {line} has {len(row)} cells, the first line {len(columns)}"
            )
        if path.suffix.lower() == ".tsv" and not _is_known(row, indices):
            continue
        known += 1
        for i in indices:
            _check_cell(row[i], f"{path}: line {line}: {columns[i]}")
    if known == 0:
        raise InputError(f"{path}: contains no points; add a line for each")
    return PointTable(columns, [row for _, row in lines[1:]])


def _check_cell(text: str, place: str) -> None:
    """Raise an error if a cell is not a coordinate."""
    # Imported here: the command of light nodes starts without NumPy.
    from nipype_quicksilver.spatial.limits import LARGEST_COORDINATE

    try:
        value = number(text)
    except ValueError as error:
        raise InputError(f"{place} is {text[:40]!r}, not a finite number") from error
    if abs(value) > LARGEST_COORDINATE:
        raise InputError(
            f"{place} is {value:g}, further than {LARGEST_COORDINATE:g} mm; check the units"
        )


def _check_units(path: Path) -> None:
    """Raise an error if BIDS says that the coordinates of electrodes are not in millimetres.

    Parameters
    ----------
    path : Path
        ``*_electrodes.tsv``; the units are in ``*_coordsystem.json`` next to it. Nothing is known
        about other files.

    Raises
    ------
    InputError
        If they are in another unit.
    """
    from nipype_quicksilver.spatial.records import read_json

    sidecar = path.with_name(path.name.replace("_electrodes.tsv", "_coordsystem.json"))
    if sidecar == path or not sidecar.is_file():
        return
    content = read_json(sidecar, "coordinate system", "correct it")
    for name, unit in content.items() if isinstance(content, dict) else ():
        if name.endswith("EEGCoordinateUnits") and unit not in ("mm", UNKNOWN):
            raise InputError(
                f"{path}: its coordinates are in {str(unit)[:20]} according to {sidecar.name}; "
                "convert them to mm"
            )
