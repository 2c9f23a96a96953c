"""The two images of an affine alignment, prepared for comparison at several resolutions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import binary_dilation

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.resampling import conform

FINEST = 2.0  # mm, the finest voxel size at which images are compared
BOUNDARY = 4.0  # mm around the brain that are compared as well
MARGIN = 16.0  # mm around the brains on a common grid
MIN_VOLUME = 5000.0  # mm3 of a brain


@dataclass(frozen=True)
class BrainImage:
    """An image for affine alignment: intensities in the brain, zero outside, and the brain itself.

    Attributes
    ----------
    image : Nifti1Image
        From 0.1 to 1 in the brain, cropped to it.
    smooth : Nifti1Image
        The same at 2 mm, from which coarser resolutions are made.
    brain : Nifti1Image
        Fraction of brain at 2 mm.
    center : ndarray
        Centre of the intensities in the brain, RAS mm.
    volume : float
        Of the brain, mm3.
    """

    image: Nifti1Image
    smooth: Nifti1Image
    brain: Nifti1Image
    center: np.ndarray
    volume: float

    @classmethod
    def of(cls, image: Nifti1Image, mask: Nifti1Image | None) -> BrainImage:
        """Prepare an image and its mask; default: the nonzero voxels."""
        brain = native_brain(image, mask)
        inside = np.asanyarray(brain.dataobj) != 0
        data = np.asanyarray(image.dataobj).astype(np.float32)
        volume = np.count_nonzero(inside) * abs(np.linalg.det(image.affine[:3, :3]))
        if volume < MIN_VOLUME:
            raise InputError(
                f"{image_name(image)}: its brain has {volume / 1000:.2g} ml, too little to align; "
                "check the voxel sizes and the mask"
            )
        low, high = np.percentile(data[inside], (0.5, 99.5))
        if not high > low:
            raise InputError(f"{image_name(image)}: has no contrast in its brain; check the mask")
        low = min(low, 0.0)
        # From 0.1, so that the darkest tissue still differs from the background.
        weights = np.where(inside, np.clip((data - low) / (high - low), 0, 1) * 0.9 + 0.1, 0)
        index = np.argwhere(inside)
        center = np.average(index, axis=0, weights=weights[inside])
        box = tuple(
            slice(max(a - 1, 0), b + 2) for a, b in zip(index.min(0), index.max(0), strict=True)
        )
        cropped = nifti(weights.astype(np.float32), image.affine).slicer[box]
        outline = nifti(inside.astype(np.uint8), image.affine).slicer[box]
        grid = working_grid(outline, spacing=FINEST, margin_mm=2 * FINEST)
        smooth, brain = (nifti(conform(i, grid), grid.affine) for i in (cropped, outline))
        return cls(cropped, smooth, brain, apply_affine(image.affine, center), float(volume))

    def sort_key(self) -> tuple[float, list[float], bytes]:
        """Return a key that defines an order of any two images."""
        data = np.asanyarray(self.image.dataobj)
        return self.volume, self.center.tolist(), data.tobytes()

    def resampled(self, grid: Grid, matrix: np.ndarray | None = None) -> np.ndarray:
        """Return the image on a grid; `matrix` maps points of the grid to the image."""
        source = self.image if grid.spacing[0] < 2 * FINEST else self.smooth
        return conform(source, grid, matrix)

    def corners(self) -> np.ndarray:
        """Return the corners of the bounding box of the brain, (8, 3), RAS mm."""
        index = np.argwhere(np.asanyarray(self.brain.dataobj) > 0.5)
        ends = np.stack([index.min(axis=0), index.max(axis=0)])
        corners = np.indices((2, 2, 2)).reshape(3, -1).T
        return apply_affine(self.brain.affine, ends[corners, np.arange(3)])


Pair = tuple[BrainImage, BrainImage]  # fixed and moving


def common_grid(pair: Pair, to_images: tuple[np.ndarray, np.ndarray], spacing: float) -> Grid:
    """Return a grid around both brains; it does not depend on the order of the images."""
    corners = np.concatenate([
        apply_affine(np.linalg.inv(matrix), image.corners())
        for image, matrix in zip(pair, to_images, strict=True)
    ])  # fmt: skip
    # Corners are often whole numbers, where rounding errors would decide without the offset.
    low = np.floor((corners.min(axis=0) - MARGIN) / spacing - 0.013) * spacing
    high = np.ceil((corners.max(axis=0) + MARGIN) / spacing + 0.013) * spacing
    x, y, z = (np.rint((high - low) / spacing).astype(int) + 1).tolist()
    return Grid((x, y, z), from_matvec(np.eye(3) * spacing, low))


def with_boundary(brain: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the brain and its surroundings, in which images are compared, bool."""
    return binary_dilation(brain, iterations=max(1, round(BOUNDARY / grid.spacing[0])))


def corner_distance(first: np.ndarray, second: np.ndarray, pair: Pair) -> float:
    """Return the largest distance between the fixed brain's corners under two matrices, mm."""
    points = pair[0].corners()
    difference = apply_affine(first, points) - apply_affine(second, points)
    return float(np.linalg.norm(difference, axis=1).max())
