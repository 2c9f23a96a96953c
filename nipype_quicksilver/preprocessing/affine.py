"""Affine alignment of two brains by mutual information, without a preferred direction.

Both images are treated alike: the best of many starts at 8 mm, found in both directions and
averaged, takes them to the space half-way between them, where they are aligned at 8, 4 and 2 mm,
again in both directions. Averages are taken in the matrix logarithm, so that exchanging the images
inverts the matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import binary_dilation, map_coordinates

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing.matrices import (
    DOF,
    MODELS,
    Model,
    describe,
    doubts,
    halves,
    mean,
    rotation,
    rotations_nearby,
    rotations_of_axes,
)
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import image_name, nifti, read_image, read_mask
from nipype_quicksilver.spatial.resampling import conform, to_sitk
from nipype_quicksilver.spatial.transforms import affine_matrix, read_affine

COARSE = 8.0  # mm, where starts are compared
LEVELS = (8.0, 4.0, 2.0)  # mm, where the result is refined
SAMPLED = {8.0: 1.0, 4.0: 0.5, 2.0: 0.2}  # share of the voxels that are looked at, by level
# Steps at which a level ends. With larger ones, a narrow valley (a shear and a rotation that leave
# the outline where it is) is left half-way.
SMALLEST_STEP = {8.0: 1e-3, 4.0: 1e-4, 2.0: 3e-4}
SEARCH_STEP = 1e-2  # is enough to tell starts apart
RIM = 4.0  # mm around the brain
SMALLEST = 5000.0  # mm3
BINS = 32
APART = 15.0  # mm at the corners; both directions of the search should agree better than that


@dataclass(frozen=True)
class Alignment:
    """An affine, and how good it is.

    Attributes
    ----------
    matrix : ndarray
        4x4, maps fixed to moving points, RAS mm.
    facts : dict
        ``dof``; ``similarity`` (mutual information at 4 mm ``before``, with the start, and
        ``after``); ``directions_apart_mm`` (how far both directions were apart before they were
        averaged, at the corners of the brain); ``rotation_degrees``; ``scales``.
    """

    matrix: np.ndarray
    facts: dict[str, Any]


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
    """Find the affine that maps fixed to moving points.

    Parameters
    ----------
    fixed, moving : Nifti1Image
        (X, Y, Z), of any contrast; brains without skull unless they have masks.
    fixed_mask, moving_mask : Nifti1Image, optional
        Their brains, on any grid in the same world space; what is not zero unless given.
    initial : ndarray, optional
        4x4, where to start, RAS mm; many rotations about the centres of the brains are tried
        unless given.
    dof : {6, 7, 9, 12}
        6: rotation and translation; 7: and one scale; 9: and a scale along each axis of the space
        half-way between the images; 12: affine.
    levels : sequence of float
        Voxel sizes, mm, of :data:`LEVELS`; without the finest, it is faster and less exact.
    num_threads : int
        Two directions are followed at a time from 2 on. The result does not depend on it.

    Returns
    -------
    Alignment
        Matrix and measures; the same bits at any number of threads.

    Raises
    ------
    InputError
        If `dof` is another number, or a brain is too small to be compared.

    Warns
    -----
    UserWarning
        If the result is no better than the start, or not what two human heads differ by.
    """
    if dof not in DOF:
        raise InputError(f"dof {dof}: give {', '.join(map(str, DOF))}")
    sides = (_Side.of(fixed, fixed_mask), _Side.of(moving, moving_mask))
    before = np.eye(4) if initial is None else np.asarray(initial, dtype=float)
    # Rounding alone can send an optimiser another way: always in one order, whatever was asked.
    exchanged = sides[0].key() > sides[1].key()
    ordered = sides[::-1] if exchanged else sides
    with ThreadPoolExecutor(max_workers=min(num_threads, 2)) as pool:
        if initial is None:
            start = _search(ordered, dof, pool)
        else:
            start = np.linalg.inv(before) if exchanged else before
        matrix, apart = _refine(ordered, _allowed(start, dof, ordered), dof, levels, pool)
    if exchanged:
        matrix = np.linalg.inv(matrix)
    similarity = {name: _likeness(sides, m) for name, m in (("before", before), ("after", matrix))}
    facts = {
        "dof": dof,
        "similarity": {name: round(value, 6) for name, value in similarity.items()},
        "directions_apart_mm": round(apart, 4),
        **describe(matrix),
    }
    for doubt in doubts(facts, matrix):
        warnings.warn(f"{image_name(moving)}: {doubt}", UserWarning, stacklevel=2)
    return Alignment(matrix, facts)


@dataclass(frozen=True)
class Aligned:
    """Two images that were read, and the affine between them."""

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
) -> Aligned:
    """Find the affine between two image files.

    Parameters
    ----------
    fixed, moving : path-like
        Brains without skull, or with masks (NIfTI, MGH).
    fixed_mask, moving_mask : path-like, optional
        Their brains, on any grid in the same world space.
    initial : path-like, optional
        ITK affine to start from, fixed to moving points.
    dof, num_threads : int
        As :func:`align`.

    Returns
    -------
    Aligned
        The result with the images.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    target = read_image(fixed, what="fixed image")
    source = read_image(moving, what="moving image")
    start = None if initial is None else read_affine(initial)
    if start is not None and np.linalg.det(start[:3, :3]) < 0:
        raise InputError(f"{initial}: mirrors the image; give an affine without reflection")
    alignment = align(
        target,
        source,
        fixed_mask=None if fixed_mask is None else read_mask(fixed_mask, what="fixed mask"),
        moving_mask=None if moving_mask is None else read_mask(moving_mask, what="moving mask"),
        initial=start,
        dof=dof,
        num_threads=num_threads,
    )
    return Aligned(target, source, alignment)


