"""Images and label maps for training end to end, read and resampled to one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nibabel.affines import apply_affine, from_matvec
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError, naming
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.conforming import conform_mask
from nipype_quicksilver.spatial.grids import Grid, check_same_grid
from nipype_quicksilver.spatial.images import image_name, read_image, read_labels
from nipype_quicksilver.spatial.intensity import normalize
from nipype_quicksilver.spatial.resampling import conform, pooled
from nipype_quicksilver.training.data import Files
from nipype_quicksilver.training.synthesis import TrainingScan
from nipype_quicksilver.training.tissue_fractions import (
    count_fractions,
    on_common_grid,
    read_tissue_fractions,
)
from nipype_quicksilver.training.tissues import TissueTable, rows_of_labels


def read_brains(
    files: Files, table: TissueTable, grid: tuple[int, int, int], factor: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Read label maps as fractions of classes, aligned to each other.

    Parameters
    ----------
    files : Files
        Label maps.
    table : TissueTable
    grid : tuple of int
        Sides of the common grid, whose voxels have 1 mm.
    factor : int
        The training grid is coarser than the common grid by this factor.

    Returns
    -------
    training, validation : list of torch.Tensor
        (C, X, Y, Z) each, as bytes from 0 to 255, on the training grid.
    """
    if not files.all:
        return [], []
    fractions = read_tissue_fractions(files.all, table, shape=grid, factor=factor)
    return files.split([torch.from_numpy(brain) for brain in fractions])


def read_scans(
    files: Files,
    labels: Sequence[Path],
    table: TissueTable,
    grid: tuple[int, int, int],
    factor: int,
) -> tuple[list[TrainingScan], list[TrainingScan]]:
    """Read brains without skull that are aligned to each other by their headers.

    Parameters
    ----------
    files : Files
        Images, on any grids.
    labels : sequence of Path
        Label maps of all images, on their grids and in their order; or empty.
    table : TissueTable
    grid : tuple of int
        Sides of the common grid, whose voxels have 1 mm; its centre is that of the bounding box
        of all brains.
    factor : int
        The training grid is coarser than the common grid by this factor.

    Returns
    -------
    training, validation : list of TrainingScan

    Raises
    ------
    InputError
        If a file cannot be used, label maps do not match the images, or a brain does not fit into
        the grid.
    """
    if labels and len(labels) != len(files.all):
        raise InputError(
            f"{labels[0].parent}: {len(labels)} label maps for {len(files.all)} images; give one "
            "for each image, in the same order"
        )
    images = [read_image(path, what="training image") for path in files.all]
    brains = [native_brain(image, None) for image in images]
    boxes = np.array([_world_box(brain) for brain in brains])
    centre = (boxes[:, 0].min(axis=0) + boxes[:, 1].max(axis=0)) / 2 if len(boxes) else np.zeros(3)
    for image, box in zip(images, boxes, strict=True):
        if np.any(np.abs(box - centre) > np.array(grid) / 2):
            raise InputError(
                f"{image_name(image)}: its brain does not fit into the training grid of "
                f"{'x'.join(map(str, grid))} mm around all brains; align the images to each other, "
                "or give a recipe with a larger grid"
            )
    maps: Sequence[Path | None] = labels or [None] * len(images)
    scans = [
        _scan(image, brain, label, table, centre, grid, factor)
        for image, brain, label in zip(images, brains, maps, strict=True)
    ]
    return files.split(scans)


def _world_box(brain: Nifti1Image) -> np.ndarray:
    """Return the smallest and the largest RAS coordinates of a brain's voxels, (2, 3), mm."""
    index = np.argwhere(np.asanyarray(brain.dataobj))
    # The corners of the bounding box in voxels are enough to bound it in RAS.
    corners = np.stack([index.min(axis=0), index.max(axis=0)])
    points = apply_affine(brain.affine, np.stack(np.meshgrid(*corners.T), -1).reshape(-1, 3))
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _scan(
    image: Nifti1Image,
    brain: Nifti1Image,
    label: Path | None,
    table: TissueTable,
    centre: np.ndarray,
    shape: tuple[int, int, int],
    factor: int,
) -> TrainingScan:
    corner = [c - (n - 1) / 2 for c, n in zip(centre, shape, strict=True)]
    grid = Grid(shape, from_matvec(np.eye(3), corner))
    inside = conform_mask(brain, grid)
    with naming(image_name(image)):
        data = normalize(conform(image, grid), inside)
    classes = None
    if label is not None:
        classes = _classes(image, label, table, centre, shape, factor)
    return TrainingScan(_pooled(data, factor), _pooled(inside, factor), classes)


def _classes(
    image: Nifti1Image,
    label: Path,
    table: TissueTable,
    centre: np.ndarray,
    shape: tuple[int, int, int],
    factor: int,
) -> torch.Tensor:
    labels = read_labels(label, what="label map")
    check_same_grid(image, labels)
    rows = rows_of_labels(np.asanyarray(labels.dataobj), table)
    if not (rows >= 0).any():
        raise InputError(
            f"{label}: has none of the labels in the table of tissues; give another table"
        )
    common = on_common_grid(rows, labels.affine, table, from_matvec(np.eye(3), centre), shape)
    return torch.from_numpy(count_fractions(common, len(table.labels), factor))


def _pooled(data: np.ndarray, factor: int) -> torch.Tensor:
    """Return the mean over blocks of voxels, (1, 1, x, y, z)."""
    return torch.from_numpy(pooled(data.astype(np.float32), factor))[None, None]
