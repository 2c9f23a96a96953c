"""Label maps as training wants them: aligned to each other, the share of each class per voxel."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import image_name, read_labels

FLUID = 24  # FreeSurfer's code of the fluid around the brain
CLOSING = 4  # voxels of 1 mm over which sulci are bridged to find the inside of the skull
RIM = 2  # mm of fluid around that which a brain mask may or may not hold
FULL = 255


@dataclass(frozen=True)
class TissueTable:
    """The classes of label maps, a row each.

    Attributes
    ----------
    labels : tuple of int
    tissues : tuple of int
        Number of each label's tissue; both sides of the brain share one.
    t1w, t2w : tuple of float
        Mean intensity of each tissue.
    scored : int
        The overlap of the first so many rows counts.
    """

    labels: tuple[int, ...]
    tissues: tuple[int, ...]
    t1w: tuple[float, ...]
    t2w: tuple[float, ...]
    scored: int


def read_tissue_table(path: PathLike | None = None) -> TissueTable:
    """Read what classes there are and what they look like.

    Parameters
    ----------
    path : path-like, optional
        Tab-separated, columns ``label``, ``name``, ``tissue``, ``t1w``, ``t2w``, ``scored``;
        FreeSurfer's segmentation (aseg) unless given.

    Returns
    -------
    TissueTable

    Raises
    ------
    InputError
        If it cannot be read or lacks a column.
    """
    source = files("nipype_quicksilver.data") / "aseg_tissues.tsv" if path is None else Path(path)
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines, delimiter="\t"))
        rows.sort(key=lambda row: -int(row["scored"]))
        names = list(dict.fromkeys(row["tissue"] for row in rows))
        first = {row["tissue"]: row for row in reversed(rows)}
        return TissueTable(
            labels=tuple(int(row["label"]) for row in rows),
            tissues=tuple(names.index(row["tissue"]) for row in rows),
            t1w=tuple(float(first[name]["t1w"]) for name in names),
            t2w=tuple(float(first[name]["t2w"]) for name in names),
            scored=sum(int(row["scored"]) > 0 for row in rows),
        )
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is no table of tissues; it needs the columns label, tissue, t1w, t2w, scored"
        ) from error


def read_tissue_shares(
    paths: Sequence[PathLike], table: TissueTable, *, shape: tuple[int, int, int], factor: int
) -> list[np.ndarray]:
    """Read label maps, bring them onto each other affinely, and count the classes per voxel.

    The affines are those that bring the classes' centres of mass onto their mean.

    Parameters
    ----------
    paths : sequence of path-like
        Label maps of any orientation, of whole heads or of brains.
    table : TissueTable
        Labels that it does not have are not brain.
    shape : tuple of int
        Of the common grid of 1 mm, a multiple of `factor`.
    factor : int
        Voxels of the common grid along each axis that are counted together.

    Returns
    -------
    list of ndarray
        For each map (classes, x, y, z), bytes: 255 is all of the voxel. Nothing outside the brain.

    Raises
    ------
    InputError
        If a file cannot be read, or has fewer than four of the table's labels.
    """
    images = [nib.as_closest_canonical(read_labels(path)) for path in paths]
    centres = [_centres(image, table) for image in images]
    mean = np.nanmean([c - np.nanmean(c, axis=0) for c in centres], axis=0)
    result = []
    for image, own in zip(images, centres, strict=True):
        matrix = _least_squares_affine(mean, own)
        result.append(
            _shares(_on_common_grid(image, table, matrix, shape), len(table.labels), factor)
        )
    return result


def _centres(image: Nifti1Image, table: TissueTable) -> np.ndarray:
    """Return the centre of mass of each class in the world, NaN where there is none."""
    labels = np.asanyarray(image.dataobj)
    present = [n for n, label in enumerate(table.labels) if np.any(labels == label)]
    if len(present) < 4:
        raise InputError(
            f"{image_name(image)}: has {len(present)} of the labels in the table of tissues; "
            "give label maps with these labels, or another table"
        )
    centres = np.full((len(table.labels), 3), np.nan)
    index = [table.labels[n] for n in present]
    found = ndimage.center_of_mass(np.ones(labels.shape, np.uint8), labels, index)
    centres[present] = apply_affine(image.affine, np.array(found))
    return centres


def _least_squares_affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the affine that maps points onto others; rows with NaN are left out."""
    known = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    homogeneous = np.column_stack([source[known], np.ones(known.sum())])
    matrix = np.eye(4)
    matrix[:3] = np.linalg.lstsq(homogeneous, target[known], rcond=None)[0].T
    return matrix


def _on_common_grid(
    image: Nifti1Image, table: TissueTable, matrix: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Return the row of the table of each voxel of the common grid, -1 outside the brain."""
    rows = np.full(int(max(table.labels)) + 1, -1, np.int16)
    rows[list(table.labels)] = np.arange(len(table.labels))
    labels = np.asanyarray(image.dataobj)
    native = np.where(labels <= max(table.labels), rows[np.minimum(labels, max(table.labels))], -1)
    centred = np.eye(4)
    centred[:3, 3] = [-(n - 1) / 2 for n in shape]
    to_voxel = np.linalg.inv(image.affine) @ matrix @ centred
    common = ndimage.affine_transform(
        native, to_voxel[:3, :3], to_voxel[:3, 3], shape, order=0, mode="constant", cval=-1
    )
    fluid = table.labels.index(FLUID) if FLUID in table.labels else -1
    tissue = (common >= 0) & (common != fluid)
    ball = ndimage.generate_binary_structure(3, 1)
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(tissue, ball, iterations=CLOSING))
    common[inside & ~tissue] = fluid
    rim = ndimage.binary_dilation(inside, ball, iterations=RIM)
    common[~rim] = -1
    return common


def _shares(rows: np.ndarray, classes: int, factor: int) -> np.ndarray:
    """Count the rows in blocks of voxels."""
    x, y, z = (n // factor for n in rows.shape)
    blocks = rows.reshape(x, factor, y, factor, z, factor)
    result = np.empty((classes, x, y, z), np.uint8)
    for row in range(classes):
        result[row] = np.rint((blocks == row).mean(axis=(1, 3, 5)) * FULL)
    return result
