"""How good a registration is: overlap of labels, folds, distance between transforms."""

import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import Grid, index_box
from nipype_quicksilver.spatial.images import check_same_grid, image_name
from nipype_quicksilver.spatial.transforms import displacement_on_grid

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_SLAB = 1 << 16  # voxels that are worked on at a time, so that they stay in the cache


def label_overlap(
    target: SpatialImage, source: SpatialImage, labels: Iterable[int] | None = None
) -> dict[str, Any]:
    """Compare two label images on one grid.

    Parameters
    ----------
    target : SpatialImage
        True labels, integer (X, Y, Z).
    source : SpatialImage
        Labels to judge, e.g. warped ones, on the same grid.
    labels : iterable of int, optional
        Labels that count; every one but 0 in either image unless given.

    Returns
    -------
    dict
        ``labels``: for each label ``dice``, ``jaccard``, ``target_overlap`` (share of the target
        that the source covers; None where the target lacks the label), ``target_mm3``,
        ``source_mm3``. ``mean``: plain means of the three over labels. ``total``: the three over
        all labels together.

    Warns
    -----
    UserWarning
        If a label asked for is in neither image; it is left out.

    Raises
    ------
    InputError
        If the grids differ, or no label is left.
    """
    check_same_grid(target, source)
    truth, judged = (np.asanyarray(image.dataobj).ravel(order="F") for image in (target, source))
    in_truth, in_judged = _count(truth), _count(judged)
    shared = _count(truth[truth == judged])
    present = (in_truth.keys() | in_judged.keys()) - {0}
    wanted = sorted(present if labels is None else {int(label) for label in labels})
    absent = [label for label in wanted if label not in present]
    if absent:
        warnings.warn(f"{image_name(target)}: labels {absent} are absent", stacklevel=2)
    kept = [label for label in wanted if label in present]
    if not kept:
        raise InputError(f"{image_name(target)}: none of the labels is present; check the labels")
    counts = np.array(
        [[in_truth.get(k, 0), in_judged.get(k, 0), shared.get(k, 0)] for k in kept], dtype=float
    )
    voxel = float(np.prod(voxel_sizes(target.affine)))
    rows = {
        label: {**_overlap(*row), "target_mm3": row[0] * voxel, "source_mm3": row[1] * voxel}
        for label, row in zip(kept, counts.tolist(), strict=True)
    }
    return {"labels": rows, "mean": _means(rows), "total": _overlap(*counts.sum(axis=0).tolist())}


