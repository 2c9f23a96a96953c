"""Images whose files do not tell where they lie: Analyze, and NIfTI without a world."""

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
from nipype_quicksilver.spatial.images import read_header, write_image
from nipype_quicksilver.spatial.voxels import squeezed

_HEADERS, _IMAGES = (".hdr", ".hdr.gz"), (".img", ".img.gz")
_HEADER_SIZE = 348  # bytes, of Analyze and NIfTI-1


def as_nifti(path: PathLike, folder: PathLike, like: PathLike | None = None) -> Path:
    """Return an image as a file that tells where it lies: itself, or a copy in NIfTI.

    A file without a world is given that of an image to which it belongs, if both have as many
    voxels along each axis; else that of nibabel: voxels run from right to left, from back to front
    and upwards, around the centre of the image or the origin that SPM has written.

    Parameters
    ----------
    path : path-like
        NIfTI, MGH, or either file of an Analyze or NIfTI pair, of which one may be compressed.
    folder : path-like
        Where a copy goes, under a name of its own; one that is there already and newer than the
        files is used again.
    like : path-like, optional
        Image on whose grid this one should be, as labels are on that of their image; NIfTI or MGH.

    Returns
    -------
    Path
        The file itself where it is no pair and has a world.

    Raises
    ------
    InputError
        If a file is missing, or is no such image.
    """
    path = Path(path).absolute()
    check_readable(path, "image")
    if like is not None:
        check_readable(like, "image that it belongs to")
    pair = _pair(path)
    if pair is None and _has_world(path):
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
        data, affine = np.asanyarray(image.dataobj), _affine(image, like)
    except Exception as error:  # what a parser makes of other bytes cannot be foreseen
        raise InputError(
            f"{path}: not an image that can be read; give an intact Analyze or NIfTI file"
        ) from error
    return write_image(copy, squeezed(data, path, "image", dimensions=(3,)), affine)


def _pair(path: Path) -> tuple[Path, Path] | None:
    """Return header and voxels of an image in two files, whichever of them is given."""
    for suffix in (*_HEADERS, *_IMAGES):
        if not path.name.lower().endswith(suffix):
            continue
        stem = path.name[: -len(suffix)]
        found = [
            next((f for s in suffixes if (f := path.with_name(stem + s)).is_file()), None)
            for suffixes in (_HEADERS, _IMAGES)
        ]
        header, voxels = found
        if header is None or voxels is None:
            missing = _HEADERS[0] if header is None else _IMAGES[0]
            raise InputError(f"{path}: {stem}{missing} is not beside it; copy both files")
        return header, voxels
    return None


def _has_world(path: Path) -> bool:
    """Tell whether a file is another than a NIfTI file without sform and qform.

    What cannot be read is told by whoever reads it.
    """
    try:
        header: Any = nib.load(path).header
    except Exception:
        return True
    if not isinstance(header, nib.Nifti1Header):
        return True
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def _load(header: Path, voxels: Path) -> SpatialImage:
    """Read an image in two files, which nibabel finds by itself only if both are compressed."""
    matrix = header.with_name(header.name.split(".hdr")[0] + ".mat")  # SPM's, if there is one
    names = {"header": header, "image": voxels, "mat": matrix}
    files = {part: nib.FileHolder(str(file)) for part, file in names.items()}
    with files["header"].get_prepare_fileobj("rb") as stream:
        start = stream.read(_HEADER_SIZE)
    is_nifti = Nifti1Pair.header_class.may_contain_header(start)
    kind: Any = Nifti1Pair if is_nifti else Spm99AnalyzeImage
    return kind.from_file_map(files)


def _affine(image: Any, like: PathLike | None) -> np.ndarray:
    """Return the world of an image; nibabel makes one up where there is none."""
    has_world = isinstance(image, Nifti1Pair) and max(
        image.header["sform_code"], image.header["qform_code"]
    )
    affine = np.asarray(image.affine, dtype=float)
    if like is not None and not has_world:
        shape, other = read_header(like)
        affine = other.affine if shape == image.shape[:3] else affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("no voxel spacing")
    return affine
