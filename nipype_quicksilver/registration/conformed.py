"""A pair that is on the working grid already, from files to the momentum between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock, versions
from nipype_quicksilver.registration.fit import Fit, find_momentum, settings_of_initial
from nipype_quicksilver.registration.method import Method, choose_method
from nipype_quicksilver.registration.pair import Inputs, read_inputs
from nipype_quicksilver.registration.preparation import (
    Prepared,
    lesions_on_grid,
    mask_facts,
    similarity_weight,
)
from nipype_quicksilver.registration.shooting import check_geodesic
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.conforming import conform_mask, lesion_weight, without_lesion
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE, Grid
from nipype_quicksilver.spatial.images import check_same_grid, image_name
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.registration.fit import Progress

_BRIGHTEST = 10.0  # normalised intensities end at 1.5; those of a scanner are beyond this


@dataclass(frozen=True)
class Found:
    """The momentum between two conformed images, and how it was found.

    Attributes
    ----------
    momentum : Momentum
        With its kernel and grids.
    summary : dict
        What is written as JSON.
    variance : ndarray or None
        (X, Y, Z, 3), float32, mm^2: of the components of the displacement, where
        there are any.
    """

    momentum: Momentum
    summary: dict[str, Any]
    variance: np.ndarray | None = None


def optimize_files(
    fixed: PathLike,
    moving: PathLike,
    *,
    masks: dict[str, PathLike | None],
    initial_momentum: PathLike | None,
    settings: Settings,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
) -> Found:
    """Optimise the momentum between two images on one working grid.

    Parameters
    ----------
    fixed, moving : path-like
        Images on the working grid, normalised.
    masks : dict
        ``fixed_mask``, ``moving_mask``, ``fixed_lesion_mask``, ``moving_lesion_mask``: files on
        any grid in the same world space, None where there is none.
    initial_momentum : path-like or None
        Where to start; its kernel and steps are kept.
    settings : Settings
        Schedule, kernel and similarity.
    device : torch.device
        Where to compute.
    seed : int
        Set and recorded.
    progress : callable, optional
        Called after each iteration.

    Returns
    -------
    Found
        Momentum and summary.

    Raises
    ------
    InputError
        If a file cannot be used, or the images are not on one working grid.
    """
    clock = Clock()
    with clock.part("read"):
        inputs = read_inputs(fixed, moving, **masks)
        initial = None if initial_momentum is None else read_momentum(initial_momentum)
    with clock.part("prepare"):
        pair = prepare_conformed(inputs)
    if initial is not None:
        name = str(initial_momentum)
        settings = settings_of_initial(settings, initial, pair.grid, name)
        check_geodesic(initial, device, name)
    result = find_momentum(
        pair,
        Method("optimize", settings),
        device=device,
        seed=seed,
        clock=clock,
        initial=initial,
        progress=progress,
    )
    start = None if initial_momentum is None else str(Path(initial_momentum).absolute())
    return _found(result, {**inputs.files, "initial_momentum": start}, clock)


def predict_files(
    fixed: PathLike,
    moving: PathLike,
    *,
    masks: dict[str, PathLike | None],
    prediction_network: PathLike | None = None,
    correction_network: PathLike | None = None,
    corrections: int = 1,
    samples: int | None = None,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
) -> Found:
    """Predict the momentum between two images on one working grid.

    Parameters
    ----------
    fixed, moving : path-like
        Images on the working grid, normalised.
    masks : dict
        As for :func:`optimize_files`.
    prediction_network, correction_network : path-like, optional
        Checkpoints; the shipped networks unless given.
    corrections : int
        0 for the prediction alone (LP), N for LPCn.
    samples : int, optional
        Of a probabilistic network, whose mean is taken.
    device : torch.device
        Where to compute.
    seed : int
        Of the samples.
    progress : callable, optional
        Called after each sample.

    Returns
    -------
    Found
        Momentum and summary; the variance with samples only.

    Raises
    ------
    InputError
        If a file or a network cannot be used, or the images are not on one working grid.
    """
    if correction_network is not None and not corrections:
        raise InputError(f"{correction_network}: 0 corrections have no use for it; leave it out")
    method = choose_method(
        "correct" if corrections else "predict",
        prediction_network=prediction_network,
        correction_network=correction_network,
        corrections=corrections or None,
        samples=samples,
    )
    clock = Clock()
    with clock.part("read"):
        inputs = read_inputs(fixed, moving, **masks)
    with clock.part("prepare"):
        pair = prepare_conformed(inputs)
    result = find_momentum(pair, method, device=device, seed=seed, clock=clock, progress=progress)
    return _found(result, inputs.files, clock)


def _found(fit: Fit, files: dict[str, str | None], clock: Clock) -> Found:
    summary = {
        "versions": versions(),
        "inputs": files,
        **fit.facts,
        "seconds": clock.with_total(),
    }
    return Found(fit.momentum, summary, fit.variance)


def prepare_conformed(inputs: Inputs) -> Prepared:
    """Check that two images are on one working grid, and bring their masks there.

    Parameters
    ----------
    inputs : Inputs
        Images on the working grid; masks on any.

    Returns
    -------
    Prepared
        The images as they are but for lesions, which are filled, with the weights that
        `preparation.prepare` would give.

    Raises
    ------
    InputError
        If the images are not on one working grid or not normalised, or a mask lies elsewhere.
    """
    check_same_grid(inputs.fixed, inputs.moving)
    for image in (inputs.fixed, inputs.moving):
        _check_normalized(image)
    grid = Grid.from_image(inputs.fixed)
    _check_working_grid(grid, image_name(inputs.fixed))
    brains = (
        native_brain(inputs.fixed, inputs.fixed_mask),
        native_brain(inputs.moving, inputs.moving_mask),
    )
    inside_fixed = conform_mask(inputs.fixed_mask or brains[0], grid)
    inside_moving = conform_mask(inputs.moving_mask or brains[1], grid)
    fixed_lesion, moving_lesion = lesions_on_grid(inputs, grid)
    covered = {
        "fixed_mask": inside_fixed,
        "moving_mask": inside_moving,
        "fixed_lesion_mask": fixed_lesion,
        "moving_lesion_mask": moving_lesion,
    }
    fixed, moving = (np.asanyarray(image.dataobj) for image in (inputs.fixed, inputs.moving))
    return Prepared(
        fixed=without_lesion(fixed, inside_fixed, fixed_lesion, inputs.fixed),
        moving=without_lesion(moving, inside_moving, moving_lesion, inputs.moving),
        weight=similarity_weight(inside_fixed, inside_moving, fixed_lesion),
        moving_weight=lesion_weight(moving_lesion),
        grid=grid,
        to_fixed=np.eye(4),
        fixed_brain=brains[0],
        moving_brain=brains[1],
        masks=mask_facts(inputs.files, covered),
    )


def _check_working_grid(grid: Grid, name: str) -> None:
    """Refuse a grid on which components and axes would not agree, or that cannot be halved."""
    spacing = grid.spacing[0]
    if not np.allclose(grid.affine[:3, :3], np.eye(3) * spacing, atol=1e-3 * spacing):
        raise InputError(f"{name}: is not isotropic and RAS; bring it to the working grid first")
    if any(n % MULTIPLE for n in grid.shape):
        raise InputError(
            f"{name}: its shape {grid.shape} is not a multiple of {MULTIPLE}; bring it to the "
            "working grid first"
        )


def _check_normalized(image: Nifti1Image) -> None:
    brightest = float(np.abs(np.asanyarray(image.dataobj)).max())
    if brightest > _BRIGHTEST:
        raise InputError(
            f"{image_name(image)}: reaches {brightest:g} instead of about 1; normalise its "
            "intensities first"
        )
