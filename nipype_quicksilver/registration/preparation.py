"""From native images to what the engine compares: one grid, one range of intensities, a weight."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import naming
from nipype_quicksilver.registration.pair import Inputs
from nipype_quicksilver.spatial.brains import named, native_brain
from nipype_quicksilver.spatial.conforming import (
    check_enclosed,
    conform_lesion,
    conform_mask,
    joint_grid,
    lesion_weight,
    without_lesion,
)
from nipype_quicksilver.spatial.grids import Grid, check_overlap
from nipype_quicksilver.spatial.images import image_name
from nipype_quicksilver.spatial.intensity import normalize
from nipype_quicksilver.spatial.resampling import conform

# The edge of the brain against the dark around it counts as well: it drives the outline.
DILATION = 2  # voxels


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
        conform_lesion(inputs.fixed_lesion_mask, inputs.fixed, grid, inputs.to_fixed),
        conform_lesion(inputs.moving_lesion_mask, inputs.moving, grid, inputs.to_moving),
    )


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
