"""Content of the picture of the demonstration: volumes on one grid, and planes through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Normalize

from nipype_quicksilver.demo.outcome import Outcome
from nipype_quicksilver.spatial.grids import Grid

VIEWS = {"axial": 2, "coronal": 1, "sagittal": 0}

_MARGIN = 3.0  # mm around the brain in each panel
_LARGE_AREA = 0.88  # of brain in a plane, as a fraction of the largest area


@dataclass(frozen=True, eq=False)
class Scene:
    """Content of the panels: arrays (X, Y, Z) on one grid whose axes are parallel to the world's.

    Attributes
    ----------
    grid : Grid
        Grid of the images.
    moving, fixed, warped, matched : ndarray
        Images from 0 to 1; `matched` is the warped image with the histogram of the fixed image.
    moving_labels, warped_labels : ndarray
        Tissues.
    displacement : ndarray
        (X, Y, Z, 3), RAS mm: the estimated displacement.
    length : ndarray
        Its length, mm.
    error : ndarray
        Distance of the map from the truth, mm.
    brain : ndarray
        Voxels of the fixed brain, bool.
    norm : Normalize
        Scale of the colours of displacements and errors.
    """

    grid: Grid
    moving: np.ndarray
    fixed: np.ndarray
    warped: np.ndarray
    matched: np.ndarray
    moving_labels: np.ndarray
    warped_labels: np.ndarray
    displacement: np.ndarray
    length: np.ndarray
    error: np.ndarray
    brain: np.ndarray
    norm: Normalize

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the corners of the box around both brains, mm."""
        both, affine = self.brain | (self.moving > 0), self.grid.affine
        ends = []
        for axis in range(3):
            index = np.flatnonzero(both.any(axis=_others(axis)))
            ends.append(index[[0, -1]] * affine[axis, axis] + affine[axis, 3])
        low, high = np.transpose(ends)
        return low - _MARGIN, high + _MARGIN

    def cuts(self) -> list[Cut]:
        """Return a plane for each of :data:`VIEWS`: that with the largest displacement."""
        return [Cut(self, view, self._best_index(axis)) for view, axis in VIEWS.items()]

    def _best_index(self, axis: int) -> int:
        """Return the plane of the largest mean displacement, among those with much brain."""
        area = self.brain.sum(axis=_others(axis))
        moved = (self.length * self.brain).sum(axis=_others(axis))
        large = area >= _LARGE_AREA * area.max()
        return int(np.where(large, moved / np.maximum(area, 1), 0).argmax())


@dataclass(frozen=True, eq=False)
class Cut:
    """A plane through the scene."""

    scene: Scene
    view: str
    index: int

    @property
    def normal(self) -> int:
        """The axis of the volume that is normal to the plane."""
        return VIEWS[self.view]

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the volume that run to the right and up."""
        return _others(self.normal)

    @property
    def position(self) -> float:
        """World coordinate of the plane along its normal, mm."""
        affine = self.scene.grid.affine
        return float(affine[self.normal, 3] + self.index * affine[self.normal, self.normal])

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Return the plane of a volume: rows run upwards, columns to the right."""
        # Not `np.take`, which copies a volume that is not contiguous.
        plane = volume[(slice(None),) * self.normal + (self.index,)]
        return np.swapaxes(plane, 0, 1)

    def along(self, axis: int) -> np.ndarray:
        """Return the world coordinates of the voxels along an axis, mm."""
        affine = self.scene.grid.affine
        return affine[axis, 3] + affine[axis, axis] * np.arange(self.scene.grid.shape[axis])

    def extent(self) -> tuple[float, float, float, float]:
        """Return the edges of the plane for `imshow`, mm."""
        edges: list[float] = []
        for axis in self.axes:
            mm, half = self.along(axis), self.scene.grid.spacing[axis] / 2
            edges += [mm[0] - half, mm[-1] + half]
        return edges[0], edges[1], edges[2], edges[3]


def make_scene(outcome: Outcome) -> Scene:
    """Collect the content of the picture.

    Parameters
    ----------
    outcome : Outcome
        Of a pair on a grid whose axes are parallel to the world's.

    Returns
    -------
    Scene
        On the grid of the pair.
    """
    pair, registration = outcome.pair, outcome.registration
    moving, fixed = (np.asanyarray(image.dataobj) for image in (pair.moving, pair.fixed))
    brain = fixed > 0
    length = np.linalg.norm(registration.displacement, axis=-1)
    assert registration.warped_labels is not None
    return Scene(
        grid=Grid.from_image(pair.fixed),
        moving=_bright(moving),
        fixed=_bright(fixed),
        warped=_bright(registration.warped),
        matched=_bright(_with_histogram(registration.warped, fixed)),
        moving_labels=np.asanyarray(pair.moving_labels.dataobj),
        warped_labels=registration.warped_labels,
        displacement=registration.displacement,
        length=length,
        error=outcome.error["after"],
        brain=brain,
        norm=Normalize(0, float(np.ceil(length[brain].max()))),
    )


def _others(axis: int) -> tuple[int, int]:
    """Return the two other axes of a volume."""
    first, second = (other for other in range(3) if other != axis)
    return first, second


def _bright(image: np.ndarray) -> np.ndarray:
    """Return an image from 0 to 1, scaled by its robust maximum."""
    top = np.float32(np.percentile(image[image > 0], 99.5))
    return np.clip(image / top, 0, 1, dtype=np.float32)


def _with_histogram(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return an image with the histogram of another image, inside its brain."""
    ranks, inside = np.linspace(0, 100, 201), image > 0
    source, target = (np.percentile(volume[volume > 0], ranks) for volume in (image, other))
    matched = np.zeros(image.shape, np.float32)
    matched[inside] = np.interp(image[inside], source, target)
    return matched
