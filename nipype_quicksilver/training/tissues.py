"""The table of tissues: which labels are brain, and their intensities in synthesised images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nipype_quicksilver.data import data_file
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.tables import number, read_rows, whole

# FreeSurfer numbers its structures up to about 15000; a table has an entry for each number.
_LARGEST_LABEL = 10**6


@dataclass(frozen=True)
class TissueTable:
    """The classes of label maps; each row of the table is a class.

    Attributes
    ----------
    labels : tuple of int
        Label of each class.
    groups : tuple of int
        Index of the tissue of each class; the left and right sides have the same tissue.
    t1w, t2w : tuple of float
        Mean intensity of each tissue.
    scored : int
        The first `scored` classes count in the overlap.
    """

    labels: tuple[int, ...]
    groups: tuple[int, ...]
    t1w: tuple[float, ...]
    t2w: tuple[float, ...]
    scored: int


def read_tissue_table(path: PathLike | None = None) -> TissueTable:
    """Read a table of tissues.

    Parameters
    ----------
    path : path-like, optional
        Tab-separated, with the columns ``label``, ``name``, ``tissue``, ``t1w``, ``t2w`` and
        ``scored``. Default: the table of FreeSurfer's segmentation (aseg).

    Returns
    -------
    TissueTable

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    source = data_file("aseg_tissues.tsv") if path is None else Path(path)
    rows = read_rows(source, "table of tissues", "save it as tab-separated text")
    try:
        if not rows or not all(0 <= whole(row["label"]) <= _LARGEST_LABEL for row in rows):
            raise ValueError("no rows, or labels out of bounds")
        rows.sort(key=lambda row: -whole(row["scored"]))
        names = list(dict.fromkeys(row["tissue"] for row in rows))
        first = {row["tissue"]: row for row in reversed(rows)}
        return TissueTable(
            labels=tuple(whole(row["label"]) for row in rows),
            groups=tuple(names.index(row["tissue"]) for row in rows),
            t1w=tuple(number(first[name]["t1w"]) for name in names),
            t2w=tuple(number(first[name]["t2w"]) for name in names),
            scored=sum(whole(row["scored"]) > 0 for row in rows),
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path}: is not a table of tissues; it needs the columns label, tissue, t1w, t2w and "
            f"scored, and a row for each label; labels are from 0 to {_LARGEST_LABEL}"
        ) from error


def rows_of_labels(labels: np.ndarray, table: TissueTable) -> np.ndarray:
    """Return the row of the table for each voxel, -1 for labels that the table does not have.

    Examples
    --------
    >>> table = TissueTable((2, 41), (0, 0), (0.9,), (0.4,), 2)
    >>> rows_of_labels(np.array([0, 41, 2, 502, -1]), table).tolist()
    [-1, 1, 0, -1, -1]
    """
    largest = max(table.labels)
    unknown = (labels < 0) | (labels > largest)  # label 0 may be a class
    rows = np.full(largest + 2, -1, np.int16)  # the last entry is for unknown labels
    rows[list(table.labels)] = np.arange(len(table.labels))
    # In int64, since the data type of the labels may not hold the index of the last entry.
    return rows[np.where(unknown, np.int64(largest + 1), labels).astype(np.int64)]
