"""From native images to what the engine compares: one grid, one range of intensities, a weight."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError, naming
from nipype_quicksilver.registration.inputs import Inputs
from nipype_quicksilver.spatial.brains import mask_on_image, named, native_brain
from nipype_quicksilver.spatial.grids import Grid, check_overlap, working_grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.intensity import normalize
from nipype_quicksilver.spatial.resampling import conform

# The edge of the brain against the dark around it counts as well: it drives the outline.
DILATION = 2  # voxels
LARGEST_LOSS = 0.01  # of a brain, outside the grid of a template
LARGEST_BRAIN = 512.0  # mm; a header with wrong voxel sizes would fill the memory


@dataclass(frozen=True)
class Prepared:
    """What the engine is given, on one grid.

    Attributes
    ----------
    fixed, moving : ndarray
        (X, Y, Z), float32, 0 outside the brain, robust maximum 1, lesions filled.
    weight : ndarray
        (X, Y, Z), float32, 0 or 1 in fixed space: where the images are compared.
    moving_weight : ndarray or None
        (X, Y, Z), float32, 0 in the moving lesion and 1 elsewhere, in the space of `moving`.
    grid : Grid
        The working grid.
    to_fixed : ndarray
        4x4, maps points of the working grid to points of the fixed image, RAS mm.
    fixed_brain, moving_brain : Nifti1Image
        Brains on the native grids, 0 or 1.
    masks : dict
        For each mask its ``file``, whether it was ``used``, and the ``voxels`` it has on the
        working grid.
    """

    fixed: np.ndarray
    moving: np.ndarray
    weight: np.ndarray
    moving_weight: np.ndarray | None
    grid: Grid
    to_fixed: np.ndarray
    fixed_brain: Nifti1Image
    moving_brain: Nifti1Image
    masks: dict[str, dict[str, Any]]


def prepare(inputs: Inputs) -> Prepared:
    """Bring a pair of images to the working grid, each in one resampling.

    The working grid is 1 mm, RAS: that of the inputs' frame, or one in the world of the fixed
    image, around both brains: masks where given, what is not zero otherwise. The images come there
    through their affines.

    Parameters
    ----------
    inputs : Inputs
        The images and their masks.

    Returns
    -------
    Prepared
        What the engine compares.

    Raises
    ------
    InputError
        If the brains do not overlap in the world, a mask does not overlap its image, or a lesion
        leaves nothing to compare.

    Warns
    -----
    UserWarning
        If a lesion mask covers nothing on the working grid.
    """
    fixed_brain = native_brain(inputs.fixed, inputs.fixed_mask)
    moving_brain = native_brain(inputs.moving, inputs.moving_mask)
    check_overlap(
        _inside(inputs.fixed, fixed_brain), _inside(inputs.moving, moving_brain), inputs.matrix
    )
    if inputs.frame is None:
        grid = joint_grid(fixed_brain, moving_brain, inputs.matrix)
    else:
        grid = inputs.frame.grid
        check_enclosed(fixed_brain, grid, inputs.to_fixed)
        check_enclosed(moving_brain, grid, inputs.to_moving)
    # Masks go from their own grid to the working grid directly.
    inside_fixed = conform_mask(inputs.fixed_mask or fixed_brain, grid, inputs.to_fixed)
    inside_moving = conform_mask(inputs.moving_mask or moving_brain, grid, inputs.to_moving)
    fixed_lesion, moving_lesion = lesions_on_grid(inputs, grid)
    covered = {
        "fixed_mask": inside_fixed,
        "moving_mask": inside_moving,
        "fixed_lesion_mask": fixed_lesion,
        "moving_lesion_mask": moving_lesion,
    }
    return Prepared(
        fixed=_intensities(inputs.fixed, inside_fixed, fixed_lesion, grid, inputs.to_fixed),
        moving=_intensities(inputs.moving, inside_moving, moving_lesion, grid, inputs.to_moving),
        weight=similarity_weight(inside_fixed, inside_moving, fixed_lesion),
        moving_weight=lesion_weight(moving_lesion),
        grid=grid,
        to_fixed=inputs.to_fixed,
        fixed_brain=fixed_brain,
        moving_brain=moving_brain,
        masks=mask_facts(inputs.files, covered),
    )


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


def lesions_on_grid(inputs: Inputs, grid: Grid) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Bring lesion masks to the working grid.

    Parameters
    ----------
    inputs : Inputs
        Images, lesion masks and affine.
    grid : Grid
        Working grid.

    Returns
    -------
    fixed, moving : ndarray or None
        On `grid`, bool; None where there is no mask.

    Raises
    ------
    InputError
        If a mask lies outside its image.

    Warns
    -----
    UserWarning
        If a mask covers no voxel of the working grid.
    """
    return (
        _lesion(inputs.fixed_lesion_mask, inputs.fixed, grid, inputs.to_fixed),
        _lesion(inputs.moving_lesion_mask, inputs.moving, grid, inputs.to_moving),
    )


def _lesion(
    mask: Nifti1Image | None, image: Nifti1Image, grid: Grid, matrix: np.ndarray
) -> np.ndarray | None:
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


def similarity_weight(
    fixed_brain: np.ndarray, moving_brain: np.ndarray, fixed_lesion: np.ndarray | None
) -> np.ndarray:
    """Return where two images are compared.

    Parameters
    ----------
    fixed_brain, moving_brain : ndarray
        (X, Y, Z), bool, on the working grid.
    fixed_lesion : ndarray or None
        (X, Y, Z), bool: what is left out.

    Returns
    -------
    ndarray
        (X, Y, Z), float32: 1 in both brains and their rim outside the lesion, 0 elsewhere.
    """
    inside = _dilated(fixed_brain | moving_brain, DILATION)
    if fixed_lesion is not None:
        inside &= ~fixed_lesion
    return inside.astype(np.float32)


def _dilated(mask: np.ndarray, iterations: int) -> np.ndarray:
    """Add the voxels that share a face with a mask, so many times."""
    for _ in range(iterations):
        larger = mask.copy()
        for axis in range(3):
            here, there = np.moveaxis(mask, axis, 0), np.moveaxis(larger, axis, 0)
            there[1:] |= here[:-1]
            there[:-1] |= here[1:]
        mask = larger
    return mask


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


def mask_facts(
    files: dict[str, str | None], covered: dict[str, np.ndarray | None]
) -> dict[str, dict[str, Any]]:
    """Tell which masks were used, and how large they are on the working grid.

    Parameters
    ----------
    files : dict
        Path of each mask by name, None where none was given.
    covered : dict
        Each mask on the working grid by name, None where there is none.

    Returns
    -------
    dict
        By name: ``file``, ``used`` (a file was given and covers something), ``voxels``.
    """
    facts = {}
    for name, mask in covered.items():
        voxels = 0 if mask is None else int(np.count_nonzero(mask))
        used = files.get(name) is not None and voxels > 0
        facts[name] = {"file": files.get(name), "used": used, "voxels": voxels}
    return facts


def _intensities(
    image: Nifti1Image,
    brain: np.ndarray,
    lesion: np.ndarray | None,
    grid: Grid,
    matrix: np.ndarray,
) -> np.ndarray:
    """Return an image on the working grid, normalised inside its brain."""
    data = without_lesion(conform(image, grid, matrix), brain, lesion, image)
    with naming(image_name(image)):
        return normalize(data, brain)


def _inside(image: Nifti1Image, brain: Nifti1Image) -> Nifti1Image:
    """Return an image that is zero outside its brain."""
    return named(np.asanyarray(image.dataobj) * np.asanyarray(brain.dataobj), image)
