"""Resample images by SimpleITK, once, from the native grid to the output grid."""

from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import SpatialImage
from scipy.ndimage import gaussian_filter

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import APPLY_INTERPOLATIONS, LABEL_INTERPOLATIONS, LABEL_PRESERVING
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.transforms import affine_transform

# Names in ITK where they differ from those in ANTs. "GenericLabel" interpolates each label linearly
# and takes the label with the largest value.
_ITK_NAMES = {"GenericLabel": "LabelLinear", "MultiLabel": "LabelGaussian"}

_FWHM = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a Gaussian, in sigma


def to_sitk(data: np.ndarray, grid: Grid) -> sitk.Image:
    """Return an array on a grid as a SimpleITK image.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z), real; bool becomes uint8 and float16 float32.
    grid : Grid
        Grid of the array; axes may be left-handed.

    Returns
    -------
    SimpleITK.Image
        The image in LPS; voxel (i, j, k) is ``data[i, j, k]``.
    """
    if data.shape != grid.shape:
        raise ValueError(f"data of shape {data.shape} do not fit a grid of {grid.shape}")
    kept = {"b1": np.uint8, "f2": np.float32}.get(data.dtype.str[1:], data.dtype.newbyteorder("="))
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T, dtype=kept))
    grid.set_geometry(image)
    return image


def resample(
    image: SpatialImage,
    grid: Grid,
    transform: sitk.Transform | None = None,
    *,
    interpolation: str = "Linear",
    default_value: float = 0.0,
) -> np.ndarray:
    """Resample an image or a series onto a grid, through a transform.

    Parameters
    ----------
    image : SpatialImage
        Moving image (X, Y, Z), or series (X, Y, Z, T), which is resampled volume by volume.
    grid : Grid
        Output grid, usually that of the fixed image.
    transform : SimpleITK.Transform, optional
        Maps points of `grid` to points of `image`, in LPS; default: identity.
    interpolation : str
        One of `options.APPLY_INTERPOLATIONS`.
    default_value : float
        Value outside the image.

    Returns
    -------
    ndarray
        On `grid`, with T as last axis for a series. Labels (integers with an interpolation for
        labels) keep their type; other integers become float32.

    Raises
    ------
    InputError
        If the interpolation is unknown, or is for labels and the image does not hold integers.
    """
    data = np.asanyarray(image.dataobj)
    options: dict[str, Any] = {"interpolation": interpolation, "default_value": default_value}
    run = resampler(Grid.from_image(image), grid, transform, **options)
    if data.ndim == 3:
        return run(data)
    first = run(data[..., 0])
    result = np.empty((*grid.shape, data.shape[3]), first.dtype, order="F")
    result[..., 0] = first
    for t in range(1, data.shape[3]):
        result[..., t] = run(data[..., t])
    return result


def resampler(
    source: Grid,
    grid: Grid,
    transform: sitk.Transform | None = None,
    *,
    interpolation: str = "Linear",
    default_value: float = 0.0,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that resamples volumes from one grid onto another.

    Parameters
    ----------
    source : Grid
        Grid of the volumes.
    grid, transform, interpolation, default_value
        As for :func:`resample`.

    Returns
    -------
    callable
        From (X, Y, Z) on `source` to (x, y, z) on `grid`; for types see :func:`resample`.

    Raises
    ------
    InputError
        As :func:`resample`.
    """
    sampler = _sampler(grid, transform, interpolation, default_value)

    def run(data: np.ndarray) -> np.ndarray:
        if interpolation not in LABEL_PRESERVING and data.dtype.kind in "iub":
            data = data.astype(np.float32)
        if interpolation in LABEL_INTERPOLATIONS and data.dtype.kind == "f":
            raise InputError(
                f"{interpolation} interpolates labels only; give integers, or use Linear"
            )
        if data.dtype.kind in "iu" and data.dtype.itemsize == 8:
            return _run_wide(sampler, data, source, default_value)
        return _run(sampler, data, source)

    return run


def conform(image: SpatialImage, grid: Grid, affine: np.ndarray | None = None) -> np.ndarray:
    """Resample an image onto a working grid, linearly and once, from its native grid.

    If the grid is coarser than the image, the image is smoothed first, along each of its own axes,
    to the resolution of the grid (full widths at half maximum add in squares), to avoid aliasing.

    Parameters
    ----------
    image : SpatialImage
        (X, Y, Z).
    grid : Grid
        Working grid.
    affine : ndarray, optional
        4x4, maps points of `grid` to points of `image`, RAS mm; default: identity.

    Returns
    -------
    ndarray
        On `grid`, float32; 0 outside the image.
    """
    matrix = np.eye(4) if affine is None else affine
    data = np.asanyarray(image.dataobj).astype(np.float32)
    sigma = _antialias_sigma(image.affine, matrix @ grid.affine)
    if sigma.any():
        data = gaussian_filter(data, sigma, mode="nearest")
    sampler = _sampler(grid, affine_transform(matrix), "Linear", 0.0)
    return _run(sampler, data, Grid.from_image(image))


def _antialias_sigma(native: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return sigma of the smoothing before resampling, in native voxels along native axes.

    A step along each target axis covers ``steps`` native voxels; the norm of a row is the width of
    a target voxel along that native axis, for any rotation between the grids.
    """
    steps = np.linalg.solve(native[:3, :3], target[:3, :3])
    width = np.linalg.norm(steps, axis=1)
    # Differences of a few per cent, or by rounding, do not cause smoothing.
    return np.where(width > 1.05, np.sqrt(np.maximum(width**2 - 1, 0)) / _FWHM, 0.0)


def _sampler(
    grid: Grid, transform: sitk.Transform | None, interpolation: str, default_value: float
) -> sitk.ResampleImageFilter:
    """Return a filter that resamples onto a grid."""
    if interpolation not in APPLY_INTERPOLATIONS:
        names = ", ".join(APPLY_INTERPOLATIONS)
        raise InputError(f"unknown interpolation {interpolation!r}; choose one of {names}")
    sampler = sitk.ResampleImageFilter()
    sampler.SetReferenceImage(grid.reference())
    name = _ITK_NAMES.get(interpolation, interpolation)
    sampler.SetInterpolator(getattr(sitk, f"sitk{name}"))
    sampler.SetDefaultPixelValue(default_value)
    if transform is not None:
        sampler.SetTransform(transform)
    return sampler


def _run(sampler: sitk.ResampleImageFilter, data: np.ndarray, source: Grid) -> np.ndarray:
    """Resample one volume."""
    resampled = sampler.Execute(to_sitk(data, source))
    return sitk.GetArrayFromImage(resampled).transpose(2, 1, 0)


def _run_wide(
    sampler: sitk.ResampleImageFilter, data: np.ndarray, source: Grid, default_value: float
) -> np.ndarray:
    """Resample labels of 64 bits by their ranks: ITK's values are floats, which round them."""
    values = np.unique(np.append(data.ravel(), data.dtype.type(default_value)))
    ranks = np.searchsorted(values, data).astype(np.uint32)
    rank = np.searchsorted(values, data.dtype.type(default_value))
    sampler.SetDefaultPixelValue(int(rank))
    return values[_run(sampler, ranks, source)]


def pooled(data: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of a volume over blocks of `factor` cubed voxels, float32.

    Examples
    --------
    >>> pooled(np.arange(8.0).reshape(2, 2, 2), 2).tolist()
    [[[3.5]]]
    """
    x, y, z = (n // factor for n in data.shape)
    blocks = data.reshape(x, factor, y, factor, z, factor)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)
