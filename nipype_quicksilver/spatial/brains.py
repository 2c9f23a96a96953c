"""The brain of an image: its mask, or its nonzero voxels."""

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.intensity import foreground
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import affine_transform


def native_brain(image: Nifti1Image, mask: Nifti1Image | None) -> Nifti1Image:
    """Return the brain of an image on its own grid.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z).
    mask : Nifti1Image, optional
        Its brain mask, on any grid in the same world space; default: the nonzero voxels.

    Returns
    -------
    Nifti1Image
        On the grid of `image`, uint8, 0 or 1.

    Raises
    ------
    InputError
        If the mask does not overlap the nonzero voxels of the image.
    """
    occupied = foreground(np.asanyarray(image.dataobj))
    if mask is None:
        return named_after(occupied, image)
    inside = mask_on_image(mask, image)
    if not np.any(inside & occupied):
        raise InputError(_no_overlap_message(mask, image))
    return named_after(inside, mask, grid_of=image)


def mask_on_image(mask: Nifti1Image, image: Nifti1Image) -> np.ndarray:
    """Resample a mask onto the grid of its image.

    Parameters
    ----------
    mask : Nifti1Image
        (X, Y, Z), nonzero inside, on any grid in the world space of the image.
    image : Nifti1Image
        (X, Y, Z).

    Returns
    -------
    ndarray
        On the grid of `image`, bool.

    Raises
    ------
    InputError
        If the mask does not overlap the image.
    """
    grid = Grid.from_image(image)
    inside = resample(mask, grid, affine_transform(np.eye(4)), interpolation="NearestNeighbor") != 0
    if not inside.any():
        raise InputError(_no_overlap_message(mask, image))
    return inside


def named_after(
    data: np.ndarray, source: Nifti1Image, *, grid_of: Nifti1Image | None = None
) -> Nifti1Image:
    """Return data as an image that error messages refer to by the file name of another image.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z); bool becomes uint8.
    source : Nifti1Image
        The image that provides the file name.
    grid_of : Nifti1Image, optional
        The image that provides the grid; default: `source`.

    Returns
    -------
    Nifti1Image
        In memory.
    """
    if data.dtype == bool:
        data = data.astype(np.uint8)
    image = nifti(data, (grid_of or source).affine)
    image.extra["path"] = image_name(source)
    return image


def _no_overlap_message(mask: Nifti1Image, image: Nifti1Image) -> str:
    return (
        f"{image_name(mask)}: does not overlap {image_name(image)} in space; "
        "give the mask of that image"
    )
