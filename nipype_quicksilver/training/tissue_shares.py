"""Label maps as training wants them: aligned to each other, the share of each class per voxel."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage

from nipype_quicksilver.data import data_file
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import read_labels

FLUID = 24  # FreeSurfer's code of the fluid around the brain
CLOSING = 4  # voxels of 1 mm over which sulci are bridged to find the inside of the skull
RIM = 2  # mm of fluid around that which a brain mask may or may not hold
FULL = 255
#: Blocks of so many voxels a side can be counted in a byte.
LARGEST_FACTOR = 6
SPREAD = 10.0  # mm; points that are less far apart say little about an affine
FEWEST = 4  # classes that an affine can be fitted to
SMALLEST_SHARE = 0.9  # of a brain that must lie on the common grid


@dataclass(frozen=True)
class TissueTable:
    """The classes of label maps, a row each.

    Attributes
    ----------
    labels : tuple of int
    tissues : tuple of int
        Number of each label's tissue; both sides of the brain share one.
    t1w, t2w : tuple of float
        Mean intensity of each tissue.
    scored : int
        The overlap of the first so many rows counts.
    """

    labels: tuple[int, ...]
    tissues: tuple[int, ...]
    t1w: tuple[float, ...]
    t2w: tuple[float, ...]
    scored: int


def read_tissue_table(path: PathLike | None = None) -> TissueTable:
    """Read what classes there are and what they look like.

    Parameters
    ----------
    path : path-like, optional
        Tab-separated, columns ``label``, ``name``, ``tissue``, ``t1w``, ``t2w``, ``scored``;
        FreeSurfer's segmentation (aseg) unless given.

    Returns
    -------
    TissueTable

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    source = data_file("aseg_tissues.tsv") if path is None else Path(path)
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines, delimiter="\t"))
        if not rows or any(int(row["label"]) < 0 for row in rows):
            raise ValueError("no rows, or negative labels")
        rows.sort(key=lambda row: -int(row["scored"]))
        names = list(dict.fromkeys(row["tissue"] for row in rows))
        first = {row["tissue"]: row for row in reversed(rows)}
        return TissueTable(
            labels=tuple(int(row["label"]) for row in rows),
            tissues=tuple(names.index(row["tissue"]) for row in rows),
            t1w=tuple(float(first[name]["t1w"]) for name in names),
            t2w=tuple(float(first[name]["t2w"]) for name in names),
            scored=sum(int(row["scored"]) > 0 for row in rows),
        )
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check path and rights"
        ) from error
    except (KeyError, TypeError, ValueError) as error:  # also where it is no text
        raise InputError(
            f"{path}: is no table of tissues; it needs the columns label, tissue, t1w, t2w and "
            "scored, and a row for each label, from 0 on"
        ) from error


def read_tissue_shares(
    paths: Sequence[PathLike], table: TissueTable, *, shape: tuple[int, int, int], factor: int
) -> list[np.ndarray]:
    """Read label maps, bring them onto each other affinely, and count the classes per voxel.

    The affines are those that bring the classes' centres of mass onto their mean.

    Parameters
    ----------
    paths : sequence of path-like
        Label maps of any orientation, of whole heads or of brains.
    table : TissueTable
        Labels that it does not have are not brain.
    shape : tuple of int
        Of the common grid of 1 mm, a multiple of `factor`.
    factor : int
        Voxels of the common grid along each axis that are counted together.

    Returns
    -------
    list of ndarray
        For each map (classes, x, y, z), bytes: 255 is all of the voxel. Nothing outside the brain.

    Raises
    ------
    InputError
        If a file cannot be read, has fewer than four of the table's labels, or does not fit into
        the grid.
    """
    maps = [_read_rows(path, table) for path in paths]
    centres = [_centres(rows, affine, len(table.labels)) for rows, affine in maps]
    mean = _mean([c - np.nanmean(c, axis=0) for c in centres])
    result = []
    for path, (rows, affine), own in zip(paths, maps, centres, strict=True):
        matrix = _least_squares_affine(mean, own)
        common = on_common_grid(rows, affine, table, matrix, shape)
        _check_extent(rows, affine, matrix, common, table, path)
        result.append(count_shares(common, len(table.labels), factor))
    return result


