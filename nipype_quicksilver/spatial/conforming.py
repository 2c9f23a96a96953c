"""Masks, lesions and brains on the working grid."""

import warnings

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.brains import mask_on_image
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.resampling import conform

LARGEST_LOSS = 0.01  # of a brain, outside the grid of a template


LARGEST_BRAIN = 512.0  # mm; a header with wrong voxel sizes would fill the memory


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
        If a brain is larger than any can be, as with wrong voxel sizes.
    """
    own = _ends_of_lines(np.asanyarray(fixed_brain.dataobj) != 0)
    other = _ends_of_lines(np.asanyarray(moving_brain.dataobj) != 0)
    to_fixed = np.linalg.inv(matrix @ fixed_brain.affine) @ moving_brain.affine
    brought = apply_affine(to_fixed, other)
    for index, image in ((own, fixed_brain), (brought, moving_brain)):
        size = np.ptp(index, axis=0) * voxel_sizes(fixed_brain.affine)
        if size.max() > LARGEST_BRAIN:
            raise InputError(
                f"{image_name(image)}: is {size.max():.0f} mm wide where it is not zero; check "
                "the voxel sizes in its header, or give a brain mask"
            )
    low = np.minimum(own.min(axis=0), np.floor(brought.min(axis=0))).astype(int)
    high = np.maximum(own.max(axis=0), np.ceil(brought.max(axis=0))).astype(int)
    box = np.ones(high - low + 1, np.uint8)
    return working_grid(nifti(box, fixed_brain.affine @ from_matvec(np.eye(3), low)))


def check_enclosed(brain: Nifti1Image, grid: Grid, matrix: np.ndarray) -> None:
    """Warn of a brain that a grid cuts off, and refuse one that lies elsewhere.

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
        If more than a hundredth of it is not.
    """
    outside = share_outside(brain, grid, matrix)
    remedy = "check the headers, or let an affine be found"
    if outside == 1:
        raise InputError(
            f"{image_name(brain)}: lies outside the working grid of the template; {remedy}"
        )
    if outside > LARGEST_LOSS:
        warnings.warn(
            f"{image_name(brain)}: {100 * outside:.0f}% of its brain lie outside the working grid "
            f"of the template; {remedy}",
            UserWarning,
            stacklevel=3,
        )


def share_outside(brain: Nifti1Image, grid: Grid, matrix: np.ndarray) -> float:
    """Return which share of a brain a grid leaves out, 0 to 1; see `check_enclosed`."""
    points = np.argwhere(np.asanyarray(brain.dataobj) != 0)
    index = apply_affine(np.linalg.inv(matrix @ grid.affine) @ brain.affine, points)
    beyond = (index < -0.5) | (index > np.array(grid.shape) - 0.5)
    return float(np.mean(np.any(beyond, axis=1)))


def _ends_of_lines(inside: np.ndarray) -> np.ndarray:
    """Return the first and last voxel inside of each line along z, (N, 3).

    Whatever affine the voxels go through, the box around them is the box around these.
    """
    columns = inside.any(axis=2)
    ends = (
        inside.argmax(axis=2)[columns],
        (inside.shape[2] - 1 - inside[..., ::-1].argmax(axis=2))[columns],
    )
    index = np.argwhere(columns)
    return np.concatenate([np.column_stack([index, end]) for end in ends])


def conform_mask(mask: Nifti1Image, grid: Grid, matrix: np.ndarray | None = None) -> np.ndarray:
    """Bring a mask to the working grid.

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
        On `grid`, bool: where half of the voxel or more is inside.
    """
    # Halves are common where voxels are cut in two, and must not depend on rounding.
    return conform(mask, grid, matrix) > 0.5 - 1e-3


def conform_lesion(
    mask: Nifti1Image | None, image: Nifti1Image, grid: Grid, matrix: np.ndarray
) -> np.ndarray | None:
    """Bring a lesion mask to the working grid.

    Parameters
    ----------
    mask : Nifti1Image or None
        (X, Y, Z), nonzero inside, on any grid in the world space of its image.
    image : Nifti1Image
        The image that it belongs to.
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


def without_lesion(
    data: np.ndarray, brain: np.ndarray, lesion: np.ndarray | None, image: Nifti1Image
) -> np.ndarray:
    """Fill a lesion with the median of the rest of the brain.

    What is in a lesion must neither set the range of the intensities nor, through the windows of
    a local similarity, pull at the tissue around it.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z), on the working grid.
    brain : ndarray
        (X, Y, Z), bool.
    lesion : ndarray or None
        (X, Y, Z), bool.
    image : Nifti1Image
        The image, to be named.

    Returns
    -------
    ndarray
        (X, Y, Z).

    Raises
    ------
    InputError
        If nothing of the brain is left.
    """
    if lesion is None:
        return data
    rest = data[brain & ~lesion]
    if rest.size == 0:
        raise InputError(f"{image_name(image)}: its lesion mask covers the whole brain; correct it")
    return np.where(brain & lesion, np.median(rest), data).astype(np.float32)


def lesion_weight(lesion: np.ndarray | None) -> np.ndarray | None:
    """Return 0 in a lesion and 1 elsewhere, float32; None where there is none."""
    return None if lesion is None else 1 - lesion.astype(np.float32)
