"""The frame in which two brains are compared: that of a template, or an enlarged world."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.options import AUTO, DEFORMABLE, MNI152, NONE, RegistrationOptions
from nipype_quicksilver.registration.alignment import (
    Context,
    estimate_affine,
    estimates_affine,
    extract_brain,
    small_images,
)
from nipype_quicksilver.registration.pair import Frame, Pair, Scan
from nipype_quicksilver.registration.summary import TemplateSummary
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.conforming import (
    MAX_FRACTION_OUTSIDE,
    fraction_outside,
    joint_grid,
)
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import image_name
from nipype_quicksilver.spatial.magnification import (
    SMALLEST_HUMAN_VOLUME,
    brain_volume,
    magnification,
    magnified,
    scaling,
)

_logger = logging.getLogger(__name__)


def chosen_template(options: RegistrationOptions, pair: Pair) -> PathLike | None:
    """Return the template on whose grid two images are compared.

    Parameters
    ----------
    options : RegistrationOptions
        With ``template`` ``auto``, it is MNI152 if an affine is estimated and the images are as
        large as human brains.
    pair : Pair
        The images.

    Returns
    -------
    path-like or None
        A name or a path; None for a grid in the world space of the fixed image, also without a
        deformation, whose map does not depend on a grid.
    """
    template = options["template"]
    if template is None or str(template) == NONE or options["transform"] != DEFORMABLE:
        return None
    if str(template) != AUTO:
        return template
    smallest = min(brain_volume(scan.image) for scan in (pair.fixed, pair.moving))
    human = smallest >= SMALLEST_HUMAN_VOLUME
    return MNI152 if human and estimates_affine(options) else None


def to_frame(
    pair: Pair, template: Nifti1Image, name: PathLike, context: Context
) -> tuple[Pair, TemplateSummary]:
    """Bring two aligned brains into the frame of a template.

    Parameters
    ----------
    pair : Pair
        Aligned, with masks or brains without skull.
    template : Nifti1Image
        A head or a brain, on whose grid the brains are compared.
    name : path-like
        Its name or path, for the summary and for messages.
    context : Context
        With ``template`` ``auto``, brains that do not fit the template stay in the world space of
        the fixed image; with ``affine`` ``none``, the headers align the fixed image to the
        template.

    Returns
    -------
    pair : Pair
        With a frame; unchanged if the template is not used.
    summary : TemplateSummary
        Whether the template is used, and how its brain and the affine were estimated.

    Warns
    -----
    UserWarning
        If the brains do not fit the template, or its affine is implausible.
    """
    # Imports SimpleITK and the optimisers of scipy.
    from nipype_quicksilver.preprocessing.matrices import plausibility_warnings

    optional = str(context.options["template"]) == AUTO
    scan, brain, affine = Scan(template), None, None
    matrix, reasons = np.eye(4), list[str]()
    if context.options["brain_extraction"] != NONE:
        with context.clock.part("extract"):
            scan, brain = extract_brain(scan, context)
    left_to_headers = str(context.options["affine"]) == NONE or bool(small_images(pair))
    if not left_to_headers and not _is_same(template, pair.fixed.image):
        # An implausible affine is a reason not to use an optional template, see below. The work
        # folder keeps the warning for registrations that must use it.
        with context.clock.part("align"), warnings.catch_warnings(record=optional):
            matrix, affine = estimate_affine(scan, pair.fixed, context)
        reasons += plausibility_warnings(affine, matrix)
    factor = magnification(template, scan.mask)
    grid = working_grid(magnified(native_brain(template, scan.mask), factor))
    framed = replace(pair, frame=Frame(grid, matrix @ scaling(1 / factor), factor))
    summary = TemplateSummary(str(name), True, brain, affine, matrix.tolist())
    if not optional:
        return framed, summary
    reasons += _losses(framed, grid)
    if not reasons:
        return framed, summary
    warnings.warn(
        f"{image_name(pair.fixed.image)}: does not fit the template {name} ({reasons[0]}); the "
        "images are compared in its own space instead",
        UserWarning,
        stacklevel=3,
    )
    return pair, replace(summary, used=False)


def in_own_frame(pair: Pair) -> Pair:
    """Bring two aligned brains into an enlarged world of the fixed image, if it is small.

    Parameters
    ----------
    pair : Pair
        Aligned, with masks or brains without skull; without a frame.

    Returns
    -------
    Pair
        With a frame in which the fixed brain has the size of the smallest human brains; unchanged
        if it is not smaller.
    """
    factor = magnification(pair.fixed.image, pair.fixed.mask)
    if factor == 1:
        return pair
    fixed, moving = (
        magnified(native_brain(scan.image, scan.mask), factor) for scan in (pair.fixed, pair.moving)
    )
    grid = joint_grid(fixed, moving, scaling(factor) @ pair.matrix @ scaling(1 / factor))
    _logger.info(
        "%s: its brain is enlarged %g times to be compared",
        image_name(pair.fixed.image),
        factor,
    )
    return replace(pair, frame=Frame(grid, scaling(1 / factor), factor))


def _losses(framed: Pair, grid: Grid) -> list[str]:
    """Describe the brains that are not inside a grid, one phrase each."""
    sides = (("fixed", framed.fixed, framed.to_fixed), ("moving", framed.moving, framed.to_moving))
    fractions = {
        side: fraction_outside(native_brain(scan.image, scan.mask), grid, to_scan)
        for side, scan, to_scan in sides
    }
    return [
        f"{100 * fraction:.0f}% of the {side} brain is outside its grid"
        for side, fraction in fractions.items()
        if fraction > MAX_FRACTION_OUTSIDE
    ]


def _is_same(first: Nifti1Image, second: Nifti1Image) -> bool:
    """Return whether two images have the same affine and voxels."""
    one, other = (np.asanyarray(image.dataobj) for image in (first, second))
    return np.array_equal(first.affine, second.affine) and np.array_equal(one, other)
