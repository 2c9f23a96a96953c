"""Read and write points in CSV files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import check_readable
from nipype_quicksilver.spatial.tables import number

if TYPE_CHECKING:
    import numpy as np

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class PointTable:
    """The rows of a CSV file with columns `x`, `y` and `z`.

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
        """Return the points, (N, 3), float64, in the units and the frame of the file."""
        import numpy as np

        indices = [self.columns.index(axis) for axis in AXES]
        return np.array([[float(row[i]) for i in indices] for row in self.rows], dtype=np.float64)

    def with_coordinates(self, points: np.ndarray) -> PointTable:
        """Return the table with new coordinates (N, 3) and all other columns unchanged."""
        indices = [self.columns.index(axis) for axis in AXES]
        rows = [list(row) for row in self.rows]
        for row, point in zip(rows, points, strict=True):
            for i, value in zip(indices, point, strict=True):
                row[i] = f"{value:.6f}"
        return PointTable(self.columns, rows)

    def write(self, path: Path) -> None:
        """Write the table as a CSV file."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([self.columns, *self.rows])


def read_points(path: Path) -> PointTable:
    """Read a CSV file of points.

    Parameters
    ----------
    path : Path
        CSV file with one header line that names the columns `x`, `y`, `z` and any others.

    Returns
    -------
    PointTable
        All rows; the three coordinates are numbers within `limits.LARGEST_COORDINATE`.

    Raises
    ------
    InputError
        If the file cannot be read, lacks one of the columns, contains no points, or a
        coordinate is not a finite number, or too large.
    """
    check_readable(path, "points")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            # Empty lines are dropped; line numbers are kept for messages.
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error}); save it as text") from error
    columns = [name.strip() for name in lines[0][1]] if lines else []
    for axis in AXES:
        if columns.count(axis) != 1:
            raise InputError(
                f"{path}: its first line must name the columns x, y and z, each once "
                f"(it reads {','.join(columns)[:80]!r})"
            )
    if len(lines) == 1:
        raise InputError(f"{path}: contains no points; add a line for each")
    indices = [columns.index(axis) for axis in AXES]
    for line, row in lines[1:]:
        if len(row) != len(columns):
            raise InputError(
                f"{path}: line {line} has {len(row)} cells, the first line {len(columns)}"
            )
        for i in indices:
            _check_cell(row[i], f"{path}: line {line}: {columns[i]}")
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
