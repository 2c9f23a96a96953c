"""How far off a probabilistic prediction may be."""

import numpy as np


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
