"""Brain extraction by a network or an external tool, with checks of the image and of the mask."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing.brain_checks import (
    check_extracted,
    check_mask,
    check_resolution,
    is_nearly_all,
    is_stripped,
    milliliters,
)
from nipype_quicksilver.preprocessing.external import extract_mask
from nipype_quicksilver.spatial.brains import named_after, native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import image_name, nifti, read_image, read_mask
from nipype_quicksilver.spatial.intensity import PERCENTILE, background, foreground

if TYPE_CHECKING:
    import torch

from nipype_quicksilver.tools import DEEPBET

TRACES = 0.01  # of the robust maximum; interpolation around a brain gives smaller values
FAINT = 0.05  # of the robust maximum; the rim of a brain is brighter, but for a few voxels
MAX_FAINT = 0.1  # fraction of a brain that may be fainter


@dataclass(frozen=True)
class BrainSummary:
    """How a brain was extracted.

    Attributes
    ----------
    how : str
        ``given``; ``stripped``, if the image shows a brain without skull; ``resampled``, if a
        faint rim or traces of interpolation surround such a brain; ``deepbet``, or the name of an
        external tool.
    volume_ml : float or None
        Volume of the mask; None if it was not measured.
    reused : bool or None
        Whether the mask was read from the work folder; None without a work folder.
    """

    how: str
    volume_ml: float | None = None
    reused: bool | None = None


@dataclass(frozen=True)
class Extraction:
    """The brain of an image.

    Attributes
    ----------
    mask : Nifti1Image
        On the grid of the image, uint8, 0 or 1; a single component without holes, unless it was
        given.
    summary : BrainSummary
        How it was extracted.
    """

    mask: Nifti1Image
    summary: BrainSummary


def extract(
    image: Nifti1Image,
    *,
    mask: Nifti1Image | None = None,
    threshold: float = 0.5,
    n_dilate: int = 0,
    device: torch.device | str = "cpu",
    by: str = DEEPBET,
    num_threads: int = 1,
    log_dir: PathLike | None = None,
) -> Extraction:
    """Extract the brain from an image of a head.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z), T1-weighted, of any orientation; a brain without skull is not changed.
    mask : Nifti1Image, optional
        Its brain mask, on any grid in the same world space; it is not changed.
    threshold : float
        Threshold of the network's probability; a lower one gives a larger mask.
    n_dilate : int
        Number of layers of voxels that are added to the mask, or removed if it is negative.
    device : torch.device or str
        Device of the network; anything except the CPU means the first GPU.
    by : str
        ``deepbet``, or the external tool that runs instead of the network, with its own settings; a
        key of `tools.BRAIN_EXTRACTION_TOOLS`.
    num_threads : int
        Threads of an external tool.
    log_dir : path-like, optional
        Folder for the log of an external tool that fails; default: a temporary folder.

    Returns
    -------
    Extraction
        The mask, and how it was extracted.

    Raises
    ------
    InputError
        If the image does not show a head, or does not overlap the mask.

    Warns
    -----
    UserWarning
        If the mask, wherever it comes from, does not look like that of a brain, see
        `brain_checks.mask_warnings`, or the head may be upside down.
    """
    if mask is not None:
        return _checked(native_brain(image, mask), "given", image)
    data = np.asanyarray(image.dataobj)
    check_resolution(image)
    inside = _largest_component(foreground(data))
    if is_stripped(data, inside, image):
        return _checked(*_without_rim(data, inside, image), image)
    if by == DEEPBET:
        brain = _by_deepbet(image, threshold, n_dilate, device)
    else:
        brain = _largest_component(
            extract_mask(by, image, num_threads=num_threads, log_dir=log_dir) != 0
        )
    volume, rest = milliliters(brain, image), _largest_component(_above(TRACES, data))
    if is_nearly_all(volume, data, inside, image):
        return _checked(*_without_rim(data, inside, image), image)
    if is_nearly_all(volume, np.where(rest, data, background(data)), rest, image):
        return _checked(named_after(rest, image), "resampled", image)
    check_extracted(volume, image)
    return _checked(named_after(brain, image), by, image)


def extract_file(
    path: PathLike,
    *,
    mask: PathLike | None = None,
    threshold: float = 0.5,
    n_dilate: int = 0,
    device: torch.device | str = "cpu",
    by: str = DEEPBET,
    num_threads: int = 1,
    log_dir: PathLike | None = None,
) -> tuple[Nifti1Image, Extraction]:
    """Extract the brain from an image file, as :func:`extract`; also return the image."""
    image = read_image(path)
    extraction = extract(
        image,
        mask=None if mask is None else read_mask(mask),
        threshold=threshold,
        n_dilate=n_dilate,
        device=device,
        by=by,
        num_threads=num_threads,
        log_dir=log_dir,
    )
    return image, extraction


def _checked(mask: Nifti1Image, how: str, image: Nifti1Image) -> Extraction:
    """Check a mask; return it with its summary."""
    check_mask(image, mask, how)
    volume = milliliters(np.asanyarray(mask.dataobj), mask)
    return Extraction(mask, BrainSummary(how, round(volume, 1)))


def _above(fraction: float, data: np.ndarray) -> np.ndarray:
    """Return where an image differs from its background by a fraction of its robust maximum."""
    difference = np.abs(np.nan_to_num(data) - background(data))
    occupied = difference[difference != 0]
    maximum = np.percentile(occupied, PERCENTILE) if occupied.size else 0
    return (difference >= fraction * maximum) & (difference > 0)


def _without_rim(
    data: np.ndarray, inside: np.ndarray, image: Nifti1Image
) -> tuple[Nifti1Image, str]:
    """Return the mask of a stripped brain, without a faint rim, and how it was made."""
    solid = _largest_component(_above(FAINT, data))
    if np.count_nonzero(solid) < (1 - MAX_FAINT) * np.count_nonzero(inside):
        return named_after(solid, image), "resampled"
    return named_after(inside, image), "stripped"


def _by_deepbet(
    image: Nifti1Image, threshold: float, n_dilate: int, device: torch.device | str
) -> np.ndarray:
    """Run deepbet on an image; return its mask on the grid of the image, bool."""
    import torch
    from deepbet import BrainExtraction

    scan = _in_scan_range(image)
    try:
        # deepbet prints, and causes warnings of torch that no user can act on.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            network = BrainExtraction(no_gpu=str(device) == "cpu")
            _, mask, _ = network.run(scan, threshold=threshold, n_dilate=n_dilate)
    except (AssertionError, ValueError, IndexError) as error:
        raise InputError(
            f"{image_name(image)}: no brain could be extracted; give a T1-weighted image of a "
            "head, or a brain mask"
        ) from error
    brain = _largest_component(np.asanyarray(mask.dataobj) > 0)
    if not brain.any():
        raise InputError(f"{image_name(image)}: no brain could be extracted; give a brain mask")
    return brain


def _in_scan_range(image: Nifti1Image) -> Nifti1Image:
    """Return an image whose intensities start at 0, as those of a scanner.

    Values below that of the air around the head (as in CT, or after filtering) would be treated
    as the darkest tissue.
    """
    data = np.asanyarray(image.dataobj).astype(np.float32)
    if data.min() < 0:
        data = np.clip(data - np.percentile(data, 1), 0, None)
    return nib.Nifti1Image(data, image.affine)


def _largest_component(inside: np.ndarray) -> np.ndarray:
    """Return the largest connected component with its holes filled, bool."""
    labels, number = ndimage.label(inside)
    if number == 0:
        return np.zeros(inside.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())


def masked(image: Nifti1Image, mask: Nifti1Image) -> Nifti1Image:
    """Return an image that is set to zero outside a mask on its grid.

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