@dataclass(frozen=True)
class _Side:
    """One image of a pair, zero outside its brain, and the brain."""

    image: Nifti1Image  # from 0.1 to 1 in the brain, cropped
    smooth: Nifti1Image  # the same at 2 mm, from which coarser levels are made
    brain: Nifti1Image  # at 2 mm
    center: np.ndarray  # of intensities in the brain, RAS mm
    volume: float  # of the brain, mm3

    @classmethod
    def of(cls, image: Nifti1Image, mask: Nifti1Image | None) -> _Side:
        brain = native_brain(image, mask)
        inside = np.asanyarray(brain.dataobj) != 0
        data = np.asanyarray(image.dataobj).astype(np.float32)
        volume = np.count_nonzero(inside) * abs(np.linalg.det(image.affine[:3, :3]))
        if volume < SMALLEST:
            raise InputError(
                f"{image_name(image)}: its brain has {volume / 1000:.2g} ml, too little to align; "
                "check the voxel sizes and the mask"
            )
        low, high = np.percentile(data[inside], (0.5, 99.5))
        if not high > low:
            raise InputError(f"{image_name(image)}: has no contrast in its brain; check the mask")
        low = min(low, 0.0)
        # From 0.1, so that the darkest tissue still differs from what is outside.
        weights = np.where(inside, np.clip((data - low) / (high - low), 0, 1) * 0.9 + 0.1, 0)
        index = np.argwhere(inside)
        center = np.average(index, axis=0, weights=weights[inside])
        box = tuple(
            slice(max(a - 1, 0), b + 2) for a, b in zip(index.min(0), index.max(0), strict=True)
        )
        cropped = nifti(weights.astype(np.float32), image.affine).slicer[box]
        outline = nifti(inside.astype(np.uint8), image.affine).slicer[box]
        grid = working_grid(outline, spacing=LEVELS[-1], margin_mm=2 * LEVELS[-1])
        smooth, brain = (nifti(conform(i, grid), grid.affine) for i in (cropped, outline))
        return cls(cropped, smooth, brain, apply_affine(image.affine, center), float(volume))

    def key(self) -> tuple[float, list[float], bytes]:
        """Return what puts any two images into an order."""
        data = np.asanyarray(self.image.dataobj)
        return self.volume, self.center.tolist(), data.tobytes()

    def on(self, grid: Grid, matrix: np.ndarray | None = None) -> np.ndarray:
        """Return the image on a grid, whose points `matrix` maps to the image."""
        source = self.image if grid.spacing[0] < 2 * LEVELS[-1] else self.smooth
        return conform(source, grid, matrix)

    def corners(self) -> np.ndarray:
        """Return the corners of the box around the brain, (8, 3), RAS mm."""
        index = np.argwhere(np.asanyarray(self.brain.dataobj) > 0.5)
        ends = np.stack([index.min(axis=0), index.max(axis=0)])
        picks = np.indices((2, 2, 2)).reshape(3, -1).T
        return apply_affine(self.brain.affine, ends[picks, np.arange(3)])