def minimum_jacobian(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the smallest of the eight one-sided Jacobian determinants at each voxel.

    Each partial derivative is a forward or a backward difference; at the border of the grid both
    are the one that exists. The map x -> x + u(x), interpolated between voxels, folds next to a
    voxel where any of the eight determinants is not positive.

    Parameters
    ----------
    field : ndarray
        (X, Y, Z, 3), displacement u, RAS mm.
    grid : Grid
        Its grid, of any orientation and spacing.

    Returns
    -------
    ndarray
        (X, Y, Z), float32; 1 where nothing moves.
    """
    return _by_slabs(_smallest_of_eight, field, grid)


def log_jacobian(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the logarithm of the Jacobian determinant, by central differences.

    Parameters
    ----------
    field : ndarray
        (X, Y, Z, 3), displacement u, RAS mm.
    grid : Grid
        Its grid, of any orientation and spacing.

    Returns
    -------
    ndarray
        (X, Y, Z), float32: 0 where volume is kept, positive where x -> x + u(x) expands; NaN
        where the determinant is not positive.
    """
    return _by_slabs(_logarithm, field, grid)


def jacobian_summary(
    field: np.ndarray,
    grid: Grid,
    mask: np.ndarray | None = None,
    logarithm: np.ndarray | None = None,
) -> dict[str, Any]:
    """Summarise folds and volume changes of a displacement field.

    Parameters
    ----------
    field : ndarray
        (X, Y, Z, 3), displacement u, RAS mm.
    grid : Grid
        Its grid.
    mask : ndarray, optional
        (X, Y, Z), nonzero where voxels count; all unless given.
    logarithm : ndarray, optional
        :func:`log_jacobian` of the field, where the caller has it already.

    Returns
    -------
    dict
        ``voxels``; ``folded`` (any of the eight one-sided determinants <= 0) and
        ``folded_percent``; ``minimum`` of the eight; ``log_jacobian`` with ``mean``, ``sd``,
        ``min``, ``max`` and percentiles ``p1`` to ``p99`` (None where no determinant is positive).

    Raises
    ------
    InputError
        If the mask is empty.
    """
    inside = np.ones(grid.shape, dtype=bool) if mask is None else np.asarray(mask) != 0
    if not inside.any():
        raise InputError("the mask covers no voxel of the displacement field; give one that does")
    if logarithm is None:
        logarithm = log_jacobian(field, grid)
    logs = logarithm[inside].astype(float)
    # What is around the mask does not count, but for the neighbours of its voxels.
    box = index_box(inside, margin=1)
    smallest = minimum_jacobian(field[box], grid.cropped(box))[inside[box]]
    folded = int(np.count_nonzero(smallest <= 0))
    return {
        "voxels": smallest.size,
        "folded": folded,
        "folded_percent": 100 * folded / smallest.size,
        "minimum": float(smallest.min()),
        "log_jacobian": _statistics(logs[np.isfinite(logs)]),
    }


def transform_distance(
    first: sitk.Transform, second: sitk.Transform, mask: SpatialImage
) -> dict[str, float]:
    """Measure how far apart two transforms send the voxels of a mask.

    Parameters
    ----------
    first, second : SimpleITK.Transform
        Map points of the mask's world to another, e.g. from ``read_transform``.
    mask : SpatialImage
        (X, Y, Z) in fixed space, nonzero where points count.

    Returns
    -------
    dict
        ``voxels``, and ``mean``, ``p99``, ``max`` of the distance, mm.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    inside = np.asanyarray(mask.dataobj) != 0
    if not inside.any():
        raise InputError(f"{image_name(mask)}: the mask is empty; give one with nonzero voxels")
    grid = Grid.from_image(mask)
    apart = displacement_on_grid(first, grid)[inside] - displacement_on_grid(second, grid)[inside]
    distance = np.linalg.norm(apart.astype(float), axis=-1)
    return {
        "voxels": int(distance.size),
        "mean": float(distance.mean()),
        "p99": float(np.percentile(distance, 99)),
        "max": float(distance.max()),
    }


def _count(labels: np.ndarray) -> dict[int, int]:
    """Return how many voxels each label has."""
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip((int(v) for v in values), counts.tolist(), strict=True))


def _overlap(target: float, source: float, shared: float) -> dict[str, float | None]:
    """Return the three measures of overlap from numbers of voxels."""
    return {
        "dice": 2 * shared / (target + source),
        "jaccard": shared / (target + source - shared),
        "target_overlap": shared / target if target else None,
    }


def _means(rows: dict[int, dict[str, Any]]) -> dict[str, float | None]:
    """Return the means over labels, of the values that exist."""
    means: dict[str, float | None] = {}
    for name in ("dice", "jaccard", "target_overlap"):
        values = [row[name] for row in rows.values() if row[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


Column = list[Any]  # of a Jacobian, by component of the map
Measure = Callable[[list[Column], list[Column], np.float32], np.ndarray]


def _by_slabs(measure: Measure, field: np.ndarray, grid: Grid) -> np.ndarray:
    """Measure the derivatives of a map at each voxel, slab by slab.

    The derivatives are those of the position in the world by the voxel's index. In single
    precision, that of the field: the difference of neighbours loses nothing of it.

    Parameters
    ----------
    measure : callable
        Given backward and forward differences of ``x + u``, by axis and component, and the
        determinant that the identity has.
    field : ndarray
        (X, Y, Z, 3), displacement u, RAS mm.
    grid : Grid
        Its grid.

    Returns
    -------
    ndarray
        (X, Y, Z), float32.
    """
    if field.shape != (*grid.shape, 3):
        raise ValueError(f"a field of shape {field.shape} does not fit a grid of {grid.shape}")
    # Axes from far to near in memory.
    order = np.argsort([-abs(stride) for stride in field.strides[:3]], kind="stable")
    field, steps = field.transpose(*order, 3), grid.affine[:3, :3][:, order].astype(np.float32)
    # By the same arithmetic as below, so that it is 1 exactly where nothing moves.
    along = [list(step) for step in steps.T]
    unit = _dot(along[0], _cross(along[1], along[2]))
    planes = field.shape[0]
    result = np.empty(field.shape[:3], dtype=np.float32)
    thickness = max(1, _SLAB // (field.shape[1] * field.shape[2]))
    for start in range(0, planes, thickness):
        stop = min(start + thickness, planes)
        # One plane more on each side, where there is one, for the differences across planes.
        low, high = max(start - 1, 0), min(stop + 1, planes)
        slab = np.moveaxis(field[low:high], -1, 0).astype(np.float32, order="C")
        inner = slice(start - low, stop - low)
        pairs = [[_one_sided(slab[c], axis, steps[c, axis]) for c in range(3)] for axis in range(3)]
        backward, forward = (
            [[pair[side][inner] for pair in row] for row in pairs] for side in (0, 1)
        )
        result[start:stop] = measure(backward, forward, unit)
    return result.transpose(np.argsort(order))


def _one_sided(values: np.ndarray, axis: int, step: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Return backward and forward differences of ``values``, plus a step of the voxels' positions.

    At an end, both are the one that exists.
    """
    size = values.shape[axis]
    steps = np.zeros([n + (k == axis) for k, n in enumerate(values.shape)], np.float32)
    inside = np.moveaxis(steps, axis, 0)
    if size > 1:
        moved = np.moveaxis(values, axis, 0)
        np.subtract(moved[1:], moved[:-1], out=inside[1:-1])
        inside[0], inside[-1] = inside[1], inside[-2]
    if step:
        steps += step
    return (
        np.moveaxis(inside[:size], 0, axis),
        np.moveaxis(inside[1:], 0, axis),
    )


def _smallest_of_eight(
    backward: list[Column], forward: list[Column], unit: np.float32
) -> np.ndarray:
    """Return the smallest determinant of all combinations of one-sided differences."""
    x, y, z = zip(backward, forward, strict=True)
    crosses = [_cross(*pair) for pair in itertools.product(y, z)]
    keep = np.minimum if unit > 0 else np.maximum
    smallest = _dot(x[0], crosses[0])
    for column, cross in itertools.product(x, crosses):
        keep(smallest, _dot(column, cross), out=smallest)
    return smallest / unit


def _logarithm(backward: list[Column], forward: list[Column], unit: np.float32) -> np.ndarray:
    """Return the logarithm of the determinant of central differences; NaN where there is none."""
    x, y, z = (
        [b + f for b, f in zip(*pair, strict=True)] for pair in zip(backward, forward, strict=True)
    )
    determinant = _dot(x, _cross(y, z)) / (8 * unit)
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = np.log(determinant)
    logarithm[~(determinant > 0)] = np.nan
    return logarithm


def _cross(y: Column, z: Column) -> Column:
    return [y[1] * z[2] - y[2] * z[1], y[2] * z[0] - y[0] * z[2], y[0] * z[1] - y[1] * z[0]]


def _dot(x: Column, y: Column) -> Any:
    return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]


def _statistics(values: np.ndarray) -> dict[str, float | None]:
    """Return mean, standard deviation, extremes and percentiles."""
    names = ["mean", "sd", "min", "max", *(f"p{p}" for p in _PERCENTILES)]
    if values.size == 0:
        return dict.fromkeys(names)
    numbers = [values.mean(), values.std(), values.min(), values.max()]
    numbers += list(np.percentile(values, _PERCENTILES))
    return dict(zip(names, map(float, numbers), strict=True))
