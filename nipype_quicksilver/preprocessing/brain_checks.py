"""Checks of brain extraction: whether an image has a skull, and whether a mask is plausible."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import index_box, working_grid
from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.intensity import background, foreground
from nipype_quicksilver.spatial.resampling import conform

# Volumes of brains, ml, from a newborn to the largest adult; outside the second range, the mask
# cannot be a brain.
PLAUSIBLE_VOLUMES = (300.0, 2200.0)
POSSIBLE_VOLUMES = (50.0, 3000.0)
MIN_ZEROS = 0.2  # fraction of background in an image without skull
MAX_STRIPPED_VOLUME = 2600.0  # ml; brains in the space of a template are larger than in reality
TOP = 45.0  # mm below the crown; there, a head consists of scalp, skull and brain
LAYER = 2.0  # mm
LAYERS = 12
SKULL_INTENSITY = 0.8  # of the brightest layer further out; a skull is darker
MIN_FRACTION_STRIPPED = 0.85  # of the nonzero voxels that the brain covers in a stripped image
# Of the measures of a mask. Brains that were measured (adults, infants, macaques, mice; T1w, T2w,
# PD, FLAIR) have a contrast of at least .058, a signal of at least .21, a depth of at least .57, at
# most 1.3% of their surface on the border, and at most 1% of void; a phantom in CT has 60% of void.
MIN_CONTRAST = 0.025
MIN_SIGNAL = 0.05
MIN_DEPTH = 0.2  # masks of gray and white matter only, without fluid, have .23 to .37
MAX_ON_BORDER = 0.02
MAX_ON_BORDER_OF_CROPPED = 0.05  # images without skull are often cropped to the brain
MAX_VOID = 0.1
MAX_LEFT_OUT = 0.15
NOT_EXTRACTED = ("given", "stripped", "resampled")
RADIUS = 20  # voxels of the grid on which the depth is measured
SAMPLES = 50_000  # voxels from which the shading is estimated
FEWEST = 2000  # voxels deep inside a mask, in which contrast can be measured
TAPER = 0.2  # of the area at the top; a neck is wider
ENDS = 10.0  # mm at the top and at the bottom of a head
COARSE = 4.0  # mm
MIN_VOXELS = 10  # along each axis
MAX_SPACING = 12.0  # mm


def milliliters(inside: np.ndarray, image: Nifti1Image) -> float:
    """Return the volume of a mask, ml."""
    return float(np.count_nonzero(inside) * abs(np.linalg.det(image.affine[:3, :3])) / 1000)


def _fraction_of_background(data: np.ndarray) -> float:
    return 1 - float(np.mean(foreground(data)))


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
    """Return whether an image shows a brain without skull, and background elsewhere."""
    volume = milliliters(inside, image)
    if _fraction_of_background(data) < MIN_ZEROS or volume > MAX_STRIPPED_VOLUME:
        return False
    if volume < PLAUSIBLE_VOLUMES[0]:
        return True  # too small for a human head: the brain of an animal or a fetus, or a phantom
    return not _has_skull(image, inside)


def is_nearly_all(volume: float, data: np.ndarray, inside: np.ndarray, image: Nifti1Image) -> bool:
    """Return whether an extracted brain of a volume in ml covers nearly all of the foreground."""
    whole = milliliters(inside, image)
    if _fraction_of_background(data) <= MIN_ZEROS or whole >= MAX_STRIPPED_VOLUME:
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


def check_extracted(volume: float, image: Nifti1Image) -> None:
    """Raise an error if an extracted mask cannot be a brain; warn if it hardly can.

    Parameters
    ----------
    volume : float
        Of the mask, ml.
    image : Nifti1Image
        The head.

    Raises
    ------
    InputError
        If the volume is outside of :data:`POSSIBLE_VOLUMES`.

    Warns
    -----
    UserWarning
        If the volume is implausible, or the head may be upside down.
    """
    name = image_name(image)
    if not POSSIBLE_VOLUMES[0] < volume < POSSIBLE_VOLUMES[1]:
        raise InputError(
            f"{name}: the extracted brain has {volume:.0f} ml; give a T1-weighted image of a head "
            "with the right voxel sizes, or a brain mask"
        )
    if not PLAUSIBLE_VOLUMES[0] < volume < PLAUSIBLE_VOLUMES[1]:
        _warn(
            name,
            f"the brain mask has {volume:.0f} ml, implausible for a human brain; check the mask "
            "and the voxel sizes",
        )
    if _is_upside_down(image):
        _warn(
            name,
            "the head ends abruptly at the top and tapers off at the bottom; it may be upside "
            "down in the header, or cut off",
        )


def check_mask(image: Nifti1Image, mask: Nifti1Image, how: str) -> None:
    """Warn of what :func:`mask_warnings` says of a mask; the parameters are the same."""
    for text in mask_warnings(image, mask, how):
        _warn(image_name(image), text)


def _warn(name: str, text: str) -> None:
    warnings.warn(f"{name}: {text}", UserWarning, stacklevel=4)


@dataclass(frozen=True)
class MaskMeasures:
    """Measures of a brain mask.

    Attributes
    ----------
    volume_ml : float
        Its volume.
    on_border : float
        Fraction of its surface on the border of the image.
    depth : float
        Depth of its innermost voxel, divided by the radius of a ball of the same volume.
    void : float
        Fraction that is background in the image.
    contrast : float or None
        Standard deviation of the smoothed intensities around a smooth shading, divided by their
        mean; None in a mask of few voxels, all of which are near its surface.
    signal : float or None
        Fraction of the variance of the intensities that remains after smoothing; likewise.
    """

    volume_ml: float
    on_border: float
    depth: float
    void: float
    contrast: float | None
    signal: float | None


def measure_mask(image: Nifti1Image, mask: Nifti1Image) -> MaskMeasures:
    """Measure a brain mask.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z).
    mask : Nifti1Image
        On the grid of the image, nonzero inside; not empty.

    Returns
    -------
    MaskMeasures
        Those of a large part of the brain, in which the mask has no hole.
    """
    data, brain = np.nan_to_num(np.asanyarray(image.dataobj)), np.asanyarray(mask.dataobj) != 0
    box = index_box(brain, margin=4)
    contrast, signal = _contrast(data[box], brain[box])
    return MaskMeasures(
        volume_ml=milliliters(brain, image),
        on_border=_fraction_on_border(brain),
        depth=_depth(brain[box], voxel_sizes(image.affine)),
        void=float(np.mean(data[brain] == background(data))),
        contrast=contrast,
        signal=signal,
    )


def mask_warnings(image: Nifti1Image, mask: Nifti1Image, how: str) -> list[str]:
    """Return what does not look like the mask of a brain, one phrase each.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z).
    mask : Nifti1Image
        On the grid of the image, nonzero inside; not empty.
    how : str
        Where it comes from, see `brain.BrainSummary`.

    Returns
    -------
    list of str
        Messages; empty if the mask looks like that of a brain, of any age and species.
    """
    measures, messages = measure_mask(image, mask), []
    largest = PLAUSIBLE_VOLUMES[1]
    if how in NOT_EXTRACTED and measures.volume_ml > largest:
        messages.append(
            f"the brain has {measures.volume_ml:.0f} ml, more than any human brain ({largest:.0f} "
            "ml); check the mask and the voxel sizes"
        )
    cropped = how in NOT_EXTRACTED
    if measures.on_border > (MAX_ON_BORDER_OF_CROPPED if cropped else MAX_ON_BORDER):
        messages.append(
            f"{100 * measures.on_border:.0f}% of the surface of the brain mask lies on the border "
            "of the image; the head may be cut off"
        )
    if measures.depth < MIN_DEPTH:
        messages.append(
            "the brain mask is too thin everywhere for a brain, as vessels are; give an image of a "
            "head or a brain, or a brain mask"
        )
    if measures.void > MAX_VOID:
        messages.append(
            f"{100 * measures.void:.0f}% of the brain mask is background in the image; check that "
            "the mask belongs to the image, and that the image shows a brain"
        )
    elif _is_uniform(measures):
        messages.append(
            "the brain has no more contrast than noise or a phantom; check that the image shows a "
            "head"
        )
    if how == "given" and (left_out := _left_out(image, mask)) > MAX_LEFT_OUT:
        messages.append(
            f"{100 * left_out:.0f}% of the brain, which has no skull, is outside of the brain "
            "mask; check that the mask belongs to the image"
        )
    return messages


def _is_uniform(measures: MaskMeasures) -> bool:
    """Return whether a mask shows nothing but noise and shading."""
    if measures.contrast is None or measures.signal is None:
        return False
    return measures.contrast < MIN_CONTRAST or measures.signal < MIN_SIGNAL


def _left_out(image: Nifti1Image, mask: Nifti1Image) -> float:
    """Return the fraction of a stripped brain outside of its mask; 0 for a head.

    Whether there is a skull is known for heads of humans only.
    """
    data, brain = np.asanyarray(image.dataobj), np.asanyarray(mask.dataobj) != 0
    whole = foreground(data)
    beyond = float(np.mean(~brain[whole])) if whole.any() else 0.0
    if beyond <= MAX_LEFT_OUT or milliliters(whole, image) < PLAUSIBLE_VOLUMES[0]:
        return 0.0
    return beyond if is_stripped(data, whole, image) else 0.0


def _depth(brain: np.ndarray, spacing: np.ndarray) -> float:
    """Return the depth of the innermost voxel over the radius of a ball of the same volume."""
    radius = float(np.cbrt(3 * np.count_nonzero(brain) * np.prod(spacing) / (4 * np.pi)))
    steps = np.maximum(np.rint(radius / RADIUS / spacing).astype(int), 1)
    coarse = np.pad(brain[tuple(slice(None, None, step) for step in steps)], 1)
    filled = ndimage.binary_fill_holes(coarse)
    return float(ndimage.distance_transform_edt(filled, sampling=spacing * steps).max()) / radius


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


def _contrast(data: np.ndarray, brain: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Return contrast and signal inside a mask, see :class:`MaskMeasures`.

    Tissues differ between smooth parts of a brain; noise does not, and a phantom differs by its
    shading only, which a polynomial describes.
    """
    deep = ndimage.binary_erosion(brain, iterations=3)
    if np.count_nonzero(deep) < FEWEST:
        return None, None
    data = data.astype(np.float32)
    values, smooth = data[deep], ndimage.uniform_filter(data, 5)[deep]
    if values.std() == 0 or values.mean() == 0:
        return 0.0, 0.0
    every = max(1, values.size // SAMPLES)
    points = np.argwhere(deep)[::every]
    x, y, z = (points - points.mean(axis=0)).T / (points.std() + 1e-6)
    shading = np.column_stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x])
    sample = smooth[::every]
    rest = sample - shading @ np.linalg.lstsq(shading, sample)[0]
    return float(rest.std() / abs(values.mean())), float(smooth.var() / values.var())


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
