"""Affine alignment of two brains by mutual information, symmetric in the two images.

The best of many starts at 8 mm, estimated in both directions and averaged, maps both images to the
space half-way between them. There they are aligned at 8, 4 and 2 mm, again in both directions.
Averages are computed by matrix logarithms, so that exchanging the images inverts the matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import DOF
from nipype_quicksilver.preprocessing.brain_images import (
    FINEST,
    BrainImage,
    Pair,
    common_grid,
    corner_distance,
    with_boundary,
)
from nipype_quicksilver.preprocessing.external import align_brains
from nipype_quicksilver.preprocessing.matrices import (
    AffineSummary,
    MutualInformation,
    describe,
    halves,
    mean,
    plausibility_warnings,
    rotation,
    rotations_nearby,
    rotations_of_axes,
)
from nipype_quicksilver.preprocessing.mutual_information import (
    Comparison,
    mutual_information_of_pair,
    mutual_information_of_starts,
)
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import working_grid
from nipype_quicksilver.spatial.images import image_name, read_image, read_mask
from nipype_quicksilver.spatial.magnification import EnlargedWorlds, Images, Masks
from nipype_quicksilver.spatial.resampling import conform, to_sitk
from nipype_quicksilver.spatial.transforms import read_affine
from nipype_quicksilver.tools import SIMPLEITK

COARSE = 8.0  # mm, voxel size at which starts are compared
LEVELS = (COARSE, 4.0, FINEST)  # mm, voxel sizes of the refinement
# Steps at which a level ends. Larger ones would stop within a narrow valley, where a shear and a
# rotation leave the outline of the brain unchanged.
MIN_STEP = {8.0: 1e-3, 4.0: 1e-4, 2.0: 3e-4}
MIN_STEP_OF_SEARCH = 1e-2  # is enough to compare starts
MAX_DIFFERENCE = 15.0  # mm at the corners, between the two directions of the search


@dataclass(frozen=True)
class Alignment:
    """An affine and its quality.

    Attributes
    ----------
    matrix : ndarray
        4x4, maps fixed to moving points, RAS mm.
    summary : AffineSummary
        How it was estimated, and measures of its quality.
    """

    matrix: np.ndarray
    summary: AffineSummary


def align(
    fixed: Nifti1Image,
    moving: Nifti1Image,
    *,
    fixed_mask: Nifti1Image | None = None,
    moving_mask: Nifti1Image | None = None,
    initial: np.ndarray | None = None,
    dof: int = 12,
    levels: Sequence[float] = LEVELS,
    num_threads: int = 1,
) -> Alignment:
    """Estimate the affine that maps fixed to moving points.

    Parameters
    ----------
    fixed, moving : Nifti1Image
        (X, Y, Z), of any contrast; brains without skull unless they have masks.
    fixed_mask, moving_mask : Nifti1Image, optional
        Their brain masks, on any grid in the same world space; default: the nonzero voxels.
    initial : ndarray, optional
        4x4, start of the estimation, RAS mm; default: the best of many rotations about the centres
        of the brains.
    dof : {6, 7, 9, 12}
        6: rotation and translation; 7: also one scale; 9: also a scale along each axis of the space
        half-way between the images; 12: affine.
    levels : sequence of float
        Voxel sizes, mm, of :data:`LEVELS`; faster and less accurate without the finest.
    num_threads : int
        Both directions are optimised in parallel if it is 2 or more; the result does not depend on
        it.

    Returns
    -------
    Alignment
        Matrix and measures; bit-identical for any number of threads.

    Raises
    ------
    InputError
        If `dof` is not supported, or a brain is too small to be compared.

    Warns
    -----
    UserWarning
        If the result is not better than the start, or implausible for two human heads.
    """
    if dof not in DOF:
        raise InputError(f"dof {dof}: give {', '.join(map(str, sorted(DOF)))}")
    world = _worlds((fixed, moving), (fixed_mask, moving_mask), dof)
    large, masks = world.images((fixed, moving)), world.images((fixed_mask, moving_mask))
    pair = (BrainImage.of(large[0], masks[0]), BrainImage.of(large[1], masks[1]))
    before = world.enlarged(np.eye(4) if initial is None else np.asarray(initial, dtype=float))
    # Rounding errors alone can change the course of an optimiser: images are put into one order.
    exchanged = pair[0].sort_key() > pair[1].sort_key()
    ordered = pair[::-1] if exchanged else pair
    with ThreadPoolExecutor(max_workers=min(num_threads, 2)) as pool:
        if initial is None:
            start = _search(ordered, dof, pool)
        else:
            start = np.linalg.inv(before) if exchanged else before
        start = _constrained(start, dof, ordered)
        matrix, difference = _refine(ordered, start, dof, levels, pool)
    if exchanged:
        matrix = np.linalg.inv(matrix)
    result = world.reduced(matrix)
    summary = replace(
        describe(result),
        dof=dof,
        similarity=MutualInformation(
            round(mutual_information_of_pair(pair, before), 6),
            round(mutual_information_of_pair(pair, matrix), 6),
        ),
        directions_apart_mm=round(difference / world.factors[1], 4),
    )
    return _checked(Alignment(result, summary), moving, world.factors[1])


def align_by(
    tool: str,
    fixed: Nifti1Image,
    moving: Nifti1Image,
    *,
    fixed_mask: Nifti1Image | None = None,
    moving_mask: Nifti1Image | None = None,
    dof: int = 12,
    num_threads: int = 1,
    log_dir: PathLike | None = None,
) -> Alignment:
    """Estimate the affine that maps fixed to moving points by an external tool.

    Parameters
    ----------
    tool, fixed, moving, fixed_mask, moving_mask, dof, num_threads, log_dir
        As for `external.align_brains`, which also raises the errors.

    Returns
    -------
    Alignment
        Matrix, rotation and scales.

    Warns
    -----
    UserWarning
        If the result is implausible for two human heads.
    """
    world = _worlds((fixed, moving), (fixed_mask, moving_mask), dof)
    large, masks = world.images((fixed, moving)), world.images((fixed_mask, moving_mask))
    matrix = align_brains(
        tool,
        *large,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        dof=dof,
        num_threads=num_threads,
        log_dir=log_dir,
    )
    matrix = world.reduced(matrix)
    return _checked(Alignment(matrix, replace(describe(matrix), how=tool, dof=dof)), moving)


def _worlds(images: Images, masks: Masks, dof: int) -> EnlargedWorlds:
    """Return the worlds in which two brains are aligned; a rigid transform changes no sizes."""
    return EnlargedWorlds.of(images, masks, alike=dof == min(DOF))


def _checked(alignment: Alignment, moving: Nifti1Image, magnification: float = 1.0) -> Alignment:
    """Warn if an affine is implausible; return it."""
    for warning in plausibility_warnings(alignment.summary, alignment.matrix, magnification):
        warnings.warn(f"{image_name(moving)}: {warning}", UserWarning, stacklevel=3)
    return alignment


@dataclass(frozen=True)
class Aligned:
    """Two images and the affine between them."""

    fixed: Nifti1Image
    moving: Nifti1Image
    alignment: Alignment


def align_files(
    fixed: PathLike,
    moving: PathLike,
    *,
    fixed_mask: PathLike | None = None,
    moving_mask: PathLike | None = None,
    initial: PathLike | None = None,
    dof: int = 12,
    num_threads: int = 1,
    by: str = SIMPLEITK,
    log_dir: PathLike | None = None,
) -> Aligned:
    """Estimate the affine between two image files.

    Parameters
    ----------
    fixed, moving : path-like
        Brains without skull, or with masks (NIfTI, MGH).
    fixed_mask, moving_mask : path-like, optional
        Their brain masks, on any grid in the same world space.
    initial : path-like, optional
        ITK affine to start from, fixed to moving points.
    dof, num_threads : int
        As :func:`align`.
    by : str
        ``simpleitk``, or the external tool that estimates it, a key of `tools.AFFINE_TOOLS`.
    log_dir : path-like, optional
        Folder for the log of an external tool that fails; default: a temporary folder.

    Returns
    -------
    Aligned
        The images and the affine.

    Raises
    ------
    InputError
        If a file cannot be used.

    Warns
    -----
    UserWarning
        If the affine is not better than the start, or implausible for two human heads.
    """
    target = read_image(fixed, what="fixed image")
    source = read_image(moving, what="moving image")
    start = None if initial is None else read_affine(initial, allow_reflection=False)
    masks = (
        None if fixed_mask is None else read_mask(fixed_mask, what="fixed mask"),
        None if moving_mask is None else read_mask(moving_mask, what="moving mask"),
    )
    if by == SIMPLEITK:
        alignment = align(
            target,
            source,
            fixed_mask=masks[0],
            moving_mask=masks[1],
            initial=start,
            dof=dof,
            num_threads=num_threads,
        )
        return Aligned(target, source, alignment)
    if start is not None:
        raise InputError(
            f"{initial}: '{by}' does not use an initial affine; leave it out, or choose simpleitk"
        )
    alignment = align_by(
        by,
        target,
        source,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        dof=dof,
        num_threads=num_threads,
        log_dir=log_dir,
    )
    return Aligned(target, source, alignment)


def _search(pair: Pair, dof: int, pool: ThreadPoolExecutor) -> np.ndarray:
    """Return the best rigid or similarity transform of many starts, fixed to moving."""
    with_scale = dof > 6
    (forward, loss), (inverse, inverse_loss) = pool.map(
        lambda i: _search_one_direction(pair[i], pair[1 - i], with_scale), (0, 1)
    )
    backward = np.linalg.inv(inverse)
    if corner_distance(forward, backward, pair) > MAX_DIFFERENCE:
        # One direction is caught in a local optimum: an average would be wrong.
        return forward if loss >= inverse_loss else backward
    return mean(forward, backward)


def _search_one_direction(
    fixed: BrainImage, moving: BrainImage, with_scale: bool
) -> tuple[np.ndarray, float]:
    """Return the best transform at the coarse level, and its negative mutual information."""
    grids = [
        working_grid(image.brain, spacing=COARSE, margin_mm=5 * COARSE) for image in (fixed, moving)
    ]
    volumes = [image.resampled(grid) for image, grid in zip((fixed, moving), grids, strict=True)]
    brain = with_boundary(conform(fixed.brain, grids[0]) > 0.1, grids[0])
    target, source = (to_sitk(data, grid) for data, grid in zip(volumes, grids, strict=True))
    inside = to_sitk(brain, grids[0])
    comparison = Comparison(target, source, inside, fixed.center, COARSE)
    scales = (1.0, (moving.volume / fixed.volume) ** (1 / 3)) if with_scale else (1.0,)
    results = []
    # Heads oriented as in their headers, and heads with wrong axes in a header.
    for rotations, number in ((rotations_nearby(), 3), (rotations_of_axes(), 2)):
        starts = [
            from_matvec(scale * turn, moving.center - scale * turn @ fixed.center)
            for scale in scales
            for turn in rotations
        ]
        values = mutual_information_of_starts(volumes, brain, grids, starts)
        results += [
            comparison.maximize(starts[i], 7 if with_scale else 6, MIN_STEP_OF_SEARCH)
            for i in np.argsort(values, kind="stable")[::-1][:number]
        ]
    return min(results, key=lambda result: result[1])


def _refine(
    pair: Pair, start: np.ndarray, dof: int, levels: Sequence[float], pool: ThreadPoolExecutor
) -> tuple[np.ndarray, float]:
    """Return the affine between two images, and the difference of both directions, mm."""
    first, second = halves(start)
    to_images = (np.linalg.inv(first), second)  # from the space half-way to each image
    middle, difference = np.eye(4), 0.0
    for spacing in levels:
        comparisons = _comparisons(pair, to_images, spacing)
        starts = (middle, np.linalg.inv(middle))
        forward, inverse = (
            matrix
            for matrix, _ in pool.map(
                lambda comparison, start: comparison.maximize(
                    start, dof, MIN_STEP[comparison.spacing]
                ),
                comparisons,
                starts,
            )
        )
        backward = np.linalg.inv(inverse)
        middle = mean(forward, backward)
        difference = corner_distance(second @ forward @ first, second @ backward @ first, pair)
    return second @ middle @ first, difference


def _comparisons(
    pair: Pair, to_images: tuple[np.ndarray, np.ndarray], spacing: float
) -> tuple[Comparison, Comparison]:
    """Return the comparisons in both directions, on one grid in the space half-way."""
    grid = common_grid(pair, to_images, spacing)
    images = [
        to_sitk(image.resampled(grid, matrix), grid)
        for image, matrix in zip(pair, to_images, strict=True)
    ]
    brains = [
        conform(image.brain, grid, matrix) > 0.1
        for image, matrix in zip(pair, to_images, strict=True)
    ]
    inside = to_sitk(with_boundary(brains[0] | brains[1], grid), grid)
    center = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    return (
        Comparison(images[0], images[1], inside, center, spacing),
        Comparison(images[1], images[0], inside, center, spacing),
    )


def _constrained(matrix: np.ndarray, dof: int, pair: Pair) -> np.ndarray:
    """Return the nearest matrix with the rotation and scale that `dof` allows."""
    if dof == 12:
        return matrix
    scale = 1.0 if dof == 6 else abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
    linear, center = scale * rotation(matrix), pair[0].center
    return from_matvec(linear, apply_affine(matrix, center) - linear @ center)
