"""Images without orientation: Analyze, and NIfTI without sform and qform, converted to NIfTI."""

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Pair
from nibabel.spatialimages import SpatialImage
from nibabel.spm99analyze import Spm99AnalyzeImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike, check_readable
from nipype_quicksilver.spatial.headers import is_whole
from nipype_quicksilver.spatial.images import read_header, write_image
from nipype_quicksilver.spatial.voxels import single_volume

_HEADERS, _IMAGES = (".hdr", ".hdr.gz"), (".img", ".img.gz")
_HEADER_SIZE = 348  # bytes, of Analyze and NIfTI-1


def as_nifti(path: PathLike, folder: PathLike, like: PathLike | None = None) -> Path:
    """Return an image as a file with an orientation: the file itself, or a copy in NIfTI.

    A file without orientation gets that of the image it belongs to, if both have the same shape;
    otherwise that of nibabel: voxels run from right to left, from posterior to anterior and from
    inferior to superior, around the centre of the image or the origin that SPM has written.

    Parameters
    ----------
    path : path-like
        NIfTI, MGH, or either file of an Analyze or NIfTI pair, of which one may be compressed.
    folder : path-like
        Folder for the copy, which gets a unique name; an existing copy that is newer than the files
        is used again.
    like : path-like, optional
        Image on whose grid this one should be, such as the image of a label map; NIfTI or MGH.

    Returns
    -------
    Path
        The file itself if it is a single file with an orientation.

    Raises
    ------
    InputError
        If a file is missing, or is not such an image.
    """
    path = Path(path).absolute()
    check_readable(path, "image")
    if like is not None:
        check_readable(like, "image that it belongs to")
    pair = _pair(path)
    if pair is None and _has_orientation(path):
        return path
    stem = path.name.split(".")[0]
    digest = hashlib.sha256(f"{path}|{like}".encode()).hexdigest()[:8]
    copy = Path(folder) / f"{stem}-{digest}.nii.gz"
    sources = pair or (path, path)
    used = sources if like is None else (*sources, Path(like))
    if copy.exists() and copy.stat().st_mtime > max(file.stat().st_mtime for file in used):
        return copy
    try:
        image: Any = _load(*sources) if pair else nib.load(path)
        if not is_whole(image):
            raise ValueError("the file is shorter than its header says")
        data, affine = np.asanyarray(image.dataobj), _affine(image, like)
    except Exception as error:  # a parser may raise anything on other bytes
        raise InputError(
            f"{path}: not an image that can be read; give an intact Analyze or NIfTI file"
        ) from error
    return write_image(copy, single_volume(data, path, "image"), affine)


def _pair(path: Path) -> tuple[Path, Path] | None:
    """Return header and voxels of an image in two files, given either of them."""
    for suffix in (*_HEADERS, *_IMAGES):
        if not path.name.lower().endswith(suffix):
            continue
        stem = path.name[: -len(suffix)]
        files = [
            next((f for s in suffixes if (f := path.with_name(stem + s)).is_file()), None)
            for suffixes in (_HEADERS, _IMAGES)
        ]
        header, voxels = files
        if header is None or voxels is None:
            missing = _HEADERS[0] if header is None else _IMAGES[0]
            raise InputError(f"{path}: {stem}{missing} is not in the same folder; copy both files")
        return header, voxels
    return None


def _has_orientation(path: Path) -> bool:
    """Return whether a file is anything but a NIfTI file without sform and qform.

    Files that cannot be read are refused later, when they are read.
    """
    try:
        header: Any = nib.load(path).header
    except Exception:
        return True
    if not isinstance(header, nib.Nifti1Header):
        return True
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def _load(header: Path, voxels: Path) -> SpatialImage:
    """Read an image in two files; nibabel finds them only if both or none are compressed."""
    matrix = header.with_name(header.name.split(".hdr")[0] + ".mat")  # of SPM, if it exists
    names = {"header": header, "image": voxels, "mat": matrix}
    files = {part: nib.FileHolder(str(file)) for part, file in names.items()}
    with files["header"].get_prepare_fileobj("rb") as stream:
        start = stream.read(_HEADER_SIZE)
    is_nifti = Nifti1Pair.header_class.may_contain_header(start)
    kind: Any = Nifti1Pair if is_nifti else Spm99AnalyzeImage
    return kind.from_file_map(files)


def _affine(image: Any, like: PathLike | None) -> np.ndarray:
    """Return the affine of an image; nibabel invents one where there is none."""
    is_oriented = isinstance(image, Nifti1Pair) and max(
        image.header["sform_code"], image.header["qform_code"]
    )
    affine = np.asarray(image.affine, dtype=float)
    if like is not None and not is_oriented:
        shape, other = read_header(like)
        affine = other.affine if shape == image.shape[:3] else affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("no voxel spacing")
    return affine
