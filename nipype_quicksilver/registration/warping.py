"""Interpolation on whole grids: the results of ITK up to rounding, in a fraction of the time.

Torch is imported when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import affine_transform

if TYPE_CHECKING:
    import torch

#: Corners of a cell, as offsets from its first voxel.
CORNERS = tuple((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))

# Number of parts of the points, which are sampled in parallel.
_PARTS = 4


def pull_back(data: np.ndarray, source: Grid, displacement: np.ndarray, grid: Grid) -> np.ndarray:
    """Return an image at the displaced voxels of a grid.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z), on `source`.
    source : Grid
        Grid of the image.
    displacement : ndarray
        (x, y, z, 3), RAS mm, of each voxel of `grid`.
    grid : Grid
        Grid of the result.

    Returns
    -------
    ndarray
        (x, y, z), float32; 0 beyond the outer edges of the image's voxels.
    """
    index = _indices(source, displacement, grid)
    return (_sample(data[None], index)[0] * _inside(index, source)).reshape(grid.shape)


def pull_back_labels(
    labels: np.ndarray, source: Grid, displacement: np.ndarray, grid: Grid
) -> np.ndarray:
    """Return a label map at the displaced voxels of a grid.

    Each label is interpolated linearly, and the label of the largest value is taken, as with ITK's
    ``sitkLabelLinear``; if several labels have that value, the smallest of them.

    Parameters
    ----------
    labels : ndarray
        (X, Y, Z), integers, on `source`.
    source, displacement, grid
        As for :func:`pull_back`.

    Returns
    -------
    ndarray
        (x, y, z), with the data type of `labels`; 0 beyond the outer edges of the map's voxels.
    """
    index = _indices(source, displacement, grid)
    first, fraction = _cells(index, source)
    corners = [np.ravel_multi_index(offset, source.shape) for offset in CORNERS]
    flat = np.ravel_multi_index(tuple(first), source.shape)
    values = labels.ravel()[flat]
    # Most voxels lie between eight voxels of one label.
    mixed = np.flatnonzero(~_uniform(labels).ravel()[flat])
    around = labels.ravel()[flat[mixed] + np.array(corners)[:, None]]
    weights = [
        np.prod(
            [f if o else 1 - f for o, f in zip(offset, fraction[:, mixed], strict=True)], axis=0
        )
        for offset in CORNERS
    ]
    values[mixed] = _heaviest(around, np.array(weights))
    values[~_inside(index, source)] = 0
    return values.reshape(grid.shape)


def _indices(source: Grid, displacement: np.ndarray, grid: Grid) -> np.ndarray:
    """Return where displaced voxels of a grid lie among those of another, (3, N)."""
    to_index = np.linalg.inv(source.affine)
    linear, whole = to_index[:3, :3].astype(np.float32), to_index @ grid.affine
    # Along each axis and in single precision, as whole grids of coordinates are large.
    i, j, k = (
        (whole[:3, axis, None] * np.arange(n)).astype(np.float32)
        for axis, n in enumerate(grid.shape)
    )
    start = whole[:3, 3, None].astype(np.float32)
    index: np.ndarray = linear @ np.moveaxis(displacement, -1, 0).reshape(3, -1)
    index = index.reshape(3, *grid.shape)
    index += (i + start)[:, :, None, None]
    index += j[:, None, :, None] + k[:, None, None, :]
    return index.reshape(3, -1)


def _inside(index: np.ndarray, source: Grid) -> np.ndarray:
    """Return whether each index is inside the outer edges of a grid's voxels, (N,)."""
    inside = np.ones(index.shape[1], bool)
    for along, size in zip(index, source.shape, strict=True):
        inside &= (along >= -0.5) & (along <= size - 0.5)
    return inside


def _cells(index: np.ndarray, source: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the first voxel of the cell around each index, and the offset from it, both (3, N)."""
    last = np.array(source.shape)[:, None] - 1
    within = np.clip(index, 0, last.astype(np.float32))
    first = np.minimum(within.astype(np.int32), np.maximum(last - 1, 0).astype(np.int32))
    return first, within - first


def _uniform(labels: np.ndarray) -> np.ndarray:
    """Return whether each voxel is the first of a cell that has one label at all corners."""
    uniform = np.zeros(labels.shape, bool)
    nx, ny, nz = (n - 1 for n in labels.shape)
    inner = uniform[:nx, :ny, :nz]
    inner[:] = True
    for i, j, k in CORNERS:
        inner &= labels[i : i + nx, j : j + ny, k : k + nz] == labels[:nx, :ny, :nz]
    return uniform


def _heaviest(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the label with the largest sum of weights in each column of two (8, N) arrays."""
    best, heaviest = labels[0].copy(), np.full(labels.shape[1], -1.0, weights.dtype)
    for label in labels:
        weight = np.where(labels == label, weights, 0).sum(axis=0)
        better = (weight > heaviest) | ((weight == heaviest) & (label < best))
        best, heaviest = np.where(better, label, best), np.where(better, weight, heaviest)
    return best


def move_points(points: np.ndarray, field: np.ndarray, grid: Grid) -> np.ndarray:
    """Return points moved by a displacement field.

    Parameters
    ----------
    points : ndarray
        (N, 3), RAS mm.
    field : ndarray
        (X, Y, Z, 3), RAS mm, zero at the border of its grid and beyond.
    grid : Grid
        Grid of the field.

    Returns
    -------
    ndarray
        (N, 3), RAS mm.
    """
    index = apply_affine(np.linalg.inv(grid.affine), points).T
    return points + _sample(np.moveaxis(field, -1, 0), index).T


def _sample(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return an image (C, X, Y, Z) at indices (3, N) of its voxels, (C, N); border repeated."""
    import torch
    from torch.nn import functional

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    sizes = tensor(np.array(image.shape[1:]))[:, None]
    points = (tensor(index) * (2 / (sizes - 1)) - 1).flip(0).T
    # Torch samples a batch in parallel but one volume on one thread.
    points = functional.pad(points, (0, 0, 0, -len(points) % _PARTS))
    result = functional.grid_sample(
        tensor(image).expand(_PARTS, -1, -1, -1, -1),
        points.reshape(_PARTS, 1, 1, -1, 3),
        padding_mode="border",
        align_corners=True,
    )
    flat: np.ndarray = result.transpose(0, 1).reshape(len(image), -1).numpy()
    return flat[:, : index.shape[1]]


def uncertainty_on_image(uncertainty: Nifti1Image, to_image: np.ndarray, grid: Grid) -> np.ndarray:
    """Resample an uncertainty from the working grid to the grid of an image.

    Parameters
    ----------
    uncertainty : Nifti1Image
        On the working grid: (X, Y, Z), mm, or the variances of components (X, Y, Z, 3), mm^2.
    to_image : ndarray
        4x4, maps points of the working grid to points of the image, RAS mm. In the frame of a
        template or in an enlarged world, a brain has another size than in its image.
    grid : Grid
        The grid of the image.

    Returns
    -------
    ndarray
        On `grid`, in mm or mm^2 of the image.
    """
    values = np.asanyarray(uncertainty.dataobj)
    size = abs(np.linalg.det(to_image[:3, :3])) ** (1 / 3)
    scaled = nifti(values * np.float32(size ** (values.ndim - 2)), uncertainty.affine)
    return resample(scaled, grid, affine_transform(np.linalg.inv(to_image)))
