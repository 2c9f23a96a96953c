"""Label maps for training: aligned to each other, as the fraction of each class in each voxel."""

import math
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import read_labels
from nipype_quicksilver.training.tissues import TissueTable, rows_of_labels

FLUID = 24  # FreeSurfer's label of the fluid around the brain
CLOSING = 4  # 1 mm voxels over which sulci are closed to find the inside of the skull
RIM = 2  # mm of fluid around it, which brain masks include or not
FULL = 255  # a fraction of 1, as a byte
#: Largest side, in voxels, of the blocks whose voxels a byte can count.
LARGEST_FACTOR = 6
SPREAD = 10.0  # mm; points closer together hardly constrain an affine
FEWEST = 4  # classes needed to fit an affine
SMALLEST_FRACTION = 0.9  # of a brain that must lie on the common grid


def read_tissue_fractions(
    paths: Sequence[PathLike], table: TissueTable, *, shape: tuple[int, int, int], factor: int
) -> list[np.ndarray]:
    """Read label maps, align them affinely, and count the classes in each voxel.

    The affines map the centres of mass of the classes onto their mean over the maps.

    Parameters
    ----------
    paths : sequence of path-like
        Label maps in any orientation, of whole heads or of brains.
    table : TissueTable
        Labels that it does not have are background.
    shape : tuple of int
        Shape of the common grid, whose voxels have 1 mm; multiples of `factor`.
    factor : int
        Side of the blocks of voxels, on the common grid, that are counted together.

    Returns
    -------
    list of ndarray
        For each map (C, X, Y, Z), fractions as bytes: :data:`FULL` is the whole voxel, and all are
        0 outside the brain.

    Raises
    ------
    InputError
        If a file cannot be read, has fewer than four of the labels in the table, or does not fit
        into the grid.
    """
    maps = [_read_rows(path, table) for path in paths]
    centres = [_centres(rows, affine, len(table.labels)) for rows, affine in maps]
    mean = _mean([c - np.nanmean(c, axis=0) for c in centres])
    result = []
    for path, (rows, affine), target in zip(paths, maps, centres, strict=True):
        matrix = _least_squares_affine(mean, target)
        common = on_common_grid(rows, affine, table, matrix, shape)
        _check_extent(rows, affine, matrix, common, table, path)
        result.append(count_fractions(common, len(table.labels), factor))
    return result


def _read_rows(path: PathLike, table: TissueTable) -> tuple[np.ndarray, np.ndarray]:
    """Read a label map: rows of the table in the brain's bounding box, RAS, and its affine."""
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
    """Return the centre of mass of each class in RAS mm, NaN for absent classes."""
    inside = np.nonzero(rows >= 0)
    classes_inside = rows[inside]
    counts = np.bincount(classes_inside, minlength=classes).astype(float)
    counts[counts == 0] = np.nan
    sums = [np.bincount(classes_inside, weights=index, minlength=classes) for index in inside]
    return apply_affine(affine, np.column_stack(sums) / counts[:, None])


def _mean(centres: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the known centres, NaN for a class that no map has."""
    stacked = np.stack(centres)
    known = np.isfinite(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _least_squares_affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the affine that maps source points onto target points; rows with NaN are ignored.

    It is regularised towards the identity in directions along which the points hardly vary, as
    across a plane in which all of them lie.
    """
    known = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    start, end = source[known], target[known]
    source_centre, target_centre = start.mean(axis=0), end.mean(axis=0)
    start, change = start - source_centre, (end - target_centre) - (start - source_centre)
    stretch = np.linalg.solve(start.T @ start + SPREAD**2 * np.eye(3), start.T @ change).T
    linear = np.eye(3) + stretch
    return from_matvec(linear, target_centre - linear @ source_centre)


def _check_extent(
    rows: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    common: np.ndarray,
    table: TissueTable,
    path: PathLike,
) -> None:
    """Refuse a brain of which too small a fraction lies on the common grid."""
    scale = abs(np.linalg.det(affine[:3, :3]) / np.linalg.det(matrix[:3, :3]))
    # Without the fluid, of which a label map may have much more than the rim that is kept.
    before, after = (_tissue(part, table).sum() for part in (rows, common))
    fraction = after / (before * scale)
    if fraction < SMALLEST_FRACTION:
        raise InputError(
            f"{path}: only {100 * fraction:.0f}% of this brain lies on the training grid of "
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
    """Resample rows to the common grid, and fill the inside of the skull with fluid.

    Parameters
    ----------
    rows : ndarray
        (X, Y, Z), row of the table, -1 for background.
    affine : ndarray
        4x4, voxel indices of `rows` to RAS mm.
    table : TissueTable
    matrix : ndarray
        4x4, from millimetres about the centre of the common grid to the RAS mm of `affine`.
    shape : tuple of int
        Shape of the common grid, whose voxels have 1 mm.

    Returns
    -------
    ndarray
        (X, Y, Z) on the common grid, row of the table, -1 outside the brain.
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
    """Return the row of the fluid around the brain, -1 if the table has none."""
    return table.labels.index(FLUID) if FLUID in table.labels else -1


def _tissue(rows: np.ndarray, table: TissueTable) -> np.ndarray:
    """Return where there is brain, without the fluid around it."""
    return (rows >= 0) & (rows != _fluid(table))


def _filled(mask: np.ndarray) -> np.ndarray:
    """Return a mask with its holes filled: all but the background that reaches the border.

    Faster than `ndimage.binary_fill_holes`, which grows the background voxel by voxel.
    """
    parts, number = ndimage.label(~mask)
    outside = np.zeros(number + 1, bool)
    for axis in range(3):
        for side in (0, -1):
            outside[parts.take(side, axis=axis)] = True
    outside[0] = False
    return ~outside[parts]


def count_fractions(rows: np.ndarray, classes: int, factor: int) -> np.ndarray:
    """Return the fraction of each class in blocks of voxels.

    Parameters
    ----------
    rows : ndarray
        (X, Y, Z), from -1 for background to `classes` - 1; sides are multiples of `factor`.
    classes : int
        Number of classes.
    factor : int
        Side of a block, at most :data:`LARGEST_FACTOR`.

    Returns
    -------
    ndarray
        (C, x, y, z), fractions as bytes: :data:`FULL` is the whole block.

    Examples
    --------
    >>> rows = np.array([0, 0, 0, 0, 0, 0, 1, -1]).reshape(2, 2, 2)
    >>> count_fractions(rows, 2, 2).ravel().tolist()
    [191, 32]
    """
    if factor > LARGEST_FACTOR:
        raise ValueError(f"blocks of {factor} voxels a side have more voxels than a byte can count")
    blocks = tuple(n // factor for n in rows.shape)
    number = math.prod(blocks)
    # The background is one more class. At one offset each block occurs once, so that adding by
    # index is safe.
    counts = np.zeros((classes + 1) * number, np.uint8)
    block = np.arange(number)
    for offset in np.ndindex(factor, factor, factor):
        row = rows[tuple(slice(start, None, factor) for start in offset)].ravel().astype(np.intp)
        counts[np.where(row < 0, classes, row) * number + block] += 1
    scale = np.rint(np.arange(factor**3 + 1) * (FULL / factor**3)).astype(np.uint8)
    return scale[counts[: classes * number]].reshape(classes, *blocks)
