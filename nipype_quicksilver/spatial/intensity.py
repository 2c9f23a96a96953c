"""Intensities as the engine and the networks expect them."""

from typing import Literal

import numpy as np
from scipy import ndimage

from nipype_quicksilver.errors import InputError

# Bright outliers above the robust maximum are clipped here.
UPPER_BOUND = 1.5

#: Percentile of the brain's intensities that becomes 1.
PERCENTILE = 99.5

# Thickness of a brain's rim, in voxels.
_RIM = 3

_BINS = 1024


def foreground(data: np.ndarray) -> np.ndarray:
    """Return the voxels of an image that are not zero (nor NaN): the brain, once extracted.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z).

    Returns
    -------
    ndarray
        (X, Y, Z), bool.
    """
    return np.nan_to_num(data) != 0


def normalize(
    data: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    percentile: float = PERCENTILE,
    equalize: bool = False,
) -> np.ndarray:
    """Scale intensities so that their robust maximum inside a mask is 1.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z), any unit; NaN count as 0.
    mask : ndarray, optional
        (X, Y, Z), nonzero inside; :func:`foreground` unless given. Outside becomes 0.
    percentile : float
        Percentile inside the mask that becomes 1. Where there are negative values, the opposite
        percentile becomes 0 first.
    equalize : bool
        Replace each value inside the mask by the share of the mask that is not brighter.

    Returns
    -------
    ndarray
        (X, Y, Z), float32, from 0 to :data:`UPPER_BOUND` (to 1 if equalised).

    Raises
    ------
    InputError
        If the mask is empty, or the image has no contrast inside it.

    Examples
    --------
    >>> image = np.array([[[0.0, 50.0, 100.0, 400.0]]])
    >>> normalize(image, percentile=50).ravel().tolist()
    [0.0, 0.5, 1.0, 1.5]
    >>> normalize(image, equalize=True).ravel() * 3
    array([0., 1., 2., 3.], dtype=float32)
    """
    values = np.nan_to_num(np.asarray(data, dtype=np.float32))
    inside = foreground(values) if mask is None else np.asarray(mask) != 0
    brain = values[inside]
    if brain.size == 0:
        raise InputError("the mask is empty; give one that covers the brain")
    low = min(0.0, float(np.percentile(brain, 100 - percentile)))
    high = float(np.percentile(brain, percentile))
    if not high > low:
        raise InputError("the image has no contrast inside its mask; check both")
    result = np.zeros_like(values)
    scaled = np.clip((brain - low) / (high - low), 0.0, UPPER_BOUND)
    result[inside] = _equalized(scaled) if equalize else scaled
    return result


def with_like_contrast(
    fixed: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Literal["fixed", "moving"] | None]:
    """Exchange dark and bright in one of two images if what is dark in one is bright in the other.

    Local measures of similarity do not mind opposite contrasts, as those of T1- and T2-weighted
    images, but for the dark around both brains: where fluid lies between brain and outside, it is
    like the outside in one image, and the very opposite of it in the other. With the contrast of
    that other one exchanged, both say the same there.

    Parameters
    ----------
    fixed, moving : ndarray
        (X, Y, Z), on one grid and roughly aligned, normalised as :func:`normalize` does.

    Returns
    -------
    fixed, moving : ndarray
        Normalised again where exchanged, the same arrays otherwise.
    which : {'fixed', 'moving'} or None
        The exchanged one: that with the brighter rim.
    """
    inside_fixed, inside_moving = foreground(fixed), foreground(moving)
    both = inside_fixed & inside_moving
    if not _correlation(fixed[both], moving[both]) < 0:
        return fixed, moving, None
    if _brightness_of_rim(fixed, inside_fixed) > _brightness_of_rim(moving, inside_moving):
        return _exchanged(fixed, inside_fixed), moving, "fixed"
    return fixed, _exchanged(moving, inside_moving), "moving"


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two samples; 0 where one has no variance or nothing is there."""
    if first.size == 0 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _brightness_of_rim(image: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean of the outermost voxels over that of all voxels."""
    rim = inside & ~ndimage.binary_erosion(inside, iterations=_RIM)
    return float(image[rim].mean() / image[inside].mean())


def _exchanged(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return an image with dark and bright exchanged up to its robust maximum, which is 1."""
    core = ndimage.binary_erosion(inside)
    exchanged = np.where(core, 1 - np.minimum(image, 1), 0)
    # Voxels at the edge were mixed with the dark outside, and would become the brightest of all:
    # they are half of what is next to them instead.
    nearest = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
    edge = inside & ~core
    exchanged[edge] = 0.5 * exchanged[tuple(nearest[:, edge])]
    return normalize(exchanged, inside)


def _equalized(values: np.ndarray) -> np.ndarray:
    """Return for each value the share of all values up to the end of its histogram bin."""
    counts, edges = np.histogram(values, bins=_BINS)
    share = np.cumsum(counts) / values.size
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
    return share[index]
