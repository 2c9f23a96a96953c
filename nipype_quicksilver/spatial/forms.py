"""The two forms of a NIfTI header: the sform counts here; ITK, and so ANTs, may take the qform.

An image in memory, and every image that is written, has one world: both forms are its affine.
"""

import warnings

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.spatialimages import HeaderDataError

from nipype_quicksilver.spatial.files import PathLike

#: Fraction of a voxel by which two forms may differ: a qform is rounded.
ROUNDING = 0.1

# Largest deviation of the products of ITK's axes from those of orthogonal ones.
_ITK_TOLERANCE = 1e-4
_ITK_ORIGIN = 1e-5  # mm

_SCANNER = 1  # code of the world of the scanner

_REMEDY = (
    "copy the sform into the qform (fslorient -copysform2qform, or "
    "image.set_qform(image.affine) of nibabel)"
)


def itk_affine(header: Nifti1Header) -> np.ndarray | None:
    """Return the affine that ITK 5.4 reads from a header.

    Directions and origin are those of the sform if its axes are orthogonal, and there is no qform,
    or the code of the sform is 1, or the forms are similar; otherwise those of the qform. Voxel
    sizes are always those of the header.

    Parameters
    ----------
    header : Nifti1Header
        With at least one code that is not 0.

    Returns
    -------
    ndarray or None
        4x4, voxel indices to RAS+ mm; None if ITK refuses the header, since it has a sheared sform
        and no qform.

    Raises
    ------
    HeaderDataError, ValueError
        If ITK takes the qform, and it is not valid.
    """
    scode, qcode = int(header["sform_code"]), int(header["qform_code"])
    if scode > 0 and (qcode <= 0 or scode == _SCANNER or _same_lines(header)):
        sform = header.get_sform()
        axes = _axes(sform)
        if np.abs(axes @ axes.T - np.eye(3)).max() <= _ITK_TOLERANCE:
            return from_matvec(axes * np.abs(header["pixdim"][1:4]), sform[:3, 3])
    return np.asarray(header.get_qform(), float) if qcode > 0 else None


def _axes(affine: np.ndarray) -> np.ndarray:
    return np.asarray(affine[:3, :3] / voxel_sizes(affine))


def _same_lines(header: Nifti1Header) -> bool:
    """Return whether both forms have one origin, and axes that are parallel, whatever their sign.

    This is what ITK calls similar forms.
    """
    sform, qform = header.get_sform(), np.asarray(header.get_qform(), float)
    products = np.abs(_axes(sform).T @ _axes(qform))
    same_origin = np.abs(sform[:3, 3] - qform[:3, 3]).max() <= _ITK_ORIGIN
    return bool(same_origin and np.abs(products - np.eye(3)).max() <= _ITK_TOLERANCE)


def distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance between corresponding voxel centres of two grids.

    Parameters
    ----------
    first, second : ndarray
        4x4, voxel indices to world, mm.
    shape : tuple of int
        Number of voxels along the three axes.

    Returns
    -------
    float
        In mm, at any voxel.
    """
    # The distance is convex in the index: it is largest at a corner.
    sizes = np.array((*shape, 1, 1)[:3])  # of images that are refused later, too
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (sizes - 1)
    difference = apply_affine(first, corners) - apply_affine(second, corners)
    return float(np.linalg.norm(difference, axis=1).max())


def agree(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Return whether two affines differ by no more than rounding; parameters as `distance`."""
    return distance(first, second, shape) <= ROUNDING * float(voxel_sizes(first).min())


def written_codes(header: Nifti1Header) -> tuple[int, int]:
    """Return the codes of sform and qform of an image whose forms are both its affine.

    Parameters
    ----------
    header : Nifti1Header
        Of the image itself, or of another one in the same world.

    Returns
    -------
    tuple of int
        The codes of the header; a form that is not set, or that is not the one that counts, takes
        the code of the other one.
    """
    scode, qcode = int(header["sform_code"]), int(header["qform_code"])
    if scode <= 0 or qcode <= 0:
        return (max(scode, qcode, 0) or _SCANNER,) * 2
    try:
        same = agree(header.get_sform(), header.get_qform(), header.get_data_shape())
    except (HeaderDataError, ValueError):
        same = False
    return (scode, qcode) if same else (scode, scode)


def set_forms(image: Nifti1Image, affine: np.ndarray, scode: int, qcode: int) -> None:
    """Set both forms of an image to an affine, so that all programs read the same world.

    Parameters
    ----------
    image : Nifti1Image
        Changed in place.
    affine : ndarray
        4x4, voxel indices to RAS+ mm.
    scode, qcode : int
        Codes of sform and qform. The qform is not set where rounding would move the image, as in
        rotations by almost 180 degrees.
    """
    image.set_qform(affine, qcode)
    # Last: nibabel then takes the image's affine from the sform.
    image.set_sform(affine, scode)
    alone = image.header.copy()
    alone["qform_code"] = 0
    if not agree(affine, image.get_qform(), image.shape) and itk_affine(alone) is not None:
        image.header["qform_code"] = 0


def is_same_for_itk(header: Nifti1Header, affine: np.ndarray) -> bool:
    """Return whether ITK reads an affine from a header, but for rounding.

    Parameters
    ----------
    header : Nifti1Header
        Header of an image.
    affine : ndarray
        4x4, the affine that counts here.

    Returns
    -------
    bool
        False also if ITK refuses the header.
    """
    try:
        theirs = itk_affine(header)
    except (HeaderDataError, ValueError):
        return False
    return theirs is not None and agree(affine, theirs, header.get_data_shape())


def warn_of_itk(header: Nifti1Header, affine: np.ndarray, path: PathLike) -> None:
    """Warn if ITK sees an image elsewhere, or refuses it; parameters as `is_same_for_itk`.

    Warns
    -----
    UserWarning
        With the distance.
    """
    if not is_same_for_itk(header, affine):
        # From one line of code for all readers, so that each file is reported once.
        warnings.warn(f"{path}: {_difference(header, affine)}", UserWarning, stacklevel=1)


def _difference(header: Nifti1Header, affine: np.ndarray) -> str:
    """Describe how ITK reads a header that it does not read as this package does."""
    try:
        theirs = itk_affine(header)
    except (HeaderDataError, ValueError):
        return f"the qform, which ITK and ANTs use instead of the sform, is not valid; {_REMEDY}"
    if theirs is None:
        return (
            "the voxel axes are not quite orthogonal: ITK and ANTs refuse it; before they read "
            f"it, {_REMEDY}"
        )
    apart = distance(affine, theirs, header.get_data_shape())
    return (
        f"sform and qform differ: ITK and ANTs place the image {apart:.3g} mm from where it is by "
        f"the sform, which is used here; before they apply a transform to it, {_REMEDY}"
    )