_Sides = tuple[_Side, _Side]


def _search(sides: _Sides, dof: int, pool: ThreadPoolExecutor) -> np.ndarray:
    """Return the best rigid or similarity transform from many starts, fixed to moving."""
    with_scale = dof > 6
    ways = list(pool.map(lambda i: _search_one_way(sides[i], sides[1 - i], with_scale), (0, 1)))
    (there, value), (back, other) = ways
    back = np.linalg.inv(back)
    if _distance(there, back, sides) > APART:
        # One of them is caught somewhere; the average of two different answers is no answer.
        return there if value >= other else back
    return mean(there, back)


def _search_one_way(fixed: _Side, moving: _Side, with_scale: bool) -> tuple[np.ndarray, float]:
    """Return the best transform at the coarse level, and its mutual information."""
    grids = [
        working_grid(side.brain, spacing=COARSE, margin_mm=5 * COARSE) for side in (fixed, moving)
    ]
    volumes = [side.on(grid) for side, grid in zip((fixed, moving), grids, strict=True)]
    target, source = (to_sitk(data, grid) for data, grid in zip(volumes, grids, strict=True))
    brain = _with_rim(conform(fixed.brain, grids[0]) > 0.1, grids[0])
    inside = to_sitk(brain, grids[0])
    size = (moving.volume / fixed.volume) ** (1 / 3)
    model = MODELS[7 if with_scale else 6]
    results = []
    # Heads that lie as their headers say, and heads of which a header names other axes.
    for turns, number in ((rotations_nearby(), 3), (rotations_of_axes(), 2)):
        starts = [
            from_matvec(scale * turn, moving.center - scale * turn @ fixed.center)
            for scale in ((1.0, size) if with_scale else (1.0,))
            for turn in turns
        ]
        values = _likeness_of_starts(volumes, brain, grids, starts)
        results += [
            _optimize(target, source, inside, COARSE, model, starts[i], fixed.center, SEARCH_STEP)
            for i in np.argsort(values, kind="stable")[::-1][:number]
        ]
    return min(results, key=lambda result: result[1])


def _likeness_of_starts(
    volumes: Sequence[np.ndarray],
    inside: np.ndarray,
    grids: Sequence[Grid],
    starts: Sequence[np.ndarray],
) -> list[float]:
    """Return the mutual information of two volumes with each of many matrices."""
    values = volumes[0][inside]
    points = apply_affine(grids[0].affine, np.argwhere(inside))
    to_index = np.linalg.inv(grids[1].affine)
    return [
        _mutual_information(
            values, map_coordinates(volumes[1], apply_affine(to_index @ start, points).T, order=1)
        )
        for start in starts
    ]


