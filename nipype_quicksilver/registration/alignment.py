"""From two heads as they come from a scanner to two brains that are aligned."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.preprocessing.external import Engine
from nipype_quicksilver.preprocessing.templates import is_template, template_file
from nipype_quicksilver.registration.pair import Inputs
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.brains import named, native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import image_name

if TYPE_CHECKING:
    import torch

BRAIN_EXTRACTIONS = ("deepbet", "none")
#: Names of ways to find the affine; anything else is a file.
AFFINES = ("simpleitk", "none")

SMALLEST = 50_000.0  # mm3 that are not zero; the affine engine is made for human brains

_logger = logging.getLogger(__name__)


def named_file(image: PathLike, stack: ExitStack, work_dir: PathLike | None) -> Path:
    """Return the file of an image or of a template's name.

    Parameters
    ----------
    image : path-like
        A path, or ``MNI152``.
    stack : ExitStack
        Keeps a temporary folder for the template.
    work_dir : path-like or None
        An existing folder to keep the template in instead.

    Returns
    -------
    Path
        The file.
    """
    if not is_template(image):
        return Path(image)
    folder = work_dir or stack.enter_context(TemporaryDirectory(prefix="quicksilver-"))
    return template_file(image, folder)


def affine_file(
    affine: PathLike | Engine | None, brain_extraction: str | Engine
) -> PathLike | None:
    """Return the file of an affine, None where it is to be found or not needed.

    Raises
    ------
    InputError
        If the way to extract brains is unknown.
    """
    if not isinstance(brain_extraction, Engine) and brain_extraction not in BRAIN_EXTRACTIONS:
        names = " or ".join(BRAIN_EXTRACTIONS)
        raise InputError(f"brain extraction '{brain_extraction}' is unknown; give {names}")
    if affine is None or isinstance(affine, Engine) or str(affine) in AFFINES:
        return None
    return affine


def to_aligned_brains(
    inputs: Inputs,
    *,
    brain_extraction: str | Engine,
    affine: PathLike | Engine | None,
    work: WorkFolder,
    device: torch.device,
    clock: Clock,
) -> tuple[Inputs, dict[str, Any]]:
    """Find the brains of two heads and the affine between them.

    Parameters
    ----------
    inputs : Inputs
        What was read. Masks that are given are used; an image without skull is left alone.
    brain_extraction : {'deepbet', 'none'} or Engine
        How brains are found.
    affine : path-like, Engine or None
        ``simpleitk`` or an engine to find the affine; it is left as it was read otherwise.
    work : WorkFolder
        Where intermediate results are kept.
    device : torch.device
        Where networks run.
    clock : Clock
        Told the seconds of ``extract`` and ``align``.

    Returns
    -------
    inputs : Inputs
        With masks and affine.
    facts : dict
        ``fixed_brain``, ``moving_brain``, ``affine``: how they were found.
    """
    masks = {"fixed_brain": inputs.fixed_mask, "moving_brain": inputs.moving_mask}
    facts: dict[str, Any] = {
        name: {"how": "given"} for name, mask in masks.items() if mask is not None
    }
    if brain_extraction != "none":
        with clock.part("extract"):
            fixed_mask, facts["fixed_brain"] = find_brain(
                inputs.fixed, inputs.fixed_mask, brain_extraction, work, device
            )
            moving_mask, facts["moving_brain"] = find_brain(
                inputs.moving, inputs.moving_mask, brain_extraction, work, device
            )
        inputs = replace(inputs, fixed_mask=fixed_mask, moving_mask=moving_mask)
    small = small_images(inputs)
    if is_looked_for(affine) and small:
        _logger.info(
            "%s: is too small for a human head; its header is trusted, no affine is looked for",
            image_name(small[0]),
        )
        facts["affine"] = {"how": "headers"}
    elif is_looked_for(affine):
        with clock.part("align"):
            matrix, facts["affine"] = find_affine(
                inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask, affine, work
            )
        inputs = replace(inputs, affine=matrix)
    return inputs, facts


def is_looked_for(affine: PathLike | Engine | None) -> bool:
    """Tell whether an affine is to be found, rather than read or left to the headers."""
    return isinstance(affine, Engine) or str(affine) == "simpleitk"


def small_images(inputs: Inputs) -> list[Nifti1Image]:
    """Return those of two images that hold less than any human brain."""
    return [image for image in (inputs.fixed, inputs.moving) if _is_small(image)]


def _is_small(image: Nifti1Image) -> bool:
    """Tell whether an image holds less than any human brain: an animal's, or a phantom."""
    occupied = np.count_nonzero(np.asanyarray(image.dataobj))
    return bool(occupied * abs(np.linalg.det(image.affine[:3, :3])) < SMALLEST)


def find_brain(
    image: Nifti1Image,
    mask: Nifti1Image | None,
    brain_extraction: str | Engine,
    work: WorkFolder,
    device: torch.device,
) -> tuple[Nifti1Image | None, dict[str, Any]]:
    """Find the brain of an image.

    Parameters
    ----------
    image : Nifti1Image
        A head, or a brain.
    mask : Nifti1Image or None
        Its brain, where it is known.
    brain_extraction : str or Engine
        How it is found otherwise; anything but an engine means deepbet.
    work : WorkFolder
        Where the mask is kept.
    device : torch.device
        Where the network runs.

    Returns
    -------
    mask : Nifti1Image or None
        On the image's grid; None where the image is a brain already.
    facts : dict
        How it was found.
    """
    from nipype_quicksilver.preprocessing.brain import extract

    if mask is not None:
        return mask, {"how": "given"}
    extractor = brain_extraction if isinstance(brain_extraction, Engine) else None

    def compute() -> tuple[np.ndarray, dict[str, Any]]:
        found = extract(image, device=device, engine=extractor)
        return np.asanyarray(found.mask.dataobj), found.facts

    parts = [image, *([] if extractor is None else [extractor.name])]
    data, facts = work.kept("brainmask", parts, compute, like=image)
    return (None if facts["how"] == "stripped" else named(data, image)), facts


def find_affine(
    fixed: Nifti1Image,
    moving: Nifti1Image,
    fixed_mask: Nifti1Image | None,
    moving_mask: Nifti1Image | None,
    affine: PathLike | Engine | None,
    work: WorkFolder,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Find the affine between two brains.

    Parameters
    ----------
    fixed, moving : Nifti1Image
        Heads with masks, or brains.
    fixed_mask, moving_mask : Nifti1Image or None
        Their brains.
    affine : str or Engine
        How it is found; anything but an engine means SimpleITK.
    work : WorkFolder
        Where it is kept.

    Returns
    -------
    matrix : ndarray
        4x4, maps fixed to moving points, RAS mm.
    facts : dict
        How it was found.
    """
    from nipype_quicksilver.preprocessing.affine import align
    from nipype_quicksilver.preprocessing.brain import masked
    from nipype_quicksilver.preprocessing.matrices import describe

    aligner = affine if isinstance(affine, Engine) else None

    def compute() -> tuple[np.ndarray, dict[str, Any]]:
        if aligner is not None:
            pairs = (fixed, fixed_mask), (moving, moving_mask)
            matrix = aligner.run(*(masked(image, native_brain(image, m)) for image, m in pairs))
            return matrix, {"how": aligner.name, **describe(matrix)}
        alignment = align(
            fixed,
            moving,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            num_threads=sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        )
        return alignment.matrix, alignment.facts

    parts = [fixed, moving, fixed_mask, moving_mask]
    return work.kept("affine", [*parts, *([] if aligner is None else [aligner.name])], compute)
