"""Pairs of labelled images to register, and the tables that list them.

Workflows import this module; libraries that read images are imported when they are needed.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from nipype_quicksilver.errors import InputError

if TYPE_CHECKING:
    from nipype_quicksilver.spatial.files import PathLike

REQUIRED = ("fixed", "moving", "fixed_labels", "moving_labels")
#: Columns that all pairs have, or none.
OPTIONAL = ("label_set", "fixed_mask", "moving_mask", "affine")


@dataclass(frozen=True)
class Pair:
    """A moving image to register to a fixed image, both with labels.

    Attributes
    ----------
    name : str
        Unique, of letters, digits, ``_`` and ``-``.
    fixed, moving : Path
        Heads or brains.
    fixed_labels, moving_labels : Path
        Their label maps, in the same world spaces.
    label_set : str
        Name of the set of labels; pairs of one set are averaged.
    fixed_mask, moving_mask : Path, optional
        Brain masks.
    affine : Path, optional
        ITK affine that maps fixed to moving points.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path
    moving_labels: Path
    label_set: str = "labels"
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    affine: Path | None = None


def read_pairs(path: PathLike) -> list[Pair]:
    """Read a table of pairs.

    Parameters
    ----------
    path : path-like
        TSV with a header: the columns of :data:`REQUIRED`, and any of :data:`OPTIONAL`. Paths are
        absolute or relative to the folder of the table.

    Returns
    -------
    list of Pair
        In the order of the table.

    Raises
    ------
    InputError
        If the table has other columns, no rows or empty cells, or a row names a file that does not
        exist, the same image twice, or the pair of another row.
    """
    from nipype_quicksilver.spatial.tables import read_rows

    path = Path(path)
    rows = read_rows(path, "table of pairs", "save it as tab-separated text")
    if not rows:
        raise InputError(f"{path}: has no rows; list one pair per row under a header")
    _check_columns(path, list(rows[0]))
    pairs = [_pair(path, number, row) for number, row in enumerate(rows, start=2)]
    rows_of: dict[Pair, int] = {}
    for number, pair in enumerate(pairs, start=2):
        if pair in rows_of:
            raise InputError(f"{path}: row {number} repeats row {rows_of[pair]}; remove one")
        rows_of[pair] = number
    return named(pairs)


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        hint = "" if len(columns) > 1 else " (columns are separated by tabs)"
        raise InputError(
            f"{path}: lacks the column {', '.join(missing)}{hint}; a table of pairs has "
            f"{', '.join(REQUIRED)}, and may have {', '.join(OPTIONAL)}"
        )
    known = (*REQUIRED, *OPTIONAL)
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise InputError(
            f"{path}: the column {', '.join(unknown)} is not known; rename or remove it (known "
            f"are {', '.join(known)})"
        )
    if len({"fixed_mask", "moving_mask"} & set(columns)) == 1:
        raise InputError(
            f"{path}: has one of the columns fixed_mask and moving_mask; add the other or remove it"
        )


def _pair(path: Path, number: int, row: dict[str, str]) -> Pair:
    """Return the pair of a row; row 1 is the header."""
    cells = {name: value.strip() for name, value in row.items()}
    empty = [name for name, value in cells.items() if not value]
    if empty:
        raise InputError(
            f"{path}: row {number} has no {', '.join(empty)}; fill the cell in"
            + (", or remove the column" if set(empty) <= set(OPTIONAL) else "")
        )
    label_set = cells.pop("label_set", Pair.label_set)
    files = {name: (path.parent / value).absolute() for name, value in cells.items()}
    for name, file in files.items():
        if not os.path.isfile(file):  # pathlib raises an error for names that are too long
            raise InputError(f"{path}: row {number}: {name}: {file}: no such file; correct it")
    if files["fixed"] == files["moving"]:
        raise InputError(f"{path}: row {number} pairs {files['fixed']} with itself; correct it")
    return Pair(name="", label_set=label_set, **files)  # its name depends on the other pairs


def named(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with unique names, made from the names of their files.

    Parameters
    ----------
    pairs : sequence of Pair
        Their names are ignored.

    Returns
    -------
    list of Pair
        Named ``MOVING_to_FIXED``; with the names of one or two parent folders, then with a number,
        if that is not unique.
    """
    for depth in (0, 1, 2):
        names = [f"{_word(p.moving, depth)}_to_{_word(p.fixed, depth)}" for p in pairs]
        if len(set(names)) == len(names):
            break
    total, count = Counter(names), Counter[str]()
    result = []
    for pair, name in zip(pairs, names, strict=True):
        count[name] += 1
        unique = f"{name}-{count[name]}" if total[name] > 1 else name
        result.append(replace(pair, name=unique))
    return result


def _word(path: Path, depth: int) -> str:
    """Return the name of an image, with `depth` parent folders, as one word."""
    stem = path.name.split(".")[0]
    parts = [*path.parent.parts[len(path.parent.parts) - depth :], stem]
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-") or "image"


def write_pairs(path: PathLike, pairs: Sequence[Pair]) -> Path:
    """Write pairs as a table that :func:`read_pairs` reads.

    Parameters
    ----------
    path : path-like
        TSV.
    pairs : sequence of Pair
        All with the same optional columns.

    Returns
    -------
    Path
        The file written.
    """
    from nipype_quicksilver.spatial.files import staged

    present = [name for name in OPTIONAL if getattr(pairs[0], name) is not None]
    columns = (*REQUIRED, *present)
    with staged(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(pair, name) for name in columns] for pair in pairs)
    return Path(path)


def with_orientations(pairs: Sequence[Pair], folder: PathLike) -> list[Pair]:
    """Return the pairs with files that a registration can read, after checking each file.

    Parameters
    ----------
    pairs : sequence of Pair
        Their images may be in Analyze format.
    folder : path-like
        Folder for copies of such images, see `evaluation.analyze.as_nifti`.

    Returns
    -------
    list of Pair
        With the same names.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    from nipype_quicksilver.evaluation.analyze import as_nifti
    from nipype_quicksilver.spatial.images import read_header
    from nipype_quicksilver.spatial.transforms import read_affine

    converted: dict[tuple[Path, Path | None], Path] = {}

    def usable(path: Path, like: Path | None = None) -> Path:
        if (path, like) not in converted:
            converted[path, like] = as_nifti(path, folder, like)
            read_header(converted[path, like])
        return converted[path, like]

    result = []
    for pair in pairs:
        changed: dict[str, Any] = {}
        for side in ("fixed", "moving"):
            image = changed[side] = usable(getattr(pair, side))
            for name in (f"{side}_labels", f"{side}_mask"):
                if getattr(pair, name) is not None:
                    changed[name] = usable(getattr(pair, name), image)
        if pair.affine is not None:
            read_affine(pair.affine)
        result.append(replace(pair, **changed))
    return result


def with_worlds(pairs: Sequence[Pair], folder: PathLike) -> list[Pair]:
    """Call :func:`with_orientations`, as it is called since version 0.2."""
    warn(
        "with_worlds is called with_orientations since version 0.2; it goes with version 0.3",
        DeprecationWarning,
        stacklevel=2,
    )
    return with_orientations(pairs, folder)
