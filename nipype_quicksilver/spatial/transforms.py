"""Read, write, compose and evaluate ITK transforms; points are in RAS+ millimetres.

ITK's own frame is LPS. Matrices and fields are converted in this module, images in
:class:`~nipype_quicksilver.spatial.grids.Grid`; all other modules use RAS+.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Pair

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import AFFINE_SUFFIXES
from nipype_quicksilver.spatial import limits
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import LPS, Grid
from nipype_quicksilver.spatial.headers import open_image, read_data
from nipype_quicksilver.spatial.images import nifti, save_nifti
from nipype_quicksilver.spatial.itk import affine_matrix, map_points, read_itk, write_itk

__all__ = [
    "MOMENTUM",
    "affine_matrix",
    "affine_transform",
    "compose",
    "compose_ants",
    "displacement_on_grid",
    "displacement_transform",
    "map_points",
    "read_affine",
    "read_displacement",
    "read_transform",
    "write_affine",
    "write_composite",
    "write_displacement",
]

MOMENTUM = "momentum"  # NIfTI intent name that distinguishes momenta from displacement fields


def read_affine(path: PathLike, *, allow_reflection: bool = True) -> np.ndarray:
    """Read a linear ITK transform.

    Parameters
    ----------
    path : path-like
        ITK or ANTs ``.mat``, ``.txt``, ``.tfm`` or ``.h5`` file with only linear transforms.
    allow_reflection : bool
        Whether to accept a matrix with a negative determinant.

    Returns
    -------
    ndarray
        4x4, maps fixed to moving points, RAS+ mm (the direction in which ITK stores it).

    Raises
    ------
    InputError
        If the file is missing, is not a linear, invertible 3-D ITK transform, or is beyond the
        limits.
    """
    transform = read_itk(path)
    if not transform.IsLinear():
        raise InputError(f"{path}: is not a linear transform; give an affine")
    matrix = affine_matrix(transform)
    if np.linalg.det(matrix[:3, :3]) < 0 and not allow_reflection:
        raise InputError(f"{path}: contains a reflection; give an affine without reflection")
    return matrix


def affine_transform(matrix: np.ndarray) -> sitk.AffineTransform:
    """Return the SimpleITK transform of a matrix.

    Parameters
    ----------
    matrix : ndarray
        4x4, maps fixed to moving points, RAS+ mm.

    Returns
    -------
    SimpleITK.AffineTransform
        The same map in LPS.

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[:3, 3] = 1, 2, 3
    >>> affine_transform(shift).TransformPoint((0.0, 0.0, 0.0))
    (-1.0, -2.0, 3.0)
    """
    matrix = np.asarray(matrix, dtype=float)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((LPS[:, None] * matrix[:3, :3] * LPS).ravel().tolist())
    transform.SetTranslation((LPS * matrix[:3, 3]).tolist())
    return transform


def write_affine(path: PathLike, matrix: np.ndarray) -> Path:
    """Write an affine as an ITK transform.

    Parameters
    ----------
    path : path-like
        ``.mat``, ``.txt``, ``.tfm`` or ``.h5``.
    matrix : ndarray
        4x4, maps fixed to moving points, RAS+ mm.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError, QuicksilverError
        If the suffix is not supported, or the file cannot be written.
    """
    return write_itk(path, affine_transform(matrix), AFFINE_SUFFIXES)


def read_transform(path: PathLike) -> sitk.Transform:
    """Read an ITK transform or a displacement field.

    Parameters
    ----------
    path : path-like
        ITK affine or composite (``.mat``, ``.txt``, ``.tfm``, ``.h5``), or a displacement field
        (``.nii``, ``.nii.gz``).

    Returns
    -------
    SimpleITK.Transform
        Maps fixed to moving points, in LPS.

    Raises
    ------
    InputError
        If the file is missing, does not contain such a transform, or contains parameters that are
        not finite, singular or beyond the limits.
    """
    if Path(path).name.endswith((".nii", ".nii.gz")):
        return displacement_transform(*read_displacement(path))
    return read_itk(path)


def displacement_transform(field: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    """Return the SimpleITK transform of a displacement field.

    Parameters
    ----------
    field : ndarray
        (X, Y, Z, 3), displacement of each voxel centre, RAS mm; 0 outside the grid.
    grid : Grid
        Grid of the field, which is interpolated linearly between voxels.

    Returns
    -------
    SimpleITK.DisplacementFieldTransform
        x -> x + u(x), in LPS.
    """
    if field.shape != (*grid.shape, 3):
        raise ValueError(f"a field of shape {field.shape} does not fit a grid of {grid.shape}")
    image = sitk.GetImageFromArray((field * LPS).transpose(2, 1, 0, 3), isVector=True)
    grid.set_geometry(image)
    return sitk.DisplacementFieldTransform(image)


def compose(transforms: Sequence[sitk.Transform]) -> sitk.CompositeTransform:
    """Compose transforms; the last one is applied to points first, as in ITK.

    ``compose([affine, warp])`` maps a point x to ``affine(warp(x))``. This is the reverse of the
    order of ANTs' ``-t warp -t affine``; for a list in ANTs' order see :func:`compose_ants`.

    Parameters
    ----------
    transforms : sequence of SimpleITK.Transform
        At least one.

    Returns
    -------
    SimpleITK.CompositeTransform
        The composite, with nested composites flattened.

    Examples
    --------
    >>> double, shift = np.diag([2.0, 2, 2, 1]), np.eye(4)
    >>> shift[:3, 3] = 1, 0, 0
    >>> chain = compose([affine_transform(double), affine_transform(shift)])
    >>> map_points(chain, np.zeros((1, 3)))[0].tolist()
    [2.0, 0.0, 0.0]
    """
    composite = sitk.CompositeTransform(list(transforms))
    composite.FlattenTransform()
    return composite


def compose_ants(transforms: Sequence[sitk.Transform]) -> sitk.CompositeTransform:
    """Compose transforms in the order of ``antsApplyTransforms``: ``[warp, affine]``.

    The transform listed last is applied to the moving image first; points of the fixed image are
    mapped by the transform listed first: x to ``affine(warp(x))``.

    Parameters
    ----------
    transforms : sequence of SimpleITK.Transform
        In the order of the command line.

    Returns
    -------
    SimpleITK.CompositeTransform
        The composite.
    """
    return compose(list(transforms)[::-1])


def write_composite(path: PathLike, transform: sitk.Transform) -> Path:
    """Write a transform as an ITK composite.

    Parameters
    ----------
    path : path-like
        ``.h5``.
    transform : SimpleITK.Transform
        What to write; other transforms than composites become composites of one transform.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError, QuicksilverError
        If the suffix is not supported, or the file cannot be written.
    """
    return write_itk(path, compose([transform]), (".h5",))


def displacement_on_grid(transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """Sample a transform at the voxel centres of a grid.

    Parameters
    ----------
    transform : SimpleITK.Transform
        In LPS.
    grid : Grid
        Output grid.

    Returns
    -------
    ndarray
        (X, Y, Z, 3), T(x) - x, RAS mm, float32.
    """
    sampler = sitk.TransformToDisplacementFieldFilter()
    sampler.SetReferenceImage(grid.reference())
    sampler.SetOutputPixelType(sitk.sitkVectorFloat32)
    field = sitk.GetArrayFromImage(sampler.Execute(transform))
    return field.transpose(2, 1, 0, 3) * LPS.astype(np.float32)


def write_displacement(path: PathLike, field: np.ndarray, grid: Grid) -> Path:
    """Write a displacement field in the format of ITK and ANTs.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``.
    field : ndarray
        (X, Y, Z, 3), maps fixed to moving points, RAS mm.
    grid : Grid
        Grid of the fixed image.

    Returns
    -------
    Path
        The file written: 5-D (X, Y, Z, 1, 3), float32, LPS mm, intent 1007.

    Raises
    ------
    InputError, QuicksilverError
        If the suffix is not supported, or the file cannot be written.
    """
    if field.shape != (*grid.shape, 3):
        raise ValueError(f"a field of shape {field.shape} does not fit a grid of {grid.shape}")
    lps = np.asarray(field, dtype=np.float32) * LPS.astype(np.float32)
    image = nifti(lps[:, :, :, None, :], grid.affine)
    image.header.set_intent("vector")
    return save_nifti(path, image)


def read_displacement(path: PathLike) -> tuple[np.ndarray, Grid]:
    """Read a displacement field in ITK's format.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz`` written by :func:`write_displacement` or ANTs.

    Returns
    -------
    field : ndarray
        (X, Y, Z, 3), RAS mm, float32.
    grid : Grid
        Its grid.

    Raises
    ------
    InputError
        If the file is missing, is not such a field, or holds NaN or infinite values.
    """
    what = "displacement field"
    image, world = open_image(path, what)
    shape = image.shape
    intent = image.header.get_intent() if isinstance(image, Nifti1Pair) else ("none", (), "")
    if len(shape) != 5 or shape[3:] != (1, 3) or intent[0] != "vector" or intent[2] == MOMENTUM:
        raise InputError(
            f"{path}: is not an ITK displacement field; give a 5-D NIfTI (X, Y, Z, 1, 3) with "
            "vector intent"
        )
    field = read_data(image, path, what, np.float32)[:, :, :, 0, :]
    if not np.isfinite(field).all():
        raise InputError(f"{path}: the {what} holds NaN or infinite values; compute it again")
    limits.check_coordinates(field, path, "displacements")
    x, y, z = shape[:3]
    return field * LPS.astype(np.float32), Grid((x, y, z), world.affine)
