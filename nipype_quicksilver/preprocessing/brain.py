"""Brain extraction: a network finds the brain, checks around it say what to make of its answer."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing.external import Engine
from nipype_quicksilver.spatial.brains import named, native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import working_grid
from nipype_quicksilver.spatial.images import image_name, nifti, read_image, read_mask
from nipype_quicksilver.spatial.intensity import PERCENTILE, foreground
from nipype_quicksilver.spatial.resampling import conform

if TYPE_CHECKING:
    import torch

# What a skull encloses, ml: from a newborn's to the largest adult's.
PLAUSIBLE = (300.0, 2200.0)
IMPOSSIBLE = (50.0, 3000.0)  # ml; beyond, what was found is no brain at all
TRACES = 0.01  # of the robust maximum; what interpolation leaves around a brain is less
ZEROS = 0.2  # share of an image without skull that is zero, at least
LARGEST_STRIPPED = 2600.0  # ml; brains brought to a template's space are larger than life
TOP = 45.0  # mm from the crown, where a head is scalp, skull and brain
LAYER = 2.0  # mm
LAYERS = 12
DIP = 0.8  # of the brightest layer further out: darker than that is a skull
SAME = 0.85  # of what is not zero; more than that is a brain without skull
FLAT = 0.08  # of the mean; tissues differ by more, also after smoothing
NOISY = 0.05  # share of the variance that is left after smoothing
TAPER = 0.2  # of its area at the top; a head never tapers off like that towards the neck
ENDS = 10.0  # mm of a head at its top and at its bottom
COARSE = 4.0  # mm
THINNEST = 10  # voxels along each axis, at least
THICKEST = 12.0  # mm between slices, at most


@dataclass(frozen=True)
class Extraction:
    """The brain of an image.

    Attributes
    ----------
    mask : Nifti1Image
        On the image's grid, uint8, 0 or 1: one piece without holes, unless it was given.
    facts : dict
        ``how`` (``given``; ``stripped``; ``resampled``, a stripped brain with traces of
        interpolation around it; ``deepbet`` or the name of another engine), ``volume_ml``.
    """

    mask: Nifti1Image
    facts: dict[str, Any]


def extract(
    image: Nifti1Image,
    *,
    mask: Nifti1Image | None = None,
    threshold: float = 0.5,
    n_dilate: int = 0,
    device: torch.device | str = "cpu",
    engine: Engine | None = None,
) -> Extraction:
    """Find the brain in an image of a head.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z), T1-weighted, of any orientation; a brain without skull is left alone.
    mask : Nifti1Image, optional
        Its brain, on any grid in the same world space; used as it is.
    threshold : float
        Of the network's probability; a lower one gives a larger mask.
    n_dilate : int
        Layers of voxels that are added to the mask, or taken away where it is negative.
    device : torch.device or str
        Where the network runs; anything but the CPU means the first GPU.
    engine : Engine, optional
        What finds the brain instead of the network: called with an image, it returns its mask.

    Returns
    -------
    Extraction
        The mask, and how it was found.

    Raises
    ------
    InputError
        If the image shows no head, or a mask lies elsewhere.

    Warns
    -----
    UserWarning
        If the brain has a volume that human brains do not have, or touches the image's border.
    """
    if mask is not None:
        return _extraction(native_brain(image, mask), "given")
    data = np.asanyarray(image.dataobj)
    _check_resolution(image)
    inside = _one_piece(foreground(data))
    if _is_stripped(data, inside, image):
        return _extraction(named(inside, image), "stripped")
    if engine is None:
        how, found = "deepbet", _by_deepbet(image, threshold, n_dilate, device)
    else:
        how, found = engine.name, _one_piece(engine.run(image) != 0)
    volume, clear = _milliliters(found, image), _without_traces(data)
    if _is_nearly_all(volume, data, inside, image):
        return _extraction(named(inside, image), "stripped")
    rest = _one_piece(foreground(clear))
    if _is_nearly_all(volume, clear, rest, image):
        return _extraction(named(rest, image), "resampled")
    _judge(found, volume, image)
    return _extraction(named(found, image), how)


def extract_file(
    path: PathLike,
    *,
    mask: PathLike | None = None,
    threshold: float = 0.5,
    n_dilate: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Nifti1Image, Extraction]:
    """Find the brain in an image file; return the image too. As :func:`extract`."""
    image = read_image(path)
    given = None if mask is None else read_mask(mask)
    found = extract(image, mask=given, threshold=threshold, n_dilate=n_dilate, device=device)
    return image, found


def _extraction(mask: Nifti1Image, how: str) -> Extraction:
    volume = _milliliters(np.asanyarray(mask.dataobj), mask)
    return Extraction(mask, {"how": how, "volume_ml": round(volume, 1)})


def _milliliters(inside: np.ndarray, image: Nifti1Image) -> float:
    return float(np.count_nonzero(inside) * abs(np.linalg.det(image.affine[:3, :3])) / 1000)


def _share_of_zeros(data: np.ndarray) -> float:
    return float(np.mean(data == 0))


def _without_traces(data: np.ndarray) -> np.ndarray:
    """Return an image without the faint values that interpolation leaves around a brain."""
    data = np.nan_to_num(data)
    occupied = data[data != 0]
    largest = np.percentile(np.abs(occupied), PERCENTILE) if occupied.size else 0
    return np.where(np.abs(data) < TRACES * largest, 0, data)


def _check_resolution(image: Nifti1Image) -> None:
    """Refuse an image that is too coarse or too thin to show a brain."""
    spacing = voxel_sizes(image.affine)
    if min(image.shape) < THINNEST or spacing.max() > THICKEST:
        size = " x ".join(f"{s:.2g}" for s in spacing)
        raise InputError(
            f"{image_name(image)}: {image.shape[0]} x {image.shape[1]} x {image.shape[2]} voxels "
            f"of {size} mm are too few to find a brain in; give a brain mask"
        )


def _is_stripped(data: np.ndarray, inside: np.ndarray, image: Nifti1Image) -> bool:
    """Tell whether an image is zero outside something that looks like a brain without skull."""
    volume = _milliliters(inside, image)
    if _share_of_zeros(data) < ZEROS or volume > LARGEST_STRIPPED:
        return False
    if volume < IMPOSSIBLE[0]:
        return True  # there is no human head in so little; an animal's brain, or a phantom
    if volume < PLAUSIBLE[0]:
        return False
    return not _has_skull(image, inside)


def _is_nearly_all(volume: float, data: np.ndarray, inside: np.ndarray, image: Nifti1Image) -> bool:
    """Tell whether a brain that was found, in ml, leaves hardly anything that is not zero."""
    whole = _milliliters(inside, image)
    return _share_of_zeros(data) > ZEROS and volume > SAME * whole and whole < LARGEST_STRIPPED


def _has_skull(image: Nifti1Image, inside: np.ndarray) -> bool:
    """Tell whether there is a dark layer below a bright one, from the surface inwards.

    In a T1-weighted head the scalp shines, the skull below it is dark, and the brain is bright
    again; a brain without skull only grows brighter.
    """
    outline = nifti(inside.astype(np.uint8), image.affine)
    grid = working_grid(outline, spacing=LAYER, margin_mm=2 * LAYER)
    values = conform(image, grid)
    occupied = conform(outline, grid) > 0.5
    depth = ndimage.distance_transform_edt(occupied, sampling=LAYER)
    crown = np.flatnonzero(occupied.any(axis=(0, 1))).max()
    occupied[:, :, : max(crown - round(TOP / LAYER), 0)] = False
    layers = np.ceil(depth / LAYER).astype(int)
    # The first layer holds partial volumes of what is outside.
    profile = [
        np.median(values[occupied & (layers == k)])
        for k in range(2, LAYERS + 1)
        if np.any(occupied & (layers == k))
    ]
    brightest = np.maximum.accumulate(profile)
    return bool(np.min(np.asarray(profile) / np.maximum(brightest, 1e-12)) < DIP)


def _by_deepbet(
    image: Nifti1Image, threshold: float, n_dilate: int, device: torch.device | str
) -> np.ndarray:
    """Run deepbet on a loaded image; return its mask on the image's grid, bool."""
    import torch
    from deepbet import BrainExtraction

    shown = _in_scan_range(image)
    try:
        # It prints, and scripts its networks with warnings of torch's that no user can act on.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            network = BrainExtraction(no_gpu=str(device) == "cpu")
            _, mask, _ = network.run(shown, threshold=threshold, n_dilate=n_dilate)
    except (AssertionError, ValueError, IndexError) as error:
        raise InputError(
            f"{image_name(image)}: no brain was found in it; give a T1-weighted image of a head, "
            "or a brain mask"
        ) from error
    found = _one_piece(np.asanyarray(mask.dataobj) > 0)
    if not found.any():
        raise InputError(f"{image_name(image)}: no brain was found in it; give a brain mask")
    return found


