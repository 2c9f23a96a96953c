"""Read images with all checks that a registration needs, and write them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import limits
from nipype_quicksilver.spatial.files import PathLike, staged
from nipype_quicksilver.spatial.forms import set_forms, written_codes
from nipype_quicksilver.spatial.headers import World, open_image, read_data
from nipype_quicksilver.spatial.series import Series, set_time_step, write_volumes, written
from nipype_quicksilver.spatial.voxels import (
    count_missing,
    fill_missing,
    single_volume,
    smallest_integer,
    whole_numbers,
)

__all__ = [
    "image_name",
    "nifti",
    "read_header",
    "read_image",
    "read_labels",
    "read_mask",
    "read_series",
    "save_nifti",
    "write_image",
    "write_series",
]

# Memory for a voxel of an output: the empty image that gives ITK the grid, the resampled float32,
# and its copy for writing.
_OUTPUT_BYTES = 1 + 4 + 4


def image_name(image: SpatialImage) -> str:
    """Return the path of the file that an image was read from, for messages.

    Parameters
    ----------
    image : SpatialImage
        An image read by this module, or any nibabel image.

    Returns
    -------
    str
        Path of the file, or ``"image"`` for an image that exists in memory only.
    """
    return str(image.extra.get("path") or image.get_filename() or "image")


def read_image(path: PathLike, *, what: str = "image", keep_nan: bool = False) -> Nifti1Image:
    """Read a scalar 3-D image; raise an error if it cannot be registered.

    Parameters
    ----------
    path : path-like
        NIfTI-1, NIfTI-2 or MGH file, any orientation; a 4-D file must hold one volume.
    what : str
        Role of the image ("fixed image"), for messages.
    keep_nan : bool
        Keep NaN, and accept equal values, as in a map of measures; otherwise NaN are set to 0 with
        a warning.

    Returns
    -------
    Nifti1Image
        Float32 data (X, Y, Z); world in RAS+ mm, which is both sform and qform.

    Raises
    ------
    InputError
        If the file is missing, unreadable or truncated; if it is not a scalar 3-D image; if it has
        no valid world transform, zero spacing or shear; if voxels are infinite, or all of them
        are equal or NaN.
    """
    source, world = open_image(path, what)
    data = single_volume(read_data(source, path, what, np.float32), path, what)
    missing = count_missing(data, path, what)
    known = data[~np.isnan(data)] if missing else data
    if known.min() == known.max() and not keep_nan:
        value = "zero" if known.flat[0] == 0 else "the same value"
        raise InputError(f"{path}: the {what} is {value} in every voxel; give a real image")
    if missing and not keep_nan:
        data = fill_missing(data, missing, path)
    return _with_world(data, world, path)


def read_series(path: PathLike, *, what: str = "image") -> Nifti1Image:
    """Read a 3-D image or a 4-D series for resampling.

    Parameters
    ----------
    path : path-like
        NIfTI-1, NIfTI-2 or MGH file.
    what : str
        Role of the image, for messages.

    Returns
    -------
    Nifti1Image
        Data (X, Y, Z) or (X, Y, Z, T) in the file's type (scaled files: floats), NaN set to 0
        with a warning; for a series the fourth zoom is the time step in seconds.

    Raises
    ------
    InputError
        As :func:`read_image`, but several volumes and constant images are accepted.
    """
    series = Series.open(path, what)
    limits.check_memory(math.prod(series.shape) * series.dtype.itemsize, path, f"the {what}")
    data = np.empty((*series.shape[:3], len(series)), series.dtype, order="F")
    for t, volume in enumerate(series.volumes()):
        data[..., t] = volume
    image = _with_world(data.reshape(series.shape, order="F"), series.world, path)
    set_time_step(image.header, series.time_step)
    return image


def read_labels(path: PathLike, *, what: str = "labels") -> Nifti1Image:
    """Read a label image.

    Parameters
    ----------
    path : path-like
        NIfTI-1, NIfTI-2 or MGH file.
    what : str
        Role of the labels, for messages.

    Returns
    -------
    Nifti1Image
        Integer data (X, Y, Z): the file's type, or the smallest that fits if integers are stored
        as floats.

    Raises
    ------
    InputError
        As :func:`read_image`; also if values are not integers, or no voxel has a label.
    """
    source, world = open_image(path, what)
    data = single_volume(read_data(source, path, what, None), path, what)
    missing = count_missing(data, path, what)
    if missing:
        data = fill_missing(data, missing, path)
    if data.dtype.kind == "f":
        whole = whole_numbers(data, path, what)
        data = whole.astype(smallest_integer(float(whole.min()), float(whole.max())))
    if not data.any():
        raise InputError(f"{path}: the {what} are zero in every voxel; give a label map")
    return _with_world(data, world, path)


def read_mask(path: PathLike, *, what: str = "mask") -> Nifti1Image:
    """Read a mask: all nonzero voxels belong to it.

    Parameters
    ----------
    path : path-like
        NIfTI-1, NIfTI-2 or MGH file.
    what : str
        Role of the mask, for messages.

    Returns
    -------
    Nifti1Image
        Data (X, Y, Z), uint8, 0 or 1.

    Raises
    ------
    InputError
        As :func:`read_image` (a constant mask is accepted), and if the mask is empty.
    """
    source, world = open_image(path, what)
    data = single_volume(read_data(source, path, what, None), path, what)
    count_missing(data, path, what)
    inside = np.nan_to_num(data) != 0
    if not inside.any():
        raise InputError(f"{path}: the {what} is empty; give one with nonzero voxels")
    return _with_world(inside.astype(np.uint8), world, path)


def read_header(path: PathLike, *, what: str = "image") -> tuple[tuple[int, int, int], Nifti1Image]:
    """Read the geometry of an image without its data, e.g. of a reference image.

    Parameters
    ----------
    path : path-like
        NIfTI-1, NIfTI-2 or MGH file; only its first three dimensions are used.
    what : str
        Role of the image, for messages.

    Returns
    -------
    shape : tuple of int
        (X, Y, Z).
    image : Nifti1Image
        An image without voxels with the affine and the codes, for `like` of :func:`write_image`.

    Raises
    ------
    InputError
        As :func:`read_image`, for the checks of the header.
    """
    source, world = open_image(path, what)
    shape = tuple(map(int, source.shape[:3]))
    if min(shape) < 2:
        raise InputError(f"{path}: the {what} is not 3-D but {source.shape}; give a 3-D image")
    limits.check_memory(
        math.prod(shape) * _OUTPUT_BYTES, path, f"an image on the grid of the {what}"
    )
    empty = _with_world(np.zeros((0, 0, 0), np.uint8), world, path)
    return (int(shape[0]), int(shape[1]), int(shape[2])), empty


def write_image(
    path: PathLike,
    data: np.ndarray,
    affine: np.ndarray,
    *,
    dtype: Any = None,
    like: SpatialImage | None = None,
    intent: str = "none",
    time_step: float | None = None,
) -> Path:
    """Write a NIfTI-1 image; the file is written completely or not at all.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``, in an existing folder.
    data : ndarray
        (X, Y, Z) or (X, Y, Z, T).
    affine : ndarray
        4x4, voxel indices to RAS+ mm.
    dtype : dtype-like, optional
        Type on disk; default: that of `data` (float64 and bool become float32 and uint8). Floats
        are rounded for an integer type.
    like : SpatialImage, optional
        Reference image whose sform and qform codes are copied; a form that is not set, or that
        differs from its affine, counts for nothing. Default: both codes are 1.
    intent : str
        NIfTI intent, by nibabel's name.
    time_step : float, optional
        Seconds between the volumes of a series.

    Returns
    -------
    Path
        The file written; identical data give identical bytes.

    Raises
    ------
    InputError
        If the suffix is not supported, the folder is missing or not writable, or the disk is
        full.
    """
    image = nifti(_for_disk(np.asarray(data), dtype, path), affine, like=like)
    image.header.set_intent(intent)
    if time_step is not None:
        set_time_step(image.header, time_step)
    return save_nifti(path, image)


def write_series(
    path: PathLike,
    volumes: Iterable[np.ndarray],
    shape: tuple[int, ...],
    dtype: Any,
    *,
    like: SpatialImage,
    time_step: float,
) -> Path:
    """Write a series volume by volume, on the grid of another image.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``, in an existing folder.
    volumes : iterable of ndarray
        T volumes (X, Y, Z), which are not kept.
    shape : tuple of int
        (X, Y, Z, T).
    dtype : dtype-like
        Type on disk.
    like, time_step
        As for :func:`write_image`.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        As :func:`write_image`.
    """
    # An array of this shape that needs no memory.
    image = nifti(np.broadcast_to(np.zeros((), dtype), shape), like.affine, like=like)
    set_time_step(image.header, time_step)
    return write_volumes(_checked_name(path), image.header, volumes)


def nifti(data: np.ndarray, affine: np.ndarray, *, like: SpatialImage | None = None) -> Nifti1Image:
    """Create an image with both sform and qform set, in millimetres.

    Parameters
    ----------
    data : ndarray
        Voxels, three dimensions or more.
    affine : ndarray
        4x4, voxel indices to RAS+ mm.
    like : SpatialImage, optional
        Reference image for the codes, see :func:`write_image`.

    Returns
    -------
    Nifti1Image
        In memory.
    """
    codes = written_codes(like.header) if isinstance(like, Nifti1Pair) else (1, 1)
    return _with_world(data, World(np.asarray(affine, float), *codes), None)


def save_nifti(path: PathLike, image: Nifti1Image) -> Path:
    """Save an image under a temporary name in the same folder, then rename it.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``.
    image : Nifti1Image
        What to write.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError, QuicksilverError
        As :func:`write_image`.
    """
    path = _checked_name(path)
    with staged(path) as temporary:
        if path.suffix == ".gz":
            with written(temporary) as stream:
                image.to_stream(stream)
        else:
            nib.save(image, temporary)
    return path


def _checked_name(path: PathLike) -> Path:
    """Return a path; raise an error if images are not written under such a name."""
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(
            f"{path}: images are written as .nii or .nii.gz; give a name with such a suffix"
        )
    return path


def _with_world(data: np.ndarray, world: World, path: PathLike | None) -> Nifti1Image:
    """Create an image with the given world transforms and the path of its file."""
    image = Nifti1Image(data, world.affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    set_forms(image, *world)
    if path is not None:
        image.extra["path"] = str(path)
    return image


def _for_disk(data: np.ndarray, dtype: Any, path: PathLike) -> np.ndarray:
    """Convert data to the type on disk."""
    if dtype is None:
        dtype = {"f8": "f4", "f2": "f4", "b1": "u1"}.get(data.dtype.str[1:], data.dtype)
    target = np.dtype(dtype)
    if target.kind in "iu" and data.dtype.kind != "b":
        whole = np.rint(data) if data.dtype.kind == "f" else data
        limits = np.iinfo(target)
        if whole.size and not (limits.min <= whole.min() and whole.max() <= limits.max):
            raise InputError(f"{path}: values do not fit into {target}; choose a wider type")
        data = whole
    return data.astype(target, copy=False)
