"""Measures of a registration: label overlap, distance between transforms, uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import Grid, check_same_grid
from nipype_quicksilver.spatial.images import image_name
from nipype_quicksilver.spatial.transforms import displacement_on_grid


@dataclass(frozen=True)
class Spread:
    """Statistics of values over voxels: mean, 99th percentile and maximum."""

    mean: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Return the statistics of an array."""
        return cls(float(values.mean()), float(np.percentile(values, 99)), float(values.max()))


@dataclass(frozen=True)
class TransformDistance:
    """Distance between two transforms over the voxels of a mask.

    Attributes
    ----------
    voxels : int
        Number of voxels that were compared.
    mean, p99, max : float
        Mean, 99th percentile and maximum of the distance, mm.
    """

    voxels: int
    mean: float
    p99: float
    max: float


@dataclass(frozen=True)
class Overlap:
    """Overlap of two sets of voxels.

    Attributes
    ----------
    dice, jaccard : float or None
        None for means over no values.
    target_overlap : float or None
        Fraction of the target covered by the source; None if the target is empty.
    """

    dice: float | None
    jaccard: float | None
    target_overlap: float | None


@dataclass(frozen=True)
class LabelOverlap(Overlap):
    """Overlap of one label in two images, and its volumes in both, mm3."""

    target_mm3: float
    source_mm3: float


@dataclass(frozen=True)
class OverlapSummary:
    """Overlap of two label images.

    Attributes
    ----------
    labels : dict
        :class:`LabelOverlap` by label, as a string, in ascending order.
    mean : Overlap
        Means over the labels.
    total : Overlap
        Over all labels together.
    """

    labels: dict[str, LabelOverlap]
    mean: Overlap
    total: Overlap


def label_overlap(
    target: SpatialImage, source: SpatialImage, labels: Iterable[int] | None = None
) -> OverlapSummary:
    """Compare two label images on one grid.

    Parameters
    ----------
    target : SpatialImage
        Reference labels, integer (X, Y, Z).
    source : SpatialImage
        Labels to compare, e.g. warped labels, on the same grid.
    labels : iterable of int, optional
        Labels to compare; default: all labels of either image except 0.

    Returns
    -------
    OverlapSummary
        By label, the means over labels, and over all labels together.

    Warns
    -----
    UserWarning
        If a requested label is in neither image; it is left out.

    Raises
    ------
    InputError
        If the grids differ, or no label is left.
    """
    check_same_grid(target, source)
    first, second = (np.asanyarray(image.dataobj).ravel(order="F") for image in (target, source))
    in_target, in_source = _count(first), _count(second)
    in_both = _count(first[first == second])
    present = (in_target.keys() | in_source.keys()) - {0}
    wanted = sorted(present if labels is None else {int(label) for label in labels})
    absent = [label for label in wanted if label not in present]
    if absent:
        warnings.warn(f"{image_name(target)}: labels {absent} are absent", stacklevel=2)
    kept = [label for label in wanted if label in present]
    if not kept:
        raise InputError(f"{image_name(target)}: none of the labels is present; check the labels")
    counts = np.array(
        [[in_target.get(k, 0), in_source.get(k, 0), in_both.get(k, 0)] for k in kept], dtype=float
    )
    voxel = float(np.prod(voxel_sizes(target.affine)))
    rows = {
        str(label): LabelOverlap(*_overlaps(*row), row[0] * voxel, row[1] * voxel)
        for label, row in zip(kept, counts.tolist(), strict=True)
    }
    return OverlapSummary(rows, _means(rows), Overlap(*_overlaps(*counts.sum(axis=0).tolist())))


def transform_distance(
    first: sitk.Transform, second: sitk.Transform, mask: SpatialImage
) -> TransformDistance:
    """Measure the distance between the points to which two transforms map the voxels of a mask.

    Parameters
    ----------
    first, second : SimpleITK.Transform
        Map points of the world space of the mask, e.g. from ``read_transform``.
    mask : SpatialImage
        (X, Y, Z) in fixed space, nonzero where points are compared.

    Returns
    -------
    TransformDistance
        Distances in mm.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    inside = np.asanyarray(mask.dataobj) != 0
    if not inside.any():
        raise InputError(f"{image_name(mask)}: the mask is empty; give one with nonzero voxels")
    grid = Grid.from_image(mask)
    difference = displacement_on_grid(first, grid)[inside]
    difference = difference - displacement_on_grid(second, grid)[inside]
    distance = np.linalg.norm(difference.astype(float), axis=-1)
    spread = Spread.of(distance)
    return TransformDistance(distance.size, spread.mean, spread.p99, spread.max)


def _count(labels: np.ndarray) -> dict[int, int]:
    """Return the number of voxels of each label."""
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip((int(v) for v in values), counts.tolist(), strict=True))


def _overlaps(target: float, source: float, both: float) -> tuple[float, float, float | None]:
    """Return Dice, Jaccard and target overlap from numbers of voxels."""
    return (
        2 * both / (target + source),
        both / (target + source - both),
        both / target if target else None,
    )


def _means(rows: dict[str, LabelOverlap]) -> Overlap:
    """Return the means over labels, without undefined values."""

    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in rows.values() if getattr(row, name) is not None]
        return float(np.mean(values)) if values else None

    return Overlap(mean("dice"), mean("jaccard"), mean("target_overlap"))


def standard_deviation(variance: np.ndarray) -> np.ndarray:
    """Return the square root of the summed variances of a displacement's components.

    Parameters
    ----------
    variance : ndarray
        (X, Y, Z, 3), mm^2.

    Returns
    -------
    ndarray
        (X, Y, Z), mm.

    Examples
    --------
    >>> standard_deviation(np.array([[[[4.0, 4.0, 1.0]]]])).tolist()
    [[[3.0]]]
    """
    return np.sqrt(variance.sum(axis=-1))