def _in_scan_range(image: Nifti1Image) -> Nifti1Image:
    """Return an image whose intensities start at 0, as a scanner gives them.

    Values below that of the air around the head (as in CT, or after filtering) would count as
    the darkest tissue.
    """
    data = np.asanyarray(image.dataobj).astype(np.float32)
    if data.min() < 0:
        data = np.clip(data - np.percentile(data, 1), 0, None)
    return nib.Nifti1Image(data, image.affine)


def _one_piece(inside: np.ndarray) -> np.ndarray:
    """Return the largest component with its holes filled, bool."""
    labels, number = ndimage.label(inside)
    if number == 0:
        return np.zeros(inside.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())


def _judge(found: np.ndarray, volume: float, image: Nifti1Image) -> None:
    """Refuse what cannot be a brain, and warn of what hardly is one."""
    name = image_name(image)
    if not IMPOSSIBLE[0] < volume < IMPOSSIBLE[1]:
        raise InputError(
            f"{name}: what looks like a brain has {volume:.0f} ml; give a T1-weighted image of a "
            "head with the right voxel sizes, or a brain mask"
        )
    told = []
    if not PLAUSIBLE[0] < volume < PLAUSIBLE[1]:
        told.append(
            f"the brain mask has {volume:.0f} ml, which no human brain has; check the mask and "
            "the voxel sizes"
        )
    share = _share_on_border(found)
    if share > 0.02:
        told.append(
            f"{100 * share:.0f}% of the surface of the brain mask lie on the border of the image; "
            "the head may be cut off"
        )
    if _is_upside_down(image):
        told.append(
            "the head ends abruptly at its top and tapers off at its bottom; it may lie upside "
            "down in the header, or be cut off"
        )
    if not _has_contrast(found, image):
        told.append(
            "the brain has no more contrast than noise or a phantom; check that the image shows a "
            "head"
        )
    for text in told:
        warnings.warn(f"{name}: {text}", UserWarning, stacklevel=4)


