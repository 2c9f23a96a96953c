"""Check voxel values that were read from a file; error messages name the file."""

import warnings

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike


def squeezed(
    data: np.ndarray, path: PathLike, what: str, *, dimensions: tuple[int, ...]
) -> np.ndarray:
    """Drop trailing axes of length one; raise an error for other numbers of dimensions."""
    shape = data.shape
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim < 3 or min(data.shape) < 1 or min(data.shape[:3]) < 2:
        raise InputError(f"{path}: the {what} has shape {shape}, not 3-D; give a 3-D image")
    if data.ndim not in dimensions:
        raise InputError(
            f"{path}: the {what} has shape {shape}, more than one volume; extract one volume first"
        )
    return data


def single_volume(data: np.ndarray, path: PathLike, what: str) -> np.ndarray:
    """Return the only volume; raise an error for several volumes."""
    return squeezed(data, path, what, dimensions=(3,))


def count_missing(data: np.ndarray, path: PathLike, what: str) -> int:
    """Return the number of NaN voxels; raise an error for infinite values, or only NaN."""
    if data.dtype.kind != "f":
        return 0
    if np.isinf(data).any():
        raise InputError(f"{path}: the {what} holds infinite values; replace them first")
    missing = int(np.count_nonzero(np.isnan(data)))
    if missing == data.size:
        raise InputError(f"{path}: the {what} is NaN in every voxel; give a real image")
    return missing


def fill_missing(data: np.ndarray, missing: int, path: PathLike) -> np.ndarray:
    """Set NaN to 0, with a warning."""
    warnings.warn(f"{path}: {missing} voxels are NaN and count as 0", UserWarning, stacklevel=4)
    return np.nan_to_num(data, nan=0.0)


def smallest_integer(low: float, high: float) -> np.dtype:
    """Return the smallest integer type, unsigned if possible, that holds `low` to `high`."""
    for name in ("uint8", "uint16", "int16", "uint32", "int32"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return np.dtype("int64")
