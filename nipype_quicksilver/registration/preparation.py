"""Inputs of the engine: images on the working grid with normalised intensities, and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from nipype_quicksilver.errors import naming
from nipype_quicksilver.registration.pair import SIDES, Pair, Scan
from nipype_quicksilver.registration.summary import MaskSummary
from nipype_quicksilver.spatial.brains import named_after, native_brain
from nipype_quicksilver.spatial.conforming import (
    check_enclosed,
    conform_lesion,
    conform_mask,
    fill_lesion,
    joint_grid,
    lesion_weight,
)
from nipype_quicksilver.spatial.grids import Grid, check_overlap
from nipype_quicksilver.spatial.images import image_name
from nipype_quicksilver.spatial.intensity import normalize
from nipype_quicksilver.spatial.resampling import conform

# The images are compared in a rim around the brain as well, which aligns its outline.
DILATION = 2  # voxels


@dataclass(frozen=True)
class Prepared:
    """Inputs of the engine, on the working grid.

    Attributes
    ----------
    fixed, moving : ndarray
        (X, Y, Z), float32, 0 outside the brain, robust maximum 1, lesions filled.
    weight : ndarray
        (X, Y, Z), float32, 1 where the images are compared and 0 elsewhere, in fixed space.
    moving_weight : ndarray or None
        (X, Y, Z), float32, 0 in the moving lesion and 1 elsewhere, in the space of `moving`; None
        without a lesion.
    grid : Grid
        The working grid.
    to_fixed : ndarray
        4x4, maps points of the working grid to points of the fixed image, RAS mm.
    fixed_brain, moving_brain : Nifti1Image
        Brains on the native grids, 0 or 1.
    masks : dict
        :class:`MaskSummary` by name.
    """

    fixed: np.ndarray
    moving: np.ndarray
    weight: np.ndarray
    moving_weight: np.ndarray | None
    grid: Grid
    to_fixed: np.ndarray
    fixed_brain: Nifti1Image
    moving_brain: Nifti1Image
    masks: dict[str, MaskSummary]


@dataclass(frozen=True)
class ConformedScan:
    """A scan on the working grid.

    Attributes
    ----------
    data : ndarray
        (X, Y, Z), float32: normalised intensities.
    inside : ndarray
        (X, Y, Z), bool: mask of its brain.
    lesion : ndarray or None
        (X, Y, Z), bool: mask of the regions without counterpart in the other image.
    brain : Nifti1Image
        Mask of its brain on its native grid, 0 or 1.
    """

    data: np.ndarray
    inside: np.ndarray
    lesion: np.ndarray | None
    brain: Nifti1Image


def prepare(pair: Pair, files: dict[str, str | None]) -> Prepared:
    """Resample a pair of images to the working grid, each once.

    The working grid is 1 mm, RAS: that of the pair's frame, or a grid in the world space of the
    fixed image that encloses both brains. A brain is the mask of its scan, or all nonzero voxels if
    there is no mask.

    Parameters
    ----------
    pair : Pair
        The scans, aligned.
    files : dict
        Path of each mask by name, see `pair.paths_of`.

    Returns
    -------
    Prepared
        Inputs of the engine.

    Raises
    ------
    InputError
        If the brains do not overlap in world space, a mask does not overlap its image, or a
        lesion leaves nothing to compare.

    Warns
    -----
    UserWarning
        If a lesion mask covers nothing on the working grid.
    """
    fixed_brain = native_brain(pair.fixed.image, pair.fixed.mask)
    moving_brain = native_brain(pair.moving.image, pair.moving.mask)
    check_overlap(
        _inside(pair.fixed.image, fixed_brain),
        _inside(pair.moving.image, moving_brain),
        pair.matrix,
    )
    if pair.frame is None:
        grid = joint_grid(fixed_brain, moving_brain, pair.matrix)
    else:
        grid = pair.frame.grid
        check_enclosed(fixed_brain, grid, pair.to_fixed)
        check_enclosed(moving_brain, grid, pair.to_moving)
    fixed = _conformed(pair.fixed, fixed_brain, grid, pair.to_fixed)
    moving = _conformed(pair.moving, moving_brain, grid, pair.to_moving)
    return assemble(fixed, moving, grid, pair.to_fixed, files)


def _conformed(scan: Scan, brain: Nifti1Image, grid: Grid, matrix: np.ndarray) -> ConformedScan:
    """Resample a scan to the working grid, and normalise its intensities inside the brain."""
    # Masks are resampled from their own grid to the working grid directly.
    inside = conform_mask(scan.mask or brain, grid, matrix)
    lesion = conform_lesion(scan.lesion, scan.image, grid, matrix)
    data = fill_lesion(conform(scan.image, grid, matrix), inside, lesion, scan.image)
    with naming(image_name(scan.image)):
        return ConformedScan(normalize(data, inside), inside, lesion, brain)


def assemble(
    fixed: ConformedScan,
    moving: ConformedScan,
    grid: Grid,
    to_fixed: np.ndarray,
    files: dict[str, str | None],
) -> Prepared:
    """Return the inputs of the engine for two scans on the working grid.

    Parameters
    ----------
    fixed, moving : ConformedScan
        The scans.
    grid : Grid
        The working grid.
    to_fixed : ndarray
        4x4, maps points of the working grid to points of the fixed image, RAS mm.
    files : dict
        Path of each mask by name, see `pair.paths_of`.

    Returns
    -------
    Prepared
        With the weights of both images.
    """
    scans = dict(zip(SIDES, (fixed, moving), strict=True))
    masks = {f"{side}_mask": scan.inside for side, scan in scans.items()}
    lesions = {f"{side}_lesion_mask": scan.lesion for side, scan in scans.items()}
    return Prepared(
        fixed=fixed.data,
        moving=moving.data,
        weight=similarity_weight(fixed.inside, moving.inside, fixed.lesion),
        moving_weight=lesion_weight(moving.lesion),
        grid=grid,
        to_fixed=to_fixed,
        fixed_brain=fixed.brain,
        moving_brain=moving.brain,
        masks={
            name: _describe_mask(files.get(name), mask) for name, mask in (masks | lesions).items()
        },
    )


def _describe_mask(file: str | None, mask: np.ndarray | None) -> MaskSummary:
    voxels = 0 if mask is None else int(np.count_nonzero(mask))
    return MaskSummary(file, file is not None and voxels > 0, voxels)


def similarity_weight(
    fixed_brain: np.ndarray, moving_brain: np.ndarray, fixed_lesion: np.ndarray | None
) -> np.ndarray:
    """Return the weight of the comparison of two images.

    Parameters
    ----------
    fixed_brain, moving_brain : ndarray
        (X, Y, Z), bool, on the working grid.
    fixed_lesion : ndarray or None
        (X, Y, Z), bool, on the working grid: mask of a region to exclude.

    Returns
    -------
    ndarray
        (X, Y, Z), float32: 1 in the brains and a rim around them, except in the lesion; 0
        elsewhere.
    """
    inside = ndimage.binary_dilation(fixed_brain | moving_brain, iterations=DILATION)
    if fixed_lesion is not None:
        inside &= ~fixed_lesion
    return inside.astype(np.float32)


def _inside(image: Nifti1Image, brain: Nifti1Image) -> Nifti1Image:
    """Return an image that is zero outside its brain."""
    return named_after(np.asanyarray(image.dataobj) * np.asanyarray(brain.dataobj), image)
