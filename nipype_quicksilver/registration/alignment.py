"""Brain extraction and affine alignment of the two scans of a pair."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.execution.leftovers import temporary_folder
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.options import NONE, OPTIONS, TRANSFORMS, RegistrationOptions
from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.preprocessing.templates import is_template, template_file
from nipype_quicksilver.registration.pair import Pair, Scan
from nipype_quicksilver.registration.summary import Preprocessing
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.brains import named_after, native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import image_name
from nipype_quicksilver.spatial.magnification import brain_volume, magnification
from nipype_quicksilver.tools import AFFINE_TOOLS, DEEPBET

if TYPE_CHECKING:
    import torch

# mm^3 of nonzero voxels, enlarged as far as their size allows; fewer cannot be aligned.
SMALLEST_VOLUME = 50_000.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """Data that the steps of a registration share.

    Attributes
    ----------
    options : RegistrationOptions
        Options of the user.
    work : WorkFolder
        Where intermediate results are kept.
    device : torch.device
        Where networks run.
    clock : Clock
        Records the time spent in each part.
    """

    options: RegistrationOptions
    work: WorkFolder
    device: torch.device
    clock: Clock


def named_file(image: PathLike, stack: ExitStack, work_dir: PathLike | None) -> Path:
    """Return the file of an image that may be named by its template.

    Parameters
    ----------
    image : path-like
        A path, or ``MNI152``.
    stack : ExitStack
        Removes the temporary folder of the template at its end.
    work_dir : path-like or None
        Existing folder in which the template is kept instead.

    Returns
    -------
    Path
        The file.
    """
    if not is_template(image):
        return Path(image)
    folder = work_dir or stack.enter_context(temporary_folder())
    return template_file(image, folder)


def affine_file(affine: PathLike) -> PathLike | None:
    """Return the file of an affine.

    Parameters
    ----------
    affine : path-like
        Value of the option `affine`.

    Returns
    -------
    path-like or None
        None if the affine is estimated, or the headers align the images.
    """
    return None if OPTIONS["affine"].is_name(affine) else affine


def to_aligned_brains(pair: Pair, context: Context) -> tuple[Pair, Preprocessing]:
    """Extract the brains of two heads and estimate the affine between them.

    Parameters
    ----------
    pair : Pair
        Scans as they were read. Existing masks are used; an image without skull is not changed.
    context : Context
        Options, work folder, device and clock.

    Returns
    -------
    pair : Pair
        With masks and affine.
    preprocessing : Preprocessing
        How they were estimated.
    """
    brains = [
        None if scan.mask is None else BrainSummary("given") for scan in (pair.fixed, pair.moving)
    ]
    if context.options["brain_extraction"] != NONE:
        with context.clock.part("extract"):
            fixed, brains[0] = extract_brain(pair.fixed, context)
            moving, brains[1] = extract_brain(pair.moving, context)
        pair = replace(pair, fixed=fixed, moving=moving)
    affine = None
    if estimates_affine(context.options):
        pair, affine = _aligned(pair, context)
    return pair, Preprocessing(brains[0], brains[1], affine)


def check_given(pair: Pair, preprocessing: Preprocessing) -> None:
    """Warn of masks that were given, and images taken as brains, that do not look like brains.

    Those of images whose brains were extracted have been checked by the extraction.

    Parameters
    ----------
    pair : Pair
        The scans, with masks.
    preprocessing : Preprocessing
        Where the masks come from.

    Warns
    -----
    UserWarning
        See `brain_checks.mask_warnings`.
    """
    from nipype_quicksilver.preprocessing.brain_checks import check_mask

    brains = (preprocessing.fixed_brain, preprocessing.moving_brain)
    for scan, brain in zip((pair.fixed, pair.moving), brains, strict=True):
        if brain is None or brain.how == "given":
            how = "stripped" if scan.mask is None else "given"
            check_mask(scan.image, native_brain(scan.image, scan.mask), how)


def _aligned(pair: Pair, context: Context) -> tuple[Pair, AffineSummary]:
    """Estimate the affine between two brains, if they have enough voxels."""
    small = small_images(pair)
    if small:
        _logger.info(
            "%s: has too few voxels for an affine to be estimated; the headers align the images",
            image_name(small[0]),
        )
        return pair, AffineSummary(how="headers")
    with context.clock.part("align"):
        dof = TRANSFORMS[context.options["transform"]]
        matrix, summary = estimate_affine(pair.fixed, pair.moving, context, dof)
    return replace(pair, affine=matrix), summary


def estimates_affine(options: RegistrationOptions) -> bool:
    """Return whether the affine is estimated, not read from a file or left to the headers."""
    affine = options["affine"]
    return OPTIONS["affine"].is_name(affine) and affine != NONE


def small_images(pair: Pair) -> list[Nifti1Image]:
    """Return the images of a pair that have too few voxels to be aligned, such as a phantom."""
    return [image for image in (pair.fixed.image, pair.moving.image) if _is_small(image)]


def _is_small(image: Nifti1Image) -> bool:
    return brain_volume(image) * magnification(image) ** 3 < SMALLEST_VOLUME


def extract_brain(scan: Scan, context: Context) -> tuple[Scan, BrainSummary]:
    """Extract the brain of a scan that has no mask.

    Parameters
    ----------
    scan : Scan
        A head, or a brain.
    context : Context
        Options, work folder and device.

    Returns
    -------
    scan : Scan
        With a mask on the grid of the image; without a mask if the image has no skull.
    summary : BrainSummary
        How the brain was extracted.
    """
    from nipype_quicksilver.preprocessing.brain import extract

    image, by = scan.image, context.options["brain_extraction"]
    if scan.mask is not None:
        return scan, BrainSummary("given")

    def compute() -> tuple[np.ndarray, BrainSummary]:
        extraction = extract(
            image,
            device=context.device,
            by=by,
            num_threads=sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
            log_dir=context.work.folder,
        )
        return np.asanyarray(extraction.mask.dataobj), extraction.summary

    parts = [image, *([] if by == DEEPBET else [by])]
    data, summary = context.work.reuse_or_compute(
        "brainmask", parts, compute, BrainSummary, like=image
    )
    if summary.how == "stripped":
        return scan, summary
    return replace(scan, mask=named_after(data, image)), summary


def estimate_affine(
    fixed: Scan, moving: Scan, context: Context, dof: int = 12
) -> tuple[np.ndarray, AffineSummary]:
    """Estimate the affine between two brains.

    Parameters
    ----------
    fixed, moving : Scan
        Heads with masks, or brains.
    context : Context
        Options and work folder.
    dof : int
        Degrees of freedom, a key of `options.DOF`.

    Returns
    -------
    matrix : ndarray
        4x4, maps fixed to moving points, RAS mm.
    summary : AffineSummary
        How it was estimated.
    """
    from nipype_quicksilver.preprocessing.affine import align, align_by
    from nipype_quicksilver.preprocessing.brain import masked

    by = str(context.options["affine"])
    num_threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()

    def compute() -> tuple[np.ndarray, AffineSummary]:
        if by in AFFINE_TOOLS:
            brains = (masked(s.image, native_brain(s.image, s.mask)) for s in (fixed, moving))
            alignment = align_by(
                by, *brains, dof=dof, num_threads=num_threads, log_dir=context.work.folder
            )
        else:
            alignment = align(
                fixed.image,
                moving.image,
                fixed_mask=fixed.mask,
                moving_mask=moving.mask,
                dof=dof,
                num_threads=num_threads,
            )
        return alignment.matrix, alignment.summary

    images = [fixed.image, moving.image, fixed.mask, moving.mask]
    parts = [*images, *([by] if by in AFFINE_TOOLS else []), *([dof] if dof != 12 else [])]
    return context.work.reuse_or_compute("affine", parts, compute, AffineSummary)
