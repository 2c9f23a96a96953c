"""Check voxel values that were read from a file; error messages name the file."""

import warnings

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike

#: Largest distance of a label from an integer, for labels that are stored as scaled values.
_NEAR = 1e-3
_EXACT = 2.0**53  # integers beyond this are not exact in any float


def squeezed_shape(
    shape: tuple[int, ...], path: PathLike, what: str, *, dimensions: tuple[int, ...]
) -> tuple[int, ...]:
    """Drop trailing axes of length one; raise an error for other numbers of dimensions."""
    kept = tuple(map(int, shape))  # MGH stores int32, whose products overflow
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if len(kept) < 3 or min(kept) < 1 or min(kept[:3]) < 2:
        raise InputError(f"{path}: the {what} has shape {shape}, not 3-D; give a 3-D image")
    if len(kept) not in dimensions:
        raise InputError(
            f"{path}: the {what} has shape {shape}, more than one volume; extract one volume first"
        )
    return kept


def single_volume(data: np.ndarray, path: PathLike, what: str) -> np.ndarray:
    """Return the only volume; raise an error for several volumes."""
    return data.reshape(squeezed_shape(data.shape, path, what, dimensions=(3,)), order="F")


def check_finite(data: np.ndarray, path: PathLike, what: str) -> None:
    """Raise an error for infinite values."""
    if data.dtype.kind == "f" and np.isinf(data).any():
        raise InputError(f"{path}: the {what} holds infinite values; replace them first")


def count_missing(data: np.ndarray, path: PathLike, what: str) -> int:
    """Return the number of NaN voxels; raise an error for infinite values, or only NaN."""
    check_finite(data, path, what)
    missing = int(np.count_nonzero(np.isnan(data))) if data.dtype.kind == "f" else 0
    if missing == data.size:
        raise only_missing(path, what)
    return missing


def only_missing(path: PathLike, what: str) -> InputError:
    """Return the error for an image of NaN only."""
    return InputError(f"{path}: the {what} is NaN in every voxel; give a real image")


def fill_missing(data: np.ndarray, missing: int, path: PathLike) -> np.ndarray:
    """Set NaN to 0, with a warning."""
    warn_missing(missing, path)
    return np.nan_to_num(data, nan=0.0)


def warn_missing(missing: int, path: PathLike) -> None:
    """Warn of NaN that count as 0."""
    warnings.warn(f"{path}: {missing} voxels are NaN and count as 0", UserWarning, stacklevel=1)


def whole_numbers(data: np.ndarray, path: PathLike, what: str) -> np.ndarray:
    """Return the integers that are stored as floats; raise an error for other values."""
    whole = np.rint(data)
    if np.any(np.abs(data - whole) > _NEAR):
        raise InputError(f"{path}: some values of the {what} are not integers; give a label map")
    if np.any(np.abs(whole) > _EXACT):
        raise InputError(
            f"{path}: some values of the {what} are beyond 2^53, which floats do not hold exactly; "
            "store them as integers"
        )
    return whole


def smallest_integer(low: float, high: float) -> np.dtype:
    """Return the smallest integer type, unsigned if possible, that holds `low` to `high`."""
    for name in ("uint8", "uint16", "int16", "uint32", "int32"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return np.dtype("int64")
