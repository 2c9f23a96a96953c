"""The frame in which two brains are compared: the working grid of a template."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.preprocessing.external import Engine
from nipype_quicksilver.preprocessing.templates import MNI152
from nipype_quicksilver.registration.alignment import (
    find_affine,
    find_brain,
    is_looked_for,
    small_images,
)
from nipype_quicksilver.registration.pair import Frame, Inputs
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.conforming import LARGEST_LOSS, share_outside
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import image_name

if TYPE_CHECKING:
    import torch

#: MNI152 where that makes sense: see `chosen_template`.
AUTO = "auto"


def chosen_template(
    template: PathLike | None, affine: PathLike | Engine | None, inputs: Inputs
) -> PathLike | None:
    """Return the template to compare on, None for the world of the fixed image.

    Parameters
    ----------
    template : path-like or None
        ``auto``: MNI152, unless the images are aligned already (their affine is given, or left to
        the headers) or hold no human brain; ``none``, a name or a path otherwise.
    affine : path-like, Engine or None
        How the images are aligned.
    inputs : Inputs
        The images.

    Returns
    -------
    path-like or None
        A name or a path.
    """
    if template is None or str(template) == "none":
        return None
    if str(template) != AUTO:
        return template
    return MNI152 if is_looked_for(affine) and not small_images(inputs) else None


def to_frame(
    inputs: Inputs,
    template: Nifti1Image,
    name: PathLike,
    *,
    optional: bool,
    brain_extraction: str | Engine,
    affine: PathLike | Engine | None,
    work: WorkFolder,
    device: torch.device,
    clock: Clock,
) -> tuple[Inputs, dict[str, Any]]:
    """Bring two aligned brains into the frame of a template.

    Parameters
    ----------
    inputs : Inputs
        Aligned, with masks or brains without skull.
    template : Nifti1Image
        A head or a brain, on whose grid the brains are to be compared.
    name : path-like
        What it is called.
    optional : bool
        Whether brains that do not fit the template stay in the world of the fixed image.
    brain_extraction, affine
        How the template's brain and the affine to the fixed brain are found. With the affine
        ``none`` or None, the headers align the fixed image to the template.
    work : WorkFolder
        Where intermediate results are kept.
    device : torch.device
        Where networks run.
    clock : Clock
        Told the seconds of ``extract`` and ``align``.

    Returns
    -------
    inputs : Inputs
        With a frame, unless the brains stay where they are.
    facts : dict
        The template's ``file`` or name, whether it is ``used``, the ``matrix`` from its points to
        fixed points, and how its brain and the affine were found.

    Warns
    -----
    UserWarning
        If the brains do not fit.
    """
    # The affine engine brings SimpleITK and scipy's optimisers.
    from nipype_quicksilver.preprocessing.matrices import doubts

    facts: dict[str, Any] = {"file": str(name), "used": True}
    mask, matrix = None, np.eye(4)
    reasons: list[str] = []
    if brain_extraction != "none":
        with clock.part("extract"):
            mask, facts["brain"] = find_brain(template, None, brain_extraction, work, device)
    left_to_headers = affine is None or str(affine) == "none" or bool(small_images(inputs))
    if not left_to_headers and not _is_same(template, inputs.fixed):
        images = template, inputs.fixed, mask, inputs.fixed_mask
        with clock.part("align"), warnings.catch_warnings():
            if optional:  # doubts are reasons not to use the template, and told as such below
                warnings.simplefilter("ignore", UserWarning)
            matrix, facts["affine"] = find_affine(*images, affine, work)
        reasons += doubts(facts["affine"], matrix)
    grid = working_grid(native_brain(template, mask))
    framed = replace(inputs, frame=Frame(grid, matrix))
    facts["matrix"] = matrix.tolist()
    if not optional:
        return framed, facts
    reasons += _losses(framed, grid)
    if not reasons:
        return framed, facts
    warnings.warn(
        f"{image_name(inputs.fixed)}: does not fit the template {name} ({reasons[0]}); the images "
        "are compared in its own world instead",
        UserWarning,
        stacklevel=3,
    )
    return inputs, {**facts, "used": False}


def _losses(framed: Inputs, grid: Grid) -> list[str]:
    """Tell which brains a grid cuts off."""
    sides = (
        (framed.fixed, framed.fixed_mask, framed.to_fixed),
        (framed.moving, framed.moving_mask, framed.to_moving),
    )
    shares = [share_outside(native_brain(image, mask), grid, to) for image, mask, to in sides]
    return [
        f"{100 * share:.0f}% of the {what} brain lie outside its grid"
        for what, share in zip(("fixed", "moving"), shares, strict=True)
        if share > LARGEST_LOSS
    ]


def _is_same(first: Nifti1Image, second: Nifti1Image) -> bool:
    """Tell whether two images are one."""
    one, other = (np.asanyarray(image.dataobj) for image in (first, second))
    return np.array_equal(first.affine, second.affine) and np.array_equal(one, other)
