"""Normalise intensities for the optimiser and the networks."""

from typing import Literal

import numpy as np
from scipy import ndimage

from nipype_quicksilver.errors import InputError

# Intensities are clipped at this multiple of the robust maximum.
UPPER_BOUND = 1.5

#: Percentile of the intensities in the brain that is scaled to 1.
PERCENTILE = 99.5

# Thickness of the rim of a brain, voxels.
_RIM = 3

_BINS = 1024

# Fraction of the border of an image with one value, from which on that is the background.
_CONSTANT = 0.5


def background(data: np.ndarray) -> float:
    """Return the value of the background of an image.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z).

    Returns
    -------
    float
        The most common value at the border of the image, if it fills most of the border and less
        than the whole image; 0 otherwise, as in a head, whose background is noise.
    """
    values = np.nan_to_num(_border(data))
    if values.size == 0:
        return 0.0
    found, counts = np.unique(values, return_counts=True)
    most = float(found[counts.argmax()])
    constant = counts.max() > _CONSTANT * values.size
    return most if constant and np.any(np.nan_to_num(data) != most) else 0.0


def _border(data: np.ndarray) -> np.ndarray:
    """Return the outermost voxels of a volume, (N,); edges are repeated."""
    ends = [np.moveaxis(data, axis, 0)[[0, -1]].ravel() for axis in range(data.ndim) if data.size]
    return np.concatenate(ends) if ends else data.ravel()


def foreground(data: np.ndarray) -> np.ndarray:
    """Return the voxels of an image that are not background: the brain, once extracted.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z).

    Returns
    -------
    ndarray
        (X, Y, Z), bool; false where the image is NaN or its :func:`background`.
    """
    return np.nan_to_num(data) != background(data)


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
        (X, Y, Z), any unit; NaN are treated as 0.
    mask : ndarray, optional
        (X, Y, Z), nonzero inside; default: :func:`foreground`. Voxels outside are set to 0.
    percentile : float
        Percentile inside the mask that is scaled to 1. If there are negative values, the opposite
        percentile is shifted to 0 first.
    equalize : bool
        Replace each value inside the mask by the fraction of the mask that is not brighter.

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


def with_matching_contrast(
    fixed: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Literal["fixed", "moving"] | None]:
    """Invert the contrast of one of two images if they are negatively correlated.

    Local similarity measures are insensitive to opposite contrasts, as of T1- and T2-weighted
    images, except at the dark background: fluid at the surface of the brain is dark like the
    background in one image and bright in the other. Inverting the contrast of the latter makes
    both consistent.

    Parameters
    ----------
    fixed, moving : ndarray
        (X, Y, Z), on the same grid, roughly aligned, normalised by :func:`normalize`.

    Returns
    -------
    fixed, moving : ndarray
        Normalised again if inverted, otherwise the same arrays.
    which : {'fixed', 'moving'} or None
        The inverted image: the one with the brighter rim.
    """
    inside_fixed, inside_moving = foreground(fixed), foreground(moving)
    both = inside_fixed & inside_moving
    if not _correlation(fixed[both], moving[both]) < 0:
        return fixed, moving, None
    if _brightness_of_rim(fixed, inside_fixed) > _brightness_of_rim(moving, inside_moving):
        return _inverted(fixed, inside_fixed), moving, "fixed"
    return fixed, _inverted(moving, inside_moving), "moving"


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two samples; 0 if they are empty or one has no variance."""
    if first.size == 0 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _brightness_of_rim(image: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean intensity of the rim divided by that of the whole brain."""
    rim = inside & ~ndimage.binary_erosion(inside, iterations=_RIM)
    return float(image[rim].mean() / image[inside].mean())


def _inverted(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return an image with inverted contrast, between 0 and its robust maximum of 1."""
    core = ndimage.binary_erosion(inside)
    inverted = np.where(core, 1 - np.minimum(image, 1), 0)
    # Partial volumes with the dark background would become the brightest voxels: at the edge,
    # half of the nearest value is taken instead.
    nearest = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
    edge = inside & ~core
    inverted[edge] = 0.5 * inverted[tuple(nearest[:, edge])]
    return normalize(inverted, inside)


def _equalized(values: np.ndarray) -> np.ndarray:
    """Return for each value the fraction of all values up to the end of its histogram bin."""
    counts, edges = np.histogram(values, bins=_BINS)
    fraction = np.cumsum(counts) / values.size
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
    return fraction[index]