def _share_on_border(found: np.ndarray) -> float:
    """Return which share of a mask's surface voxels lies on the border of the image."""
    surface = found & ~ndimage.binary_erosion(found)  # what is outside the image counts as empty
    within = surface & ~_border(found.shape)
    return 1 - float(within.sum()) / float(surface.sum())


def _border(shape: tuple[int, ...]) -> np.ndarray:
    border = np.ones(shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    return border


def _has_contrast(found: np.ndarray, image: Nifti1Image) -> bool:
    """Tell whether a brain has tissues: smooth parts that differ, unlike noise or a phantom."""
    deep = ndimage.binary_erosion(found, iterations=3)
    data = np.asanyarray(image.dataobj).astype(np.float32)
    values, smooth = data[deep], ndimage.uniform_filter(data, 5)[deep]
    if values.size == 0 or values.std() == 0:
        return False
    enough = smooth.std() > FLAT * abs(values.mean())
    return bool(enough and smooth.var() > NOISY * values.var())


def _is_upside_down(image: Nifti1Image) -> bool:
    """Tell whether a head is wide where its top should be, and narrow where its neck should be."""
    image = nib.as_closest_canonical(image)
    spacing = voxel_sizes(image.affine)
    x, y, z = (slice(None, None, max(1, round(COARSE / s))) for s in spacing)
    data = np.asanyarray(image.dataobj)[x, y, z]
    head = ndimage.binary_opening(data > 0.15 * np.percentile(data[data > 0], 98))
    areas = np.trim_zeros(head.sum(axis=(0, 1)))
    ends = max(1, round(ENDS / (spacing[2] * z.step)))
    return bool(areas.size > 2 * ends and areas[:ends].mean() < TAPER * areas[-ends:].mean())


def masked(image: Nifti1Image, mask: Nifti1Image) -> Nifti1Image:
    """Return an image that is zero outside a mask on its grid.

    Parameters
    ----------
    image, mask : Nifti1Image
        (X, Y, Z), on one grid.

    Returns
    -------
    Nifti1Image
        In memory.
    """
    data = np.where(np.asanyarray(mask.dataobj) != 0, np.asanyarray(image.dataobj), 0)
    return nifti(data, image.affine, like=image)