def _mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mutual information of values from 0 to 1, in nats."""
    index = [np.clip((v * BINS).astype(int), 0, BINS - 1) for v in (first, second)]
    counts = np.bincount(index[0] * BINS + index[1], minlength=BINS**2).reshape(BINS, BINS)
    joint = counts / first.size
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float(np.sum(joint[seen] * np.log(joint[seen] / apart[seen])))


def _refine(
    sides: _Sides, start: np.ndarray, dof: int, levels: Sequence[float], pool: ThreadPoolExecutor
) -> tuple[np.ndarray, float]:
    """Return the affine between two images, and how far both directions were apart, mm."""
    first, second = halves(start)
    into = (np.linalg.inv(first), second)  # from the space half-way to each image
    middle, apart = np.eye(4), 0.0
    for spacing in levels:
        grid = _common_grid(sides, into, spacing)
        images = [
            to_sitk(side.on(grid, matrix), grid) for side, matrix in zip(sides, into, strict=True)
        ]
        brains = [
            conform(side.brain, grid, matrix) > 0.1
            for side, matrix in zip(sides, into, strict=True)
        ]
        inside = to_sitk(_with_rim(brains[0] | brains[1], grid), grid)
        center = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)

        def follow(
            way: int,
            images: Sequence[sitk.Image] = images,
            inside: sitk.Image = inside,
            center: np.ndarray = center,
            begin: Sequence[np.ndarray] = (middle, np.linalg.inv(middle)),
            spacing: float = spacing,
        ) -> np.ndarray:
            pair = images[way], images[1 - way]
            return _optimize(
                *pair, inside, spacing, MODELS[dof], begin[way], center, SMALLEST_STEP[spacing]
            )[0]

        there, back = pool.map(follow, (0, 1))
        back = np.linalg.inv(back)
        middle = mean(there, back)
        apart = _distance(second @ there @ first, second @ back @ first, sides)
    return second @ middle @ first, apart


def _allowed(matrix: np.ndarray, dof: int, sides: _Sides) -> np.ndarray:
    """Return the matrix without what the degrees of freedom do not have."""
    if dof == 12:
        return matrix
    scale = 1.0 if dof == 6 else abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
    linear, center = scale * rotation(matrix), sides[0].center
    return from_matvec(linear, apply_affine(matrix, center) - linear @ center)


def _common_grid(sides: _Sides, into: tuple[np.ndarray, np.ndarray], spacing: float) -> Grid:
    """Return a grid around both brains that does not depend on their order."""
    corners = np.concatenate([
        apply_affine(np.linalg.inv(matrix), side.corners())
        for side, matrix in zip(sides, into, strict=True)
    ])  # fmt: skip
    margin = 2 * COARSE
    # Corners often lie at whole numbers: from there, rounding would decide.
    low = np.floor((corners.min(axis=0) - margin) / spacing - 0.013) * spacing
    high = np.ceil((corners.max(axis=0) + margin) / spacing + 0.013) * spacing
    x, y, z = (np.rint((high - low) / spacing).astype(int) + 1).tolist()
    return Grid((x, y, z), from_matvec(np.eye(3) * spacing, low))


def _with_rim(brain: np.ndarray, grid: Grid) -> np.ndarray:
    """Return where images are compared: the brain and its rim, which tells its outline."""
    return binary_dilation(brain, iterations=max(1, round(RIM / grid.spacing[0])))


def _method(inside: sitk.Image, spacing: float, step: float) -> sitk.ImageRegistrationMethod:
    """Return ITK's registration with the settings that converge.

    Plain gradient descent with a learning rate estimated at each iteration stops millimetres off.
    """
    method = sitk.ImageRegistrationMethod()
    # Sums over threads depend on how many there are.
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    # Samples are moved at random within a voxel, with a seed: a fine grid needs few of them.
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED[spacing], seed=1)
    method.SetMetricFixedMask(inside)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0,
        minStep=step,
        numberOfIterations=400,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
        estimateLearningRate=method.Once,
        maximumStepSizeInPhysicalUnits=spacing,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _optimize(
    fixed: sitk.Image,
    moving: sitk.Image,
    inside: sitk.Image,
    spacing: float,
    model: Model,
    start: np.ndarray,
    center: np.ndarray,
    step: float,
) -> tuple[np.ndarray, float]:
    """Follow the mutual information from a start; return the matrix and the negative value."""
    method = _method(inside, spacing, step)
    transform = model(start, center)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # the images do not meet, or hold nothing to compare
        return start, 0.0
    return affine_matrix(transform), float(method.GetMetricValue())


def _likeness(sides: _Sides, matrix: np.ndarray) -> float:
    """Return the mutual information of two images with a matrix, at 4 mm."""
    spacing = 2 * LEVELS[-1]
    grid = working_grid(sides[0].brain, spacing=spacing, margin_mm=2 * COARSE)
    first, second = (
        side.on(grid, m)[_with_rim(conform(sides[0].brain, grid) > 0.1, grid)]
        for side, m in zip(sides, (np.eye(4), matrix), strict=True)
    )
    return _mutual_information(first, second)


def _distance(first: np.ndarray, second: np.ndarray, sides: _Sides) -> float:
    """Return how far two matrices send the corners of the fixed brain apart, mm, at most."""
    points = sides[0].corners()
    apart = apply_affine(first, points) - apply_affine(second, points)
    return float(np.linalg.norm(apart, axis=1).max())
