"""Brains, masks and lesions on the working grid."""

import warnings

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.brains import mask_on_image
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.resampling import conform

MAX_FRACTION_OUTSIDE = 0.01  # of a brain, outside the grid of a template
MAX_BRAIN_SIZE = 512.0  # mm; wrong voxel sizes in a header would exhaust the memory


def joint_grid(fixed_brain: Nifti1Image, moving_brain: Nifti1Image, matrix: np.ndarray) -> Grid:
    """Return the working grid around two brains.

    Parameters
    ----------
    fixed_brain, moving_brain : Nifti1Image
        (X, Y, Z), nonzero inside.
    matrix : ndarray
        4x4, maps fixed to moving points, RAS mm.

    Returns
    -------
    Grid
        1 mm, RAS, in the world of the fixed image; dimensions are multiples of 8.

    Raises
    ------
    InputError
        If a brain is implausibly large, as with wrong voxel sizes.
    """
    fixed_index = _outermost_voxels(np.asanyarray(fixed_brain.dataobj) != 0)
    moving_index = _outermost_voxels(np.asanyarray(moving_brain.dataobj) != 0)
    to_fixed = np.linalg.inv(matrix @ fixed_brain.affine) @ moving_brain.affine
    moving_index = apply_affine(to_fixed, moving_index)
    for index, image in ((fixed_index, fixed_brain), (moving_index, moving_brain)):
        size = np.ptp(index, axis=0) * voxel_sizes(fixed_brain.affine)
        if size.max() > MAX_BRAIN_SIZE:
            raise InputError(
                f"{image_name(image)}: its nonzero voxels are {size.max():.0f} mm wide; check "
                "the voxel sizes in its header, or give a brain mask"
            )
    low = np.minimum(fixed_index.min(axis=0), np.floor(moving_index.min(axis=0))).astype(int)
    high = np.maximum(fixed_index.max(axis=0), np.ceil(moving_index.max(axis=0))).astype(int)
    box = np.ones(high - low + 1, np.uint8)
    return working_grid(nifti(box, fixed_brain.affine @ from_matvec(np.eye(3), low)))


def check_enclosed(brain: Nifti1Image, grid: Grid, matrix: np.ndarray) -> None:
    """Warn if a grid cuts off part of a brain; raise an error if it contains none of it.

    Parameters
    ----------
    brain : Nifti1Image
        (X, Y, Z), nonzero inside.
    grid : Grid
        Working grid.
    matrix : ndarray
        4x4, maps points of `grid` to points of `brain`, RAS mm.

    Raises
    ------
    InputError
        If no part of the brain is on the grid.

    Warns
    -----
    UserWarning
        If more than 1% of the brain is outside the grid.
    """
    outside = fraction_outside(brain, grid, matrix)
    remedy = "check the headers, or estimate an affine"
    if outside == 1:
        raise InputError(
            f"{image_name(brain)}: lies outside the working grid of the template; {remedy}"
        )
    if outside > MAX_FRACTION_OUTSIDE:
        warnings.warn(
            f"{image_name(brain)}: {100 * outside:.0f}% of its brain lies outside the working grid "
            f"of the template; {remedy}",
            UserWarning,
            stacklevel=3,
        )


def fraction_outside(brain: Nifti1Image, grid: Grid, matrix: np.ndarray) -> float:
    """Return the fraction of a brain outside a grid, 0 to 1; parameters as `check_enclosed`."""
    points = np.argwhere(np.asanyarray(brain.dataobj) != 0)
    index = apply_affine(np.linalg.inv(matrix @ grid.affine) @ brain.affine, points)
    beyond = (index < -0.5) | (index > np.array(grid.shape) - 0.5)
    return float(np.mean(np.any(beyond, axis=1)))


def _outermost_voxels(inside: np.ndarray) -> np.ndarray:
    """Return the first and last voxel inside along each line in z, (N, 3).

    Under any affine, the bounding box of all voxels is the bounding box of these.
    """
    columns = inside.any(axis=2)
    ends = (
        inside.argmax(axis=2)[columns],
        (inside.shape[2] - 1 - inside[..., ::-1].argmax(axis=2))[columns],
    )
    index = np.argwhere(columns)
    return np.concatenate([np.column_stack([index, end]) for end in ends])


def conform_mask(mask: Nifti1Image, grid: Grid, matrix: np.ndarray | None = None) -> np.ndarray:
    """Resample a mask onto the working grid.

    Parameters
    ----------
    mask : Nifti1Image
        (X, Y, Z), nonzero inside.
    grid : Grid
        Working grid.
    matrix : ndarray, optional
        4x4, maps points of `grid` to points of `mask`, RAS mm.

    Returns
    -------
    ndarray
        On `grid`, bool: true where at least half of the voxel is inside.
    """
    # Values of one half are common and must not depend on rounding.
    return conform(mask, grid, matrix) > 0.5 - 1e-3


def conform_lesion(
    mask: Nifti1Image | None, image: Nifti1Image, grid: Grid, matrix: np.ndarray
) -> np.ndarray | None:
    """Resample a lesion mask onto the working grid.

    Parameters
    ----------
    mask : Nifti1Image or None
        (X, Y, Z), nonzero inside, on any grid in the world space of its image.
    image : Nifti1Image
        The image of the lesion.
    grid : Grid
        Working grid.
    matrix : ndarray
        4x4, maps points of `grid` to points of `image`, RAS mm.

    Returns
    -------
    ndarray or None
        On `grid`, bool; None without a mask.

    Raises
    ------
    InputError
        If the mask lies outside its image.

    Warns
    -----
    UserWarning
        If the mask covers no voxel of the working grid.
    """
    if mask is None:
        return None
    mask_on_image(mask, image)
    inside = conform_mask(mask, grid, matrix)
    if not inside.any():
        warnings.warn(
            f"{image_name(mask)}: covers no voxel of the working grid and has no effect",
            UserWarning,
            stacklevel=3,
        )
    return inside


def fill_lesion(
    data: np.ndarray, brain: np.ndarray, lesion: np.ndarray | None, image: Nifti1Image
) -> np.ndarray:
    """Fill a lesion with the median of the rest of the brain.

    Intensities in a lesion must not affect the normalisation or, through the windows of a local
    similarity measure, the surrounding tissue.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z), on the working grid.
    brain : ndarray
        (X, Y, Z), bool.
    lesion : ndarray or None
        (X, Y, Z), bool.
    image : Nifti1Image
        The image, for error messages.

    Returns
    -------
    ndarray
        (X, Y, Z).

    Raises
    ------
    InputError
        If the lesion covers the whole brain.
    """
    if lesion is None:
        return data
    rest = data[brain & ~lesion]
    if rest.size == 0:
        raise InputError(f"{image_name(image)}: its lesion mask covers the whole brain; correct it")
    return np.where(brain & lesion, np.median(rest), data).astype(np.float32)


def lesion_weight(lesion: np.ndarray | None) -> np.ndarray | None:
    """Return 0 in a lesion and 1 elsewhere, float32; None without a lesion."""
    return None if lesion is None else 1 - lesion.astype(np.float32)
