"""Jacobian determinants of displacement fields on any grid: folds and volume changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import Grid, index_box

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_SLAB = 1 << 16  # voxels per slab, so that slabs fit into the cache


@dataclass(frozen=True)
class JacobianSummary:
    """Folds and volume changes of a map.

    Attributes
    ----------
    voxels : int
        Number of voxels that were measured.
    folded : int
        Number of voxels where any of the eight one-sided determinants is not positive.
    folded_percent : float
        The same in per cent.
    minimum : float
        Smallest of all one-sided determinants.
    log_jacobian : dict
        ``mean``, ``sd``, ``min``, ``max`` and percentiles ``p1`` to ``p99`` of the logarithm of the
        determinant; None where no determinant is positive.
    """

    voxels: int
    folded: int
    folded_percent: float
    minimum: float
    log_jacobian: dict[str, float | None]


def minimum_jacobian(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the smallest of the eight one-sided Jacobian determinants at each voxel.

    Each partial derivative is a forward or a backward difference; at the border of the grid, the
    existing one is used for both. The map x -> x + u(x), interpolated between voxels, folds next to
    a voxel if any of the eight determinants is not positive.

    Parameters
    ----------
    field : ndarray
        (X, Y, Z, 3), displacement u, RAS mm.
    grid : Grid
        Its grid, of any orientation and spacing.

    Returns
    -------
    ndarray
        (X, Y, Z), float32; 1 for the identity.
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
        (X, Y, Z), float32: 0 where volume is preserved, positive where x -> x + u(x) expands; NaN
        where the determinant is not positive.
    """
    return _by_slabs(_logarithm, field, grid)


def jacobian_summary(
    field: np.ndarray,
    grid: Grid,
    mask: np.ndarray | None = None,
    logarithm: np.ndarray | None = None,
) -> JacobianSummary:
    """Summarise folds and volume changes of a displacement field.

    Parameters
    ----------
    field : ndarray
        (X, Y, Z, 3), displacement u, RAS mm.
    grid : Grid
        Its grid.
    mask : ndarray, optional
        (X, Y, Z), nonzero where voxels are measured; default: everywhere.
    logarithm : ndarray, optional
        :func:`log_jacobian` of the field; default: it is computed.

    Returns
    -------
    JacobianSummary
        Over the measured voxels.

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
    # Only the mask and the neighbours of its voxels are needed.
    box = index_box(inside, margin=1)
    smallest = minimum_jacobian(field[box], grid.cropped(box))[inside[box]]
    folded = int(np.count_nonzero(smallest <= 0))
    return JacobianSummary(
        voxels=smallest.size,
        folded=folded,
        folded_percent=100 * folded / smallest.size,
        minimum=float(smallest.min()),
        log_jacobian=_statistics(logs[np.isfinite(logs)]),
    )


Column = list[Any]  # of a Jacobian, by component of the map
Measure = Callable[[list[Column], list[Column], np.float32], np.ndarray]


def _by_slabs(measure: Measure, field: np.ndarray, grid: Grid) -> np.ndarray:
    """Compute a function of the derivatives of a map at each voxel, slab by slab.

    Derivatives are those of the world position with respect to the voxel index, in the single
    precision of the field.

    Parameters
    ----------
    measure : callable
        Function of the backward and forward differences of ``x + u``, by axis and component, and of
        the determinant of the identity.
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
    # Axes in descending order of their strides in memory.
    order = np.argsort([-abs(stride) for stride in field.strides[:3]], kind="stable")
    field, steps = field.transpose(*order, 3), grid.affine[:3, :3][:, order].astype(np.float32)
    # By the same arithmetic as below, so that determinants of the identity are exactly 1.
    along = [list(step) for step in steps.T]
    unit = _dot(along[0], _cross(along[1], along[2]))
    planes = field.shape[0]
    result = np.empty(field.shape[:3], dtype=np.float32)
    thickness = max(1, _SLAB // (field.shape[1] * field.shape[2]))
    for start in range(0, planes, thickness):
        stop = min(start + thickness, planes)
        # One more plane on each side, if there is one, for the differences between planes.
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
    """Return backward and forward differences of values plus the step of the voxel positions.

    At the ends, the existing difference is used for both.
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
    """Return the logarithm of the determinant of central differences; NaN where undefined."""
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
