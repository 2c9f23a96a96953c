"""What is measured of each method on each pair, with histograms to be added up over pairs."""

from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.measures import jacobian_summary, label_overlap, log_jacobian
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import displacement_on_grid

#: Limits of bins of log10 of the Jacobian determinant, and of the difference to the reference's.
LOG10_EDGES = np.linspace(-1.5, 1.5, 301)
#: Width, mm, of the bins of distances, which begin at 0.
DISTANCE_STEP = 0.01
#: Mm; what is further away is lost in any case.
LARGEST_DISTANCE = 200.0


def measure(
    transform: sitk.Transform,
    *,
    fixed_labels: Nifti1Image,
    moving_labels: Nifti1Image,
    mask: Nifti1Image,
    reference: sitk.Transform | None = None,
) -> dict[str, Any]:
    """Measure the transform of a pair.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Maps fixed to moving points, in LPS.
    fixed_labels, moving_labels : Nifti1Image
        Label maps; the moving ones are warped by nearest neighbour onto the grid of the fixed ones.
    mask : Nifti1Image
        The fixed brain on the fixed image's grid: where maps are measured.
    reference : SimpleITK.Transform, optional
        To whose map the map is compared.

    Returns
    -------
    dict
        ``overlap`` as :func:`label_overlap` has it, ``jacobian`` as :func:`jacobian_summary`;
        ``log10_jacobian``: voxels in each bin of :data:`LOG10_EDGES`, what lies beyond them in the
        first and the last; with a reference also ``difference``, likewise, and ``distance``: voxels
        in bins of :data:`DISTANCE_STEP` mm.

    Raises
    ------
    InputError
        If the mask is empty, or no label is left.
    """
    grid = Grid.from_image(fixed_labels)
    warped = resample(moving_labels, grid, transform, interpolation="NearestNeighbor")
    if not warped.any():
        raise InputError(
            f"{image_name(moving_labels)}: no label comes to lie in {image_name(fixed_labels)}; "
            "check that labels and images are in one space"
        )
    judged = nifti(warped, fixed_labels.affine)
    inside = np.asanyarray(mask.dataobj) != 0
    grid = Grid.from_image(mask)
    field = displacement_on_grid(transform, grid)
    logs = log_jacobian(field, grid)
    found: dict[str, Any] = {
        "overlap": label_overlap(fixed_labels, judged),
        "jacobian": jacobian_summary(field, grid, inside, logs),
        "log10_jacobian": _histogram(logs[inside] / np.log(10)),
    }
    if reference is not None:
        truth = displacement_on_grid(reference, grid)
        change = logs[inside] - log_jacobian(truth, grid)[inside]
        apart = np.linalg.norm((field - truth)[inside].astype(float), axis=-1)
        found["difference"] = _histogram(change / np.log(10))
        apart = np.minimum(apart, LARGEST_DISTANCE)
        found["distance"] = np.bincount((apart / DISTANCE_STEP).astype(int))
    return found


def _histogram(values: np.ndarray) -> np.ndarray:
    """Count values in the bins; there are none of folded voxels, which are NaN."""
    values = values[np.isfinite(values)]
    return np.histogram(np.clip(values, LOG10_EDGES[0], LOG10_EDGES[-1]), LOG10_EDGES)[0]


def percentiles(counts: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Return percentiles of distances from their histogram.

    Parameters
    ----------
    counts : ndarray
        Voxels in bins of :data:`DISTANCE_STEP` mm.
    shares : tuple of float
        Per cent.

    Returns
    -------
    list of float
        Mm, to half a bin.

    Examples
    --------
    >>> percentiles(np.array([0, 98, 0, 2]), (50.0, 99.0))
    [0.015, 0.035]
    """
    sums = np.cumsum(counts)
    bins = np.searchsorted(sums, np.array(shares) / 100 * sums[-1])
    return [round(float((b + 0.5) * DISTANCE_STEP), 4) for b in bins]
