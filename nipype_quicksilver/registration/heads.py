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
from nipype_quicksilver.preprocessing.engines import Engine
from nipype_quicksilver.preprocessing.templates import is_template, template_file
from nipype_quicksilver.registration.inputs import Frame, Inputs
from nipype_quicksilver.registration.summary import Clock
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.brains import named, native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import working_grid
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
    template: Nifti1Image | None = None,
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
    template : Nifti1Image or None
        On whose grid the images are to be compared.
    work : WorkFolder
        Where intermediate results are kept.
    device : torch.device
        Where networks run.
    clock : Clock
        Told the seconds of ``extract`` and ``align``.

    Returns
    -------
    inputs : Inputs
        With masks, affine and frame.
    facts : dict
        ``fixed_brain``, ``moving_brain``, ``affine``, ``template``: how they were found.
    """
    facts: dict[str, Any] = {}
    extractor = brain_extraction if isinstance(brain_extraction, Engine) else None
    if brain_extraction != "none":
        with clock.part("extract"):
            fixed_mask, facts["fixed_brain"] = _brain(
                inputs.fixed, inputs.fixed_mask, work, device, extractor
            )
            moving_mask, facts["moving_brain"] = _brain(
                inputs.moving, inputs.moving_mask, work, device, extractor
            )
        inputs = replace(inputs, fixed_mask=fixed_mask, moving_mask=moving_mask)
    small = [image for image in (inputs.fixed, inputs.moving) if _is_small(image)]
    aligner = affine if isinstance(affine, Engine) else None
    finding = aligner is not None or str(affine) == "simpleitk"
    if finding and small:
        _logger.info(
            "%s: is too small for a human head; its header is trusted, no affine is looked for",
            image_name(small[0]),
        )
        facts["affine"] = {"how": "headers"}
    elif finding:
        with clock.part("align"):
            matrix, facts["affine"] = _affine(
                inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask, work, aligner
            )
        inputs = replace(inputs, affine=matrix)
    if template is not None:
        looked_for = affine is not None and str(affine) != "none" and not small
        frame, facts["template"] = _frame(
            template,
            inputs,
            extracting=brain_extraction != "none",
            aligning=looked_for,
            work=work,
            device=device,
            clock=clock,
            extractor=extractor,
            aligner=aligner,
        )
        inputs = replace(inputs, frame=frame)
    return inputs, facts


def _is_small(image: Nifti1Image) -> bool:
    """Tell whether an image holds less than any human brain: an animal's, or a phantom."""
    occupied = np.count_nonzero(np.asanyarray(image.dataobj))
    return bool(occupied * abs(np.linalg.det(image.affine[:3, :3])) < SMALLEST)


def _brain(
    image: Nifti1Image,
    mask: Nifti1Image | None,
    work: WorkFolder,
    device: torch.device,
    extractor: Engine | None,
) -> tuple[Nifti1Image | None, dict[str, Any]]:
    """Return the mask of an image, None where the image is a brain already."""
    from nipype_quicksilver.preprocessing.brain import extract

    if mask is not None:
        return mask, {"how": "given"}

    def compute() -> tuple[np.ndarray, dict[str, Any]]:
        found = extract(image, device=device, engine=extractor)
        return np.asanyarray(found.mask.dataobj), found.facts

    parts = [image, *([] if extractor is None else [extractor.name])]
    data, facts = work.kept("brainmask", parts, compute, like=image)
    return (None if facts["how"] == "stripped" else named(data, image)), facts


def _affine(
    fixed: Nifti1Image,
    moving: Nifti1Image,
    fixed_mask: Nifti1Image | None,
    moving_mask: Nifti1Image | None,
    work: WorkFolder,
    aligner: Engine | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the affine from fixed to moving points."""
    from nipype_quicksilver.preprocessing.affine import align, describe
    from nipype_quicksilver.preprocessing.brain import masked

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


def _frame(
    template: Nifti1Image,
    inputs: Inputs,
    *,
    extracting: bool,
    aligning: bool,
    work: WorkFolder,
    device: torch.device,
    clock: Clock,
    extractor: Engine | None,
    aligner: Engine | None,
) -> tuple[Frame, dict[str, Any]]:
    """Return the working grid of a template, and the affine from there to fixed points."""
    facts: dict[str, Any] = {"file": image_name(template)}
    mask, matrix = None, np.eye(4)
    if extracting:
        with clock.part("extract"):
            mask, facts["brain"] = _brain(template, None, work, device, extractor)
    if aligning and not _is_same(template, inputs.fixed):
        with clock.part("align"):
            images = template, inputs.fixed, mask, inputs.fixed_mask
            matrix, facts["affine"] = _affine(*images, work, aligner)
    grid = working_grid(native_brain(template, mask))
    return Frame(grid, matrix), {**facts, "matrix": matrix.tolist()}


def _is_same(first: Nifti1Image, second: Nifti1Image) -> bool:
    """Tell whether two images are one."""
    one, other = (np.asanyarray(image.dataobj) for image in (first, second))
    return np.array_equal(first.affine, second.affine) and np.array_equal(one, other)
