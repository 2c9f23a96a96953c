"""Measures of a method on a pair, with histograms that can be summed over pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.jacobians import JacobianSummary, jacobian_summary, log_jacobian
from nipype_quicksilver.spatial.measures import OverlapSummary, label_overlap
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import displacement_on_grid

#: Edges of the bins of log10 of the Jacobian determinant, and of its difference to the reference.
LOG10_EDGES = np.linspace(-1.5, 1.5, 301)
#: Width of the bins of distances, mm; they start at 0.
DISTANCE_STEP = 0.01
#: Distances are limited to this, mm.
LARGEST_DISTANCE = 200.0


@dataclass(frozen=True)
class Measures:
    """Measures of a transform between two labelled images.

    Attributes
    ----------
    overlap : OverlapSummary
        Of the labels.
    jacobian : JacobianSummary
        In the fixed brain.
    log10_jacobian : list of int
        Number of voxels in each bin of :data:`LOG10_EDGES`; the first and the last one contain
        values beyond them.
    difference : list of int or None
        The same for the difference to the reference; None without a reference.
    distance : list of int or None
        Number of voxels in bins of :data:`DISTANCE_STEP` of the distance to the reference.
    seconds, cpu_seconds : float or None
        Of the registration; None for the affine alone.
    """

    overlap: OverlapSummary
    jacobian: JacobianSummary
    log10_jacobian: list[int]
    difference: list[int] | None = None
    distance: list[int] | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None


def measure(
    transform: sitk.Transform,
    *,
    fixed_labels: Nifti1Image,
    moving_labels: Nifti1Image,
    mask: Nifti1Image,
    reference: sitk.Transform | None = None,
) -> Measures:
    """Measure the transform of a pair.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Maps fixed to moving points, in LPS.
    fixed_labels, moving_labels : Nifti1Image
        Label maps; the moving ones are warped by nearest neighbour onto the grid of the fixed ones.
    mask : Nifti1Image
        The fixed brain on the fixed image's grid, in which the map is measured.
    reference : SimpleITK.Transform, optional
        Transform with which it is compared.

    Returns
    -------
    Measures
        Without times.

    Raises
    ------
    InputError
        If the mask is empty, or no warped label lies in the fixed image.
    """
    grid = Grid.from_image(fixed_labels)
    warped = resample(moving_labels, grid, transform, interpolation="NearestNeighbor")
    if not warped.any():
        raise InputError(
            f"{image_name(moving_labels)}: none of its labels, warped, lies within "
            f"{image_name(fixed_labels)}; check that labels and images are in one space"
        )
    overlap = label_overlap(fixed_labels, nifti(warped, fixed_labels.affine))
    inside = np.asanyarray(mask.dataobj) != 0
    grid = Grid.from_image(mask)
    field = displacement_on_grid(transform, grid)
    logs = log_jacobian(field, grid)
    jacobian = jacobian_summary(field, grid, inside, logs)
    log10_jacobian = _histogram(logs[inside] / np.log(10))
    if reference is None:
        return Measures(overlap, jacobian, log10_jacobian)
    reference_field = displacement_on_grid(reference, grid)
    change = logs[inside] - log_jacobian(reference_field, grid)[inside]
    distance = np.linalg.norm((field - reference_field)[inside].astype(float), axis=-1)
    bins = (np.minimum(distance, LARGEST_DISTANCE) / DISTANCE_STEP).astype(int)
    return Measures(
        overlap,
        jacobian,
        log10_jacobian,
        difference=_histogram(change / np.log(10)),
        distance=np.bincount(bins).tolist(),
    )


def _histogram(values: np.ndarray) -> list[int]:
    """Count values in the bins; folded voxels, which are NaN, are not counted."""
    values = values[np.isfinite(values)]
    counts, _ = np.histogram(np.clip(values, LOG10_EDGES[0], LOG10_EDGES[-1]), LOG10_EDGES)
    return counts.tolist()


def percentiles(counts: np.ndarray, percents: tuple[float, ...]) -> list[float]:
    """Return percentiles of distances from their histogram.

    Parameters
    ----------
    counts : ndarray
        Number of voxels in bins of :data:`DISTANCE_STEP`.
    percents : tuple of float
        Which percentiles.

    Returns
    -------
    list of float
        mm, to half a bin.

    Examples
    --------
    >>> percentiles(np.array([0, 98, 0, 2]), (50.0, 99.0))
    [0.015, 0.035]
    """
    sums = np.cumsum(counts)
    bins = np.searchsorted(sums, np.array(percents) / 100 * sums[-1])
    return [round(float((b + 0.5) * DISTANCE_STEP), 4) for b in bins]
