"""Apply transforms to image files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import LABEL_INTERPOLATIONS, LABEL_PRESERVING
from nipype_quicksilver.spatial import images, resampling, transforms
from nipype_quicksilver.spatial.files import PathLike, check_apart
from nipype_quicksilver.spatial.grids import Grid


def join_transforms(paths: Sequence[PathLike], invert: Sequence[bool] = ()) -> sitk.Transform:
    """Read transforms and compose them.

    Parameters
    ----------
    paths : sequence of path-like
        Transforms in ANTs' order: a point goes through the first listed first.
    invert : sequence of bool
        Whether to invert each of them; default: none.

    Returns
    -------
    SimpleITK.Transform
        The composition, in LPS.

    Raises
    ------
    InputError
        If there are no transforms, a file cannot be read, the number of flags differs, or a
        transform to be inverted is not affine.
    """
    flags = list(invert) or [False] * len(paths)
    if not paths or len(flags) != len(paths):
        raise InputError(f"{len(paths)} transforms but {len(flags)} flags; give one flag for each")
    read = [
        _inverse_affine(path) if flag else transforms.read_transform(path)
        for path, flag in zip(paths, flags, strict=True)
    ]
    return read[0] if len(read) == 1 else transforms.compose_ants(read)


def apply_to_image(
    source: PathLike,
    reference: PathLike,
    output: PathLike,
    transform: sitk.Transform,
    *,
    interpolation: str = "Linear",
    default_value: float = 0.0,
) -> Path:
    """Resample an image file onto the grid of another, once.

    Parameters
    ----------
    source : path-like
        Image, labels or 4-D series.
    reference : path-like
        Image that defines the output grid and the sform and qform codes.
    output : path-like
        ``.nii`` or ``.nii.gz``.
    transform : SimpleITK.Transform
        Maps points of `reference` to points of `source`, in LPS.
    interpolation : str
        As :func:`nipype_quicksilver.spatial.resampling.resample`.
    default_value : float
        Value outside the source image.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If a file cannot be used, or the data type of the source cannot hold `default_value`.
    """
    check_apart([output], [source, reference])
    shape, like = images.read_header(reference, what="reference")
    series = images.read_series(source, what="input")
    if interpolation in LABEL_INTERPOLATIONS and series.get_data_dtype().kind == "f":
        series = images.read_labels(source, what="input")  # whole numbers stored as floats
    if interpolation in LABEL_PRESERVING:
        _check_default_value(default_value, series.get_data_dtype(), source)
    resampled = resampling.resample(
        series,
        Grid(shape, like.affine),
        transform,
        interpolation=interpolation,
        default_value=default_value,
    )
    step = float(series.header.get_zooms()[3]) if resampled.ndim == 4 else None
    return images.write_image(output, resampled, like.affine, like=like, time_step=step)


def _inverse_affine(path: PathLike) -> sitk.Transform:
    """Return the inverse of the affine in a file."""
    try:
        matrix = transforms.read_affine(path)
    except InputError as error:
        transforms.read_transform(path)  # reports a file that is not a transform at all
        raise InputError(
            f"{path}: not affine, so it cannot be inverted here; give the file of its inverse, "
            "such as the inverse composite transform, without the flag"
        ) from error
    return transforms.affine_transform(np.linalg.inv(matrix))


def _check_default_value(value: float, dtype: np.dtype, source: PathLike) -> None:
    """Raise an error if an integer data type cannot hold a value."""
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if not (float(value).is_integer() and limits.min <= value <= limits.max):
        raise InputError(
            f"{source}: has data type {dtype}, which cannot hold the default value "
            f"{value:g}; give a whole number from {limits.min} to {limits.max}"
        )
