"""Open image files and check their headers."""

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.affines import voxel_sizes
from nibabel.freesurfer.mghformat import MGHImage
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.nifti1 import Nifti1Pair
from nibabel.spatialimages import HeaderDataError, SpatialImage

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial import limits
from nipype_quicksilver.spatial.files import PathLike, check_readable
from nipype_quicksilver.spatial.forms import warn_of_itk, written_codes

# Cosine between two voxel axes above which ITK, and so this package, cannot hold an affine.
SHEAR_TOLERANCE = 1e-3

_EXACT_IN_FLOAT32 = 2.0**24
_GZIPPED, _GZIP_MAGIC = (".gz", ".mgz"), b"\x1f\x8b"
# NIfTI-1 and NIfTI-2 start with the size of their header, MGH with its version.
_IMAGE_STARTS = [n.to_bytes(4, order) for n in (348, 540) for order in ("little", "big")]
_IMAGE_STARTS += [(1).to_bytes(4, "big")]
_OTHERWISE_COMPRESSED = (".bz2", ".zst")


class World(NamedTuple):
    """The affine of an image, and the codes of sform and qform, which are both this affine."""

    affine: np.ndarray
    sform_code: int = 1
    qform_code: int = 1


def open_image(path: PathLike, what: str) -> tuple[SpatialImage, World]:
    """Open an image file and check its header.

    Parameters
    ----------
    path : path-like
        NIfTI-1, NIfTI-2 or MGH file.
    what : str
        Role of the image, for messages.

    Returns
    -------
    image : SpatialImage
        The image; its data are still on disk.
    world : World
        The world transform, checked.

    Raises
    ------
    InputError
        If the file or its header cannot be used.
    """
    check_readable(path, what)
    _check_suffix(Path(path))
    try:
        # nibabel repairs headers and reports it on stderr; the checks are made below.
        with LoggingOutputSuppressor():
            image: Any = nib.load(Path(path))
            spacing = _raw_spacing(image)
    except Exception as error:  # parsers raise any exception on other content
        raise InputError(
            f"{path}: not an image that can be read; give an intact NIfTI or MGH file"
        ) from error
    if not isinstance(image, Nifti1Pair | MGHImage):
        raise InputError(f"{path}: neither NIfTI nor MGH; convert it first")
    _check_type(image, path, what)
    limits.check_shape(image.shape, path, what)
    if not (np.isfinite(spacing).all() and np.all(spacing != 0)):
        raise InputError(f"{path}: voxel spacing {spacing.tolist()} in the header; correct it")
    return image, _world(image, path)


def read_data(image: SpatialImage, path: PathLike, what: str, dtype: Any) -> np.ndarray:
    """Read the voxels of an opened image.

    Parameters
    ----------
    image : SpatialImage
        From :func:`open_image`.
    path : path-like
        Its file, for messages.
    what : str
        Role of the image, for messages.
    dtype : dtype-like or None
        Floating type wanted; default: :func:`own_type`.

    Returns
    -------
    ndarray
        All voxels, native byte order.

    Raises
    ------
    InputError
        If the data are truncated or damaged.
    """
    dtype, voxels = np.dtype(dtype or own_type(image)), math.prod(map(int, image.shape))
    check_size(image, path, what)
    limits.check_memory(voxels * _bytes_per_voxel(image, dtype), path, f"the {what}")
    check_whole(image, path, what)
    try:
        # A value beyond the range of float32 becomes infinite, and an error later.
        with np.errstate(over="ignore"):
            return np.array(np.asanyarray(image.dataobj), dtype=dtype, order="F")
    except MemoryError as error:
        raise QuicksilverError(
            f"{path}: there is not enough memory for the {what} of {voxels} voxels; free some, or "
            "give a coarser image"
        ) from error
    except Exception as error:
        raise damaged(path, what) from error


def own_type(image: Any) -> np.dtype[Any]:
    """Return the type that holds the values of an image.

    Parameters
    ----------
    image : SpatialImage
        From :func:`open_image`.

    Returns
    -------
    dtype
        The type on disk; for scaled values float32, or float64 where float32 would not hold all
        integers that are possible.
    """
    stored = np.dtype(image.get_data_dtype()).newbyteorder("=")
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    if stored.kind == "f":
        return stored if (slope, inter) == (1, 0) and stored.itemsize <= 8 else np.dtype(float)
    if (slope, inter) == (1, 0):
        return stored
    bounds = np.iinfo(stored)
    largest = max(abs(float(bounds.min)), float(bounds.max)) * abs(slope) + abs(inter)
    return np.dtype(np.float32 if largest <= _EXACT_IN_FLOAT32 else np.float64)


def _bytes_per_voxel(image: Any, dtype: np.dtype[Any]) -> int:
    """Return the memory that reading takes: as decompressed, as scaled, and as returned."""
    stored, proxy = image.get_data_dtype().itemsize, image.dataobj
    is_mapped = Path(image.file_map["image"].filename).suffix.lower() not in _GZIPPED
    is_scaled = (proxy.slope, proxy.inter) != (1, 0)
    return (0 if is_mapped else stored) + (8 if is_scaled else 0) + dtype.itemsize


def damaged(path: PathLike, what: str) -> InputError:
    """Return the error for a file whose data cannot be read."""
    return InputError(
        f"{path}: the data of the {what} are truncated or damaged; fetch the file again"
    )


def check_size(image: SpatialImage, path: PathLike, what: str) -> None:
    """Raise an error if a header promises more voxels than its file can hold.

    Only the size of the file is looked at; :func:`check_whole` reads a gzipped one.

    Parameters
    ----------
    image : SpatialImage
        From :func:`open_image`.
    path : path-like
        Its file, for messages.
    what : str
        Role of the image, for messages.

    Raises
    ------
    InputError
        If it is truncated, or its header is damaged.
    """
    if not _may_be_whole(image):
        raise damaged(path, what)


