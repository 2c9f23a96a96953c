"""Intensities as the engine and the networks expect them."""

import numpy as np

from nipype_quicksilver.errors import InputError

# Bright outliers above the robust maximum are clipped here.
UPPER_BOUND = 1.5

#: Percentile of the brain's intensities that becomes 1.
PERCENTILE = 99.5

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


def _equalized(values: np.ndarray) -> np.ndarray:
    """Return for each value the share of all values up to the end of its histogram bin."""
    counts, edges = np.histogram(values, bins=_BINS)
    share = np.cumsum(counts) / values.size
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
    return share[index]
