"""Checks of brain extraction: whether an image has a skull, and whether a mask is plausible."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import working_grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.resampling import conform

# Volumes of brains, ml, from a newborn to the largest adult; outside the second range, the mask
# cannot be a brain.
PLAUSIBLE_VOLUMES = (300.0, 2200.0)
POSSIBLE_VOLUMES = (50.0, 3000.0)
MIN_ZEROS = 0.2  # fraction of zero voxels in an image without skull
MAX_STRIPPED_VOLUME = 2600.0  # ml; brains in the space of a template are larger than in reality
TOP = 45.0  # mm below the crown; there, a head consists of scalp, skull and brain
LAYER = 2.0  # mm
LAYERS = 12
SKULL_INTENSITY = 0.8  # of the brightest layer further out; a skull is darker
MIN_FRACTION_STRIPPED = 0.85  # of the nonzero voxels that the brain covers in a stripped image
MIN_CONTRAST = 0.08  # of the mean; tissues differ by more, also after smoothing
MIN_SIGNAL = 0.05  # fraction of the variance that remains after smoothing
TAPER = 0.2  # of the area at the top; a neck is wider
ENDS = 10.0  # mm at the top and at the bottom of a head
COARSE = 4.0  # mm
MIN_VOXELS = 10  # along each axis
MAX_SPACING = 12.0  # mm


def milliliters(inside: np.ndarray, image: Nifti1Image) -> float:
    """Return the volume of a mask, ml."""
    return float(np.count_nonzero(inside) * abs(np.linalg.det(image.affine[:3, :3])) / 1000)


def _fraction_of_zeros(data: np.ndarray) -> float:
    return float(np.mean(data == 0))


def check_resolution(image: Nifti1Image) -> None:
    """Raise an error if an image is too coarse or too thin to show a brain."""
    spacing = voxel_sizes(image.affine)
    if min(image.shape) < MIN_VOXELS or spacing.max() > MAX_SPACING:
        size = " x ".join(f"{s:.2g}" for s in spacing)
        raise InputError(
            f"{image_name(image)}: {image.shape[0]} x {image.shape[1]} x {image.shape[2]} voxels "
            f"of {size} mm are too few to extract a brain; give a brain mask"
        )


def is_stripped(data: np.ndarray, inside: np.ndarray, image: Nifti1Image) -> bool:
    """Return whether an image shows a brain without skull, and zero elsewhere."""
    volume = milliliters(inside, image)
    if _fraction_of_zeros(data) < MIN_ZEROS or volume > MAX_STRIPPED_VOLUME:
        return False
    if volume < PLAUSIBLE_VOLUMES[0]:
        return True  # too small for a human head: the brain of an animal or a fetus, or a phantom
    return not _has_skull(image, inside)


def is_nearly_all(volume: float, data: np.ndarray, inside: np.ndarray, image: Nifti1Image) -> bool:
    """Return whether an extracted brain of a volume in ml covers nearly all nonzero voxels."""
    whole = milliliters(inside, image)
    if _fraction_of_zeros(data) <= MIN_ZEROS or whole >= MAX_STRIPPED_VOLUME:
        return False
    return volume > MIN_FRACTION_STRIPPED * whole


def _has_skull(image: Nifti1Image, inside: np.ndarray) -> bool:
    """Return whether a dark layer follows a bright one, from the surface inwards.

    In a T1-weighted head, the scalp is bright, the skull below is dark, and the brain is bright
    again; in a brain without skull, intensities only increase.
    """
    outline = nifti(inside.astype(np.uint8), image.affine)
    grid = working_grid(outline, spacing=LAYER, margin_mm=2 * LAYER)
    values = conform(image, grid)
    occupied = conform(outline, grid) > 0.5
    depth = ndimage.distance_transform_edt(occupied, sampling=LAYER)
    crown = np.flatnonzero(occupied.any(axis=(0, 1))).max()
    occupied[:, :, : max(crown - round(TOP / LAYER), 0)] = False
    layers = np.ceil(depth / LAYER).astype(int)
    # The first layer contains partial volumes with the background.
    profile = [
        np.median(values[occupied & (layers == k)])
        for k in range(2, LAYERS + 1)
        if np.any(occupied & (layers == k))
    ]
    brightest = np.maximum.accumulate(profile)
    return bool(np.min(np.asarray(profile) / np.maximum(brightest, 1e-12)) < SKULL_INTENSITY)


def check_brain(brain: np.ndarray, volume: float, image: Nifti1Image) -> None:
    """Raise an error if a mask cannot be a brain; warn if it is implausible."""
    name = image_name(image)
    if not POSSIBLE_VOLUMES[0] < volume < POSSIBLE_VOLUMES[1]:
        raise InputError(
            f"{name}: the extracted brain has {volume:.0f} ml; give a T1-weighted image of a head "
            "with the right voxel sizes, or a brain mask"
        )
    messages = []
    if not PLAUSIBLE_VOLUMES[0] < volume < PLAUSIBLE_VOLUMES[1]:
        messages.append(
            f"the brain mask has {volume:.0f} ml, implausible for a human brain; check the mask "
            "and the voxel sizes"
        )
    fraction = _fraction_on_border(brain)
    if fraction > 0.02:
        messages.append(
            f"{100 * fraction:.0f}% of the surface of the brain mask lies on the border of the "
            "image; the head may be cut off"
        )
    if _is_upside_down(image):
        messages.append(
            "the head ends abruptly at the top and tapers off at the bottom; it may be upside "
            "down in the header, or cut off"
        )
    if not _has_contrast(brain, image):
        messages.append(
            "the brain has no more contrast than noise or a phantom; check that the image shows a "
            "head"
        )
    for text in messages:
        warnings.warn(f"{name}: {text}", UserWarning, stacklevel=4)


def _fraction_on_border(brain: np.ndarray) -> float:
    """Return the fraction of the surface voxels of a mask on the border of the image."""
    surface = brain & ~ndimage.binary_erosion(brain)  # outside of the image, the mask is empty
    within = surface & ~_border(brain.shape)
    return 1 - float(within.sum()) / float(surface.sum())


def _border(shape: tuple[int, ...]) -> np.ndarray:
    """Return the outermost voxels of a volume, bool."""
    border = np.ones(shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    return border


def _has_contrast(brain: np.ndarray, image: Nifti1Image) -> bool:
    """Return whether smooth parts of a brain differ, as tissues do, unlike noise or a phantom."""
    deep = ndimage.binary_erosion(brain, iterations=3)
    data = np.asanyarray(image.dataobj).astype(np.float32)
    values, smooth = data[deep], ndimage.uniform_filter(data, 5)[deep]
    if values.size == 0 or values.std() == 0:
        return False
    contrast = smooth.std() > MIN_CONTRAST * abs(values.mean())
    return bool(contrast and smooth.var() > MIN_SIGNAL * values.var())


def _is_upside_down(image: Nifti1Image) -> bool:
    """Return whether a head is wide at its top and narrow at its bottom."""
    image = nib.as_closest_canonical(image)
    spacing = voxel_sizes(image.affine)
    x, y, z = (slice(None, None, max(1, round(COARSE / s))) for s in spacing)
    data = np.asanyarray(image.dataobj)[x, y, z]
    head = ndimage.binary_opening(data > 0.15 * np.percentile(data[data > 0], 98))
    areas = np.trim_zeros(head.sum(axis=(0, 1)))
    ends = max(1, round(ENDS / (spacing[2] * z.step)))
    return bool(areas.size > 2 * ends and areas[:ends].mean() < TAPER * areas[-ends:].mean())