def rows_of_labels(labels: np.ndarray, table: TissueTable) -> np.ndarray:
    """Return the row of the table of each voxel, -1 where it has none.

    Examples
    --------
    >>> table = TissueTable((2, 41), (0, 0), (0.9,), (0.4,), 2)
    >>> rows_of_labels(np.array([0, 41, 2, 502, -1]), table).tolist()
    [-1, 1, 0, -1, -1]
    """
    largest = max(table.labels)
    beyond = (labels < 0) | (labels > largest)  # label 0 may be a class, a negative one cannot
    rows = np.full(largest + 2, -1, np.int16)  # the last entry is for all labels beyond
    rows[list(table.labels)] = np.arange(len(table.labels))
    # A wide type: the entry for the others may be no number of the labels' own.
    return rows[np.where(beyond, np.int64(largest + 1), labels).astype(np.int64)]


def _read_rows(path: PathLike, table: TissueTable) -> tuple[np.ndarray, np.ndarray]:
    """Read a label map: rows of the table inside the box of the brain, RAS, and its affine."""
    image = nib.as_closest_canonical(read_labels(path, what="label map"))
    rows = rows_of_labels(np.asanyarray(image.dataobj), table)
    counts = np.bincount(rows[rows >= 0], minlength=1)
    number = int(np.count_nonzero(counts))
    if number < FEWEST:
        raise InputError(
            f"{path}: has {number} of the labels in the table of tissues; give label maps with "
            "these labels, or another table"
        )
    (box,) = ndimage.find_objects((rows >= 0).view(np.int8))
    low = [part.start for part in box]
    # A copy, so that the whole head is not kept in memory.
    return rows[box].copy(), image.affine @ from_matvec(np.eye(3), low)


def _centres(rows: np.ndarray, affine: np.ndarray, classes: int) -> np.ndarray:
    """Return the centre of mass of each class in the world, NaN where there is none."""
    inside = np.nonzero(rows >= 0)
    own = rows[inside]
    counts = np.bincount(own, minlength=classes).astype(float)
    counts[counts == 0] = np.nan
    sums = [np.bincount(own, weights=index, minlength=classes) for index in inside]
    return apply_affine(affine, np.column_stack(sums) / counts[:, None])


