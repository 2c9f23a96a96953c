"""Fuse label maps of several atlases on one grid, and measure label volumes."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import gaussian_filter

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import FUSIONS
from nipype_quicksilver.spatial.files import PathLike, check_readable, staged
from nipype_quicksilver.spatial.grids import check_same_grid, index_box
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.tables import read_rows, whole

_SIGMA = 2.0  # voxels; Gaussian window in which an atlas is compared with the target
_SHARPNESS = 2.0  # weights are the local mean squared difference to the power of minus this
_TIE = 65535  # label of voxels with equal votes


def fuse_labels(
    labels: Sequence[Nifti1Image],
    *,
    method: str = "majority",
    target: Nifti1Image | None = None,
    images: Sequence[Nifti1Image] = (),
) -> Nifti1Image:
    """Fuse label maps on one grid.

    Parameters
    ----------
    labels : sequence of Nifti1Image
        (X, Y, Z), integers, 0 without label.
    method : {'majority', 'staple', 'weighted'}
        The most frequent label; Warfield's STAPLE for several labels, which estimates the
        reliability of each map; or votes weighted by the local similarity of atlas and target
        (inverse square of the local mean squared difference). A tie is decided by the first map
        that has one of the tied labels; if STAPLE does not decide, by the most frequent label.
    target : Nifti1Image, optional
        For ``weighted``: the target image on the same grid.
    images : sequence of Nifti1Image
        For ``weighted``: the image of each atlas on the same grid.

    Returns
    -------
    Nifti1Image
        (X, Y, Z), in the smallest data type that holds those of all maps.

    Raises
    ------
    InputError
        If there are no maps, grids differ, images are missing, or there are more than 65,535
        labels.
    """
    if method not in FUSIONS:
        raise InputError(f"fusion '{method}' is unknown; give {', '.join(FUSIONS)}")
    if not labels:
        raise InputError("no label map to fuse; give at least one")
    for other in labels[1:]:
        check_same_grid(labels[0], other)
    maps = [np.asanyarray(image.dataobj) for image in labels]
    dtype = _common_type(maps)
    each = [np.unique(data).astype(dtype) for data in maps]
    values = np.unique(np.concatenate([*each, np.zeros(1, dtype)]))
    if len(values) > _TIE:
        raise InputError(f"{len(values)} labels are more than can be fused; leave some out")
    # Outside this box, no map has a label.
    box = _box(maps)
    indices = [np.searchsorted(values, data[box].astype(dtype)).astype(np.uint16) for data in maps]
    if method == "weighted":
        if target is None or len(images) != len(labels):
            raise InputError("weighted fusion needs the target and the image of each atlas")
        weights = _weights(target, images, box)
        fused = _vote(indices, weights)
    elif method == "staple" and len(labels) > 1:
        fused = _staple(indices)
    else:
        fused = _vote(indices, [1.0] * len(labels))
    result = np.zeros(maps[0].shape, dtype)
    result[box] = values[fused]
    return nifti(result, labels[0].affine, like=labels[0])


def _common_type(maps: Sequence[np.ndarray]) -> np.dtype:
    """Return the smallest data type that holds those of all maps."""
    dtype = np.result_type(*(data.dtype for data in maps))
    if dtype.kind != "f":
        return dtype
    # NumPy has no integer type for both int64 and uint64.
    if all(data.min() >= 0 for data in maps):
        return np.dtype(np.uint64)
    if all(data.max() <= np.iinfo(np.int64).max for data in maps):
        return np.dtype(np.int64)
    raise InputError("the label maps hold values below 0 and above 2^63; use smaller labels")


def _box(maps: Sequence[np.ndarray]) -> tuple[slice, ...]:
    """Return the bounding box of all labels."""
    occupied = np.logical_or.reduce([data != 0 for data in maps])
    if not occupied.any():
        raise InputError("the label maps are zero in every voxel; give maps of the atlases")
    return index_box(occupied)


def _staple(indices: Sequence[np.ndarray]) -> np.ndarray:
    """Return the labels by STAPLE, and the most frequent label where it does not decide."""
    volumes = [sitk.GetImageFromArray(np.ascontiguousarray(data.T)) for data in indices]
    fused = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(volumes, _TIE)).T
    return np.where(fused == _TIE, _vote(indices, [1.0] * len(indices)), fused).astype(np.int64)


def _weights(
    target: Nifti1Image, images: Sequence[Nifti1Image], box: tuple[slice, ...]
) -> list[np.ndarray]:
    """Return the weight of each atlas at each voxel: higher where it is similar to the target."""
    for image in images:
        check_same_grid(target, image)
    reference, *others = (
        _standardized(np.asanyarray(image.dataobj)[box], image) for image in (target, *images)
    )
    differences = [gaussian_filter((other - reference) ** 2, _SIGMA) for other in others]
    floor = 1e-3  # fraction of the variance, so that noise does not decide where all atlases fit
    return [(difference + floor) ** -_SHARPNESS for difference in differences]


def _standardized(data: np.ndarray, image: Nifti1Image) -> np.ndarray:
    """Return intensities with mean 0 and standard deviation 1 over the nonzero voxels."""
    data = data.astype(np.float32)
    inside = data[data != 0]
    if inside.size == 0 or inside.std() == 0:
        raise InputError(f"{image_name(image)}: has no contrast where labels are; check the image")
    return (data - inside.mean()) / inside.std()


def _vote(indices: Sequence[np.ndarray], weights: Sequence[np.ndarray | float]) -> np.ndarray:
    """Return the label with the largest sum of weights; the first map decides ties."""
    best = np.zeros(indices[0].shape, np.float32)
    winner = indices[0].astype(np.int64)
    for candidate in indices:
        votes = np.zeros_like(best)
        for data, weight in zip(indices, weights, strict=True):
            votes += np.where(data == candidate, weight, 0).astype(np.float32)
        better = votes > best
        best[better], winner[better] = votes[better], candidate[better]
    return winner


def read_label_names(path: PathLike) -> dict[int, str]:
    """Read a table of label names.

    Parameters
    ----------
    path : path-like
        BIDS ``dseg.tsv`` with columns ``index`` and ``name``, or a FreeSurfer look-up table
        (number, name, red, green, blue, transparency; ``#`` starts a comment).

    Returns
    -------
    dict
        Name of each label.

    Raises
    ------
    InputError
        If the file is missing or in neither format.
    """
    check_readable(path, "label table")
    file = Path(path)
    try:
        if file.suffix.lower() == ".tsv":
            rows = read_rows(file, "label table", "save it as tab-separated text")
            names = {whole(row["index"]): row["name"] for row in rows}
        else:
            text = file.read_text(encoding="utf-8-sig")
            lines = (line.split("#")[0].split() for line in text.splitlines())
            names = {whole(words[0]): words[1] for words in lines if words}
    except (ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a label table; give a dseg.tsv with index and name, or a FreeSurfer "
            "look-up table"
        ) from error
    if not names:
        raise InputError(f"{path}: contains no labels; give a label table")
    return names


def label_volumes(labels: Nifti1Image) -> dict[int, tuple[int, float]]:
    """Return the number of voxels and the volume (mm3) of each label except 0.

    Examples
    --------
    >>> label_volumes(nifti(np.eye(3, dtype=np.uint8)[None] * 7, np.diag([2.0, 1, 1, 1])))
    {7: (3, 6.0)}
    """
    values, counts = np.unique(np.asanyarray(labels.dataobj), return_counts=True)
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3])))
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return {int(value): (count, count * voxel) for value, count in pairs if value}


def write_volumes(
    path: PathLike, labels: Nifti1Image, names: Mapping[int, str] | None = None
) -> Path:
    """Write the volume of each label as TSV.

    Parameters
    ----------
    path : path-like
        ``.tsv``.
    labels : Nifti1Image
        Label map.
    names : mapping, optional
        Name of each label; absent labels are listed with volume 0.

    Returns
    -------
    Path
        The file: columns ``index``, ``name``, ``voxels``, ``volume_mm3``.
    """
    volumes = label_volumes(labels)
    names = {} if names is None else names
    listed = sorted({*volumes, *(label for label in names if label != 0)})
    with staged(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "name", "voxels", "volume_mm3"))
        for label in listed:
            voxels, volume = volumes.get(label, (0, 0.0))
            writer.writerow((label, names.get(label, "n/a"), voxels, f"{volume:.3f}"))
    return Path(path)


def write_label_table(path: PathLike, names: Mapping[int, str]) -> Path:
    """Write the names of labels as BIDS ``dseg.tsv``."""
    with staged(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "name"))
        writer.writerows(sorted(names.items()))
    return Path(path)