def check_whole(image: SpatialImage, path: PathLike, what: str) -> None:
    """Raise an error if a file does not hold all voxels that its header promises.

    Parameters
    ----------
    image : SpatialImage
        From :func:`open_image`.
    path : path-like
        Its file, for messages.
    what : str
        Role of the image, for messages.

    Raises
    ------
    InputError
        If it is truncated, or a gzipped file is damaged.
    """
    try:
        whole = is_whole(image)
    except Exception as error:  # of several libraries
        raise damaged(path, what) from error
    if not whole:
        raise damaged(path, what)


def _check_suffix(file: Path) -> None:
    """Raise an error if a file is gzipped and its name says that it is not, or the reverse."""
    suffix = file.suffix.lower()
    with open(file, "rb") as stream:
        start = stream.read(4)
    if suffix in _GZIPPED and start in _IMAGE_STARTS:
        name = file.with_suffix(".mgh" if suffix == ".mgz" else "").name
        raise InputError(f"{file}: is not gzipped, so its suffix is wrong; rename it to {name}")
    if suffix not in _GZIPPED and start.startswith(_GZIP_MAGIC):
        name = file.with_suffix(".mgz").name if suffix == ".mgh" else f"{file.name}.gz"
        raise InputError(f"{file}: is gzipped, so its suffix is wrong; rename it to {name}")


def is_whole(image: Any) -> bool:
    """Return whether the file of an image holds all voxels that its header promises.

    This is known before memory is asked for. A gzipped file is read to its end, and its checksum
    compared: readers of voxels stop before it.

    Parameters
    ----------
    image : SpatialImage
        Opened by nibabel; its data are still on disk.

    Returns
    -------
    bool
        False for a truncated file, and for a damaged header.
    """
    file = Path(image.file_map["image"].filename)
    if not _may_be_whole(image) or file.suffix.lower() not in _GZIPPED:
        return _may_be_whole(image)
    total = 0
    with igzip.open(file) as stream:
        while part := stream.read(1 << 22):
            total += len(part)
    return _promised(image) <= total


def _may_be_whole(image: Any) -> bool:
    """Return whether a file is large enough for its header, before anything is decompressed."""
    file = Path(image.file_map["image"].filename)
    suffix, size = file.suffix.lower(), file.stat().st_size
    if suffix in _OTHERWISE_COMPRESSED:
        return True
    return _promised(image) <= size * (limits.GZIP_RATIO if suffix in _GZIPPED else 1)


def _promised(image: Any) -> int:
    """Return the size that a header promises, in bytes, before compression."""
    voxels = math.prod(map(int, image.shape))  # MGH stores them as int32, which would overflow
    return int(image.dataobj.offset) + voxels * int(image.get_data_dtype().itemsize)


def _raw_spacing(image: Any) -> np.ndarray:
    """Return the voxel spacing as stored, before nibabel repairs it."""
    files = image.file_map
    with files.get("header", files["image"]).get_prepare_fileobj("rb") as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    field = "delta" if isinstance(image, MGHImage) else "pixdim"
    stored = np.asarray(header[field], dtype=float)
    return stored if field == "delta" else stored[1:4]


def _check_type(image: SpatialImage, path: PathLike, what: str) -> None:
    """Raise an error for colours, complex numbers and units other than millimetres."""
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "in colour (RGB)"
        raise InputError(f"{path}: the {what} is {kind}; give an image with one real channel")
    if isinstance(image, Nifti1Pair):
        unit = image.header["xyzt_units"].item() & 7
        if unit not in (0, 2):
            name = {1: "metres", 3: "micrometres"}.get(unit, f"units of unknown code {unit}")
            raise InputError(f"{path}: the {what} is in {name}; convert its header to millimetres")


def _world(image: Any, path: PathLike) -> World:
    """Return the world transform, by nibabel's rules; raise an error if ITK cannot represent it."""
    if isinstance(image, MGHImage):
        affine = limits.check_world(image.affine, image.shape, path)
        if _shear(affine) > SHEAR_TOLERANCE:
            raise InputError(f"{path}: voxel axes are not orthogonal; resample the image first")
        return World(affine)
    scode, qcode = (int(image.header[name]) for name in ("sform_code", "qform_code"))
    if scode <= 0 and qcode <= 0:
        raise InputError(f"{path}: neither sform nor qform is set; set one so that space is known")
    if scode > 0:
        sform = limits.check_world(image.get_sform(), image.shape, path)
        if _shear(sform) <= SHEAR_TOLERANCE:
            warn_of_itk(image.header, sform, path)
            return World(sform, *written_codes(image.header))
    if qcode <= 0:
        raise InputError(f"{path}: sheared sform and no qform; resample the image first")
    qform = _qform(image, path)
    if qform is None:
        raise InputError(f"{path}: the affine in the header is singular; correct the header")
    if scode > 0:
        warnings.warn(f"{path}: the sform is sheared, the qform is used", UserWarning, stacklevel=4)
    return World(qform, qcode, qcode)


def _qform(image: Any, path: PathLike) -> np.ndarray | None:
    """Return the qform, or None if it is unusable: the sform takes precedence."""
    try:
        return limits.check_world(image.get_qform(), image.shape, path)
    except (InputError, HeaderDataError, ValueError):
        return None


def _shear(affine: np.ndarray) -> float:
    """Return the largest cosine between two voxel axes."""
    cosines = affine[:3, :3] / voxel_sizes(affine)
    return float(np.abs(cosines.T @ cosines - np.eye(3)).max())