def _mean(centres: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the centres that there are, NaN for a class that no map has."""
    stacked = np.stack(centres)
    known = np.isfinite(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _least_squares_affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the affine that maps points onto others; rows with NaN are left out.

    Points that tell nothing of a direction, as where all lie in a plane, leave it as it is.
    """
    known = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    start, end = source[known], target[known]
    middle, offset = start.mean(axis=0), end.mean(axis=0)
    start, change = start - middle, (end - offset) - (start - middle)
    stretch = np.linalg.solve(start.T @ start + SPREAD**2 * np.eye(3), start.T @ change).T
    linear = np.eye(3) + stretch
    return from_matvec(linear, offset - linear @ middle)


def _check_extent(
    rows: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    common: np.ndarray,
    table: TissueTable,
    path: PathLike,
) -> None:
    """Refuse a brain of which the common grid holds too little."""
    scale = abs(np.linalg.det(affine[:3, :3]) / np.linalg.det(matrix[:3, :3]))
    # Not the fluid, of which a label map may hold much more than the rim that is kept.
    before, after = (_tissue(part, table).sum() for part in (rows, common))
    share = after / (before * scale)
    if share < SMALLEST_SHARE:
        raise InputError(
            f"{path}: only {100 * share:.0f}% of this brain lie on the training's grid of "
            f"{'x'.join(map(str, common.shape))} mm; check its voxel sizes and labels, or give a "
            "recipe with a larger grid"
        )


def on_common_grid(
    rows: np.ndarray,
    affine: np.ndarray,
    table: TissueTable,
    matrix: np.ndarray,
    shape: tuple[int, int, int],
) -> np.ndarray:
    """Bring rows to a grid of 1 mm, and fill the inside of the skull with fluid.

    Parameters
    ----------
    rows : ndarray
        (X, Y, Z), row of the table, -1 where there is no brain.
    affine : ndarray
        4x4, voxel indices of `rows` to RAS mm.
    table : TissueTable
    matrix : ndarray
        4x4, from millimetres about the centre of the common grid to the world of `affine`.
    shape : tuple of int
        Of the common grid.

    Returns
    -------
    ndarray
        On the common grid, row of the table, -1 outside the brain.
    """
    centred = from_matvec(np.eye(3), [-(n - 1) / 2 for n in shape])
    to_voxel = np.linalg.inv(affine) @ matrix @ centred
    common = ndimage.affine_transform(
        rows, to_voxel[:3, :3], to_voxel[:3, 3], shape, order=0, mode="constant", cval=-1
    )
    fluid = _fluid(table)
    tissue = _tissue(common, table)
    ball = ndimage.generate_binary_structure(3, 1)
    inside = _filled(ndimage.binary_closing(tissue, ball, iterations=CLOSING))
    common[inside & ~tissue] = fluid
    common[~ndimage.binary_dilation(inside, ball, iterations=RIM)] = -1
    return common


def _fluid(table: TissueTable) -> int:
    """Return the row of the fluid around the brain, -1 where the table has none."""
    return table.labels.index(FLUID) if FLUID in table.labels else -1


def _tissue(rows: np.ndarray, table: TissueTable) -> np.ndarray:
    """Return where there is brain that is no fluid around it."""
    return (rows >= 0) & (rows != _fluid(table))


def _filled(mask: np.ndarray) -> np.ndarray:
    """Return a mask with what it encloses: all but the background that reaches the border.

    One labelling, where `ndimage.binary_fill_holes` grows the background voxel by voxel.
    """
    parts, number = ndimage.label(~mask)
    outside = np.zeros(number + 1, bool)
    for axis in range(3):
        for side in (0, -1):
            outside[parts.take(side, axis=axis)] = True
    outside[0] = False
    return ~outside[parts]


def count_shares(rows: np.ndarray, classes: int, factor: int) -> np.ndarray:
    """Count the rows in blocks of voxels.

    Parameters
    ----------
    rows : ndarray
        (X, Y, Z), from -1 for none to one less than `classes`; sides are multiples of `factor`.
    classes : int
    factor : int
        Side of a block, at most :data:`LARGEST_FACTOR`.

    Returns
    -------
    ndarray
        (classes, x, y, z), bytes: :data:`FULL` is all of the block.

    Examples
    --------
    >>> rows = np.array([0, 0, 0, 0, 0, 0, 1, -1]).reshape(2, 2, 2)
    >>> count_shares(rows, 2, 2).ravel().tolist()
    [191, 32]
    """
    if factor > LARGEST_FACTOR:
        raise ValueError(f"blocks of {factor} voxels a side are more than a byte counts")
    blocks = tuple(n // factor for n in rows.shape)
    number = math.prod(blocks)
    # One class more takes what is no brain. At one offset no block comes twice, so that adding
    # by index is safe.
    counts = np.zeros((classes + 1) * number, np.uint8)
    block = np.arange(number)
    for offset in np.ndindex(factor, factor, factor):
        row = rows[tuple(slice(start, None, factor) for start in offset)].ravel().astype(np.intp)
        counts[np.where(row < 0, classes, row) * number + block] += 1
    scale = np.rint(np.arange(factor**3 + 1) * (FULL / factor**3)).astype(np.uint8)
    return scale[counts[: classes * number]].reshape(classes, *blocks)
