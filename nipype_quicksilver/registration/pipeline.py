"""`register`: from two image files to transforms, warped images and measures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.devices import select_device
from nipype_quicksilver.execution.processes import give_back_memory
from nipype_quicksilver.execution.provenance import (
    Clock,
    noted_warnings,
    versions,
)
from nipype_quicksilver.options import DEFAULT_METHOD
from nipype_quicksilver.preprocessing.external import Engine
from nipype_quicksilver.preprocessing.templates import is_template
from nipype_quicksilver.registration.alignment import affine_file, named_file, to_aligned_brains
from nipype_quicksilver.registration.fit import Fit
from nipype_quicksilver.registration.frames import AUTO, chosen_template, to_frame
from nipype_quicksilver.registration.method import Method, choose_method
from nipype_quicksilver.registration.pair import Inputs, read_inputs
from nipype_quicksilver.registration.preparation import Prepared, prepare
from nipype_quicksilver.registration.results import Registration
from nipype_quicksilver.registration.uncertainty import standard_deviation
from nipype_quicksilver.registration.warping import move_points, pull_back, pull_back_labels
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.files import PathLike, sha256_of
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti, read_image
from nipype_quicksilver.spatial.measures import jacobian_summary, label_overlap, log_jacobian
from nipype_quicksilver.spatial.resampling import INTERPOLATIONS, resample
from nipype_quicksilver.spatial.transforms import (
    affine_transform,
    compose,
    displacement_on_grid,
    displacement_transform,
)

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.registration.fit import Progress

Composite = sitk.CompositeTransform
Parameters = ParamSpec("Parameters")


def _telling_warnings(
    run: Callable[Parameters, Registration],
) -> Callable[Parameters, Registration]:
    """Let a registration tell in its summary what it warned of."""

    @wraps(run)
    def telling(*args: Parameters.args, **options: Parameters.kwargs) -> Registration:
        with noted_warnings() as told:
            result = run(*args, **options)
        result.summary["warnings"] = told
        return result

    return telling


@_telling_warnings
def register(
    fixed: PathLike,
    moving: PathLike,
    *,
    fixed_mask: PathLike | None = None,
    moving_mask: PathLike | None = None,
    fixed_lesion_mask: PathLike | None = None,
    moving_lesion_mask: PathLike | None = None,
    fixed_labels: PathLike | None = None,
    moving_labels: PathLike | None = None,
    brain_extraction: str | Engine = "deepbet",
    affine: PathLike | Engine | None = "simpleitk",
    template: PathLike | None = AUTO,
    method: str = DEFAULT_METHOD,
    settings: Settings | None = None,
    prediction_network: PathLike | None = None,
    correction_network: PathLike | None = None,
    corrections: int | None = None,
    samples: int | None = None,
    uncertainty_components: bool = False,
    interpolation: str = "Linear",
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    work_dir: PathLike | None = None,
) -> Registration:
    """Register a moving image to a fixed image.

    Both are heads as they come from a scanner, or brains without skull. Nothing is written: see
    :meth:`Registration.save`.

    Parameters
    ----------
    fixed, moving : path-like
        3-D images (NIfTI, MGH), any grid and orientation. ``MNI152`` is the template that comes
        inside nilearn.
    fixed_mask, moving_mask : path-like, optional
        Their brains, on any grid in the same world space; used as they are.
    fixed_lesion_mask, moving_lesion_mask : path-like, optional
        What has no counterpart in the other image; left out of the comparison.
    fixed_labels, moving_labels : path-like, optional
        Label maps on the grids of their images: moving labels are warped, and compared with
        fixed labels where these are given too.
    brain_extraction : {'deepbet', 'none'} or Engine
        How brains are found where no mask is given; images without skull are left alone. With
        ``none``, what is not zero is brain.
    affine : path-like, Engine or None
        ``simpleitk``: the affine is found; ``none`` or None: the headers align the images; else
        the file of an ITK affine that maps fixed to moving points (mm), as ANTs and ITK write it,
        or an engine of another package.
    template : path-like, optional
        A template, or ``MNI152``: the images are compared, and the momentum is found, on its grid
        of 1 mm, to which the fixed image is aligned by another affine (by headers if `affine` is
        ``none``). None: in the world of the fixed image. ``auto``: MNI152 where an affine is looked
        for and the brains fit that template, None otherwise.
    method : {'correct', 'predict', 'refine', 'optimize'}
        Where the momentum comes from: a network's prediction, corrected by a second one (LPC);
        the prediction alone (LP); the corrected prediction, optimised further; optimisation from
        nothing (LO).
    settings : Settings, optional
        Schedule, kernel and similarity of the optimisation, see
        `nipype_quicksilver.lddmm.settings`.
    prediction_network, correction_network : path-like, optional
        Checkpoints (``.safetensors``); those of the package unless given.
    corrections : int, optional
        Times that the prediction is corrected (LPCn), for ``correct`` and ``refine``; once unless
        given.
    samples : int, optional
        Of a probabilistic network: the mean of so many momenta is taken, and how far off it may be
        is given as uncertainty (see `networks.sampling`); with ``refine``, that of the prediction.
    uncertainty_components : bool
        Also give the variance of each component of the displacement; with `samples` only.
    interpolation : str
        Of the warped images: a key of `spatial.resampling.INTERPOLATIONS` that is not for labels.
    device : str or torch.device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    seed : int
        Set and recorded; only samples draw random numbers.
    progress : callable, optional
        Called with an `lddmm.optimize.Iteration` after each iteration, and with a
        `networks.predictor.Drawn` after each sample.
    work_dir : path-like, optional
        An existing folder where brain masks, affines and the momentum are kept, and found again
        by the next run with the same images and settings.

    Returns
    -------
    Registration
        Warped images, transforms, momentum and summary.

    Raises
    ------
    InputError
        If an input cannot be used; the message names the file and the remedy.
    """
    chosen = choose_method(
        method,
        settings=settings,
        prediction_network=prediction_network,
        correction_network=correction_network,
        corrections=corrections,
        samples=samples,
    )
    if uncertainty_components and not chosen.samples:
        raise InputError("uncertainty components: there are none without samples; give samples")
    if interpolation not in INTERPOLATIONS or interpolation in ("GenericLabel", "MultiLabel"):
        raise InputError(f"interpolation '{interpolation}' is not one of images; give Linear")
    clock, started = Clock(), datetime.now(UTC)
    with clock.part("read"), ExitStack() as stack:
        inputs = read_inputs(
            named_file(fixed, stack, work_dir),
            named_file(moving, stack, work_dir),
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            fixed_lesion_mask=fixed_lesion_mask,
            moving_lesion_mask=moving_lesion_mask,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            affine=affine_file(affine, brain_extraction),
        )
        chosen_name = chosen_template(template, affine, inputs)
        if chosen_name is not None:
            frame = read_image(named_file(chosen_name, stack, work_dir), what="template")
        hashes = _hashes(inputs, chosen)
        if chosen_name is not None and not is_template(chosen_name):
            hashes["template"] = sha256_of(chosen_name)
        names = {"fixed": fixed, "moving": moving}
        # The file of a template that comes with nilearn may be a temporary one.
        named = {name: str(given) for name, given in names.items() if is_template(given)}
        inputs = replace(inputs, files={**inputs.files, **named})
    work, computing_on = WorkFolder(work_dir), select_device(device)
    ways: dict[str, Any] = {"brain_extraction": brain_extraction, "affine": affine}
    ways |= {"work": work, "device": computing_on, "clock": clock}
    inputs, preprocessing = to_aligned_brains(inputs, **ways)
    if chosen_name is not None:
        inputs, preprocessing["template"] = to_frame(
            inputs, frame, chosen_name, optional=str(template) == AUTO, **ways
        )
    with clock.part("prepare"):
        prepared = prepare(inputs)
    fit = work.fit(prepared, chosen, device=computing_on, seed=seed, clock=clock, progress=progress)
    give_back_memory()  # far more than what follows needs
    composite, inverse = _transforms(fit, inputs)
    result = _finish(inputs, prepared, fit, composite, inverse, interpolation, clock)
    if fit.variance is not None:
        result = _with_uncertainty(
            result, prepared, fit.variance, inputs.to_fixed, uncertainty_components
        )
    result.summary.update(
        preprocessing=preprocessing,
        affine_matrix=inputs.matrix.tolist(),
        sha256=hashes,
        started=started.isoformat(timespec="seconds"),
    )
    return result


def _hashes(inputs: Inputs, chosen: Method) -> dict[str, Any]:
    """Return the SHA-256 of each input by its name, and of the networks, in their order."""
    files = {name: file for name, file in inputs.files.items() if file is not None}
    hashes: dict[str, Any] = {name: sha256_of(file) for name, file in files.items()}
    if chosen.predictor is not None:
        hashes["networks"] = [sha256_of(file) for file in chosen.predictor.files]
    return hashes


def _transforms(fit: Fit, inputs: Inputs) -> tuple[Composite, Composite]:
    """Return fixed to moving points (to the working grid, displacement, affine) and back."""
    grid = fit.momentum.working_grid
    there: list[sitk.Transform] = [displacement_transform(fit.maps.inverse, grid)]
    back: list[sitk.Transform] = [displacement_transform(fit.maps.forward, grid)]
    # The last of a list is applied first.
    if inputs.affine is not None or inputs.frame is not None:
        there.insert(0, affine_transform(inputs.to_moving))
        back.append(affine_transform(np.linalg.inv(inputs.to_moving)))
    if inputs.frame is not None:
        there.append(affine_transform(np.linalg.inv(inputs.to_fixed)))
        back.insert(0, affine_transform(inputs.to_fixed))
    return compose(there), compose(back)


def _finish(
    inputs: Inputs,
    prepared: Prepared,
    fit: Fit,
    composite: Composite,
    inverse: Composite,
    interpolation: str,
    clock: Clock,
) -> Registration:
    """Bring everything to the native grids, once, and measure it there."""
    fixed_grid, moving_grid = Grid.from_image(inputs.fixed), Grid.from_image(inputs.moving)
    with clock.part("resample"):
        displacement = displacement_on_grid(composite, fixed_grid)
        inverse_displacement = displacement_on_grid(inverse, moving_grid)
        if interpolation == "Linear":
            warped = _pull_back(inputs.moving, displacement, fixed_grid)
            back = _pull_back(inputs.fixed, inverse_displacement, moving_grid)
        else:
            warped = resample(inputs.moving, fixed_grid, composite, interpolation=interpolation)
            back = resample(inputs.fixed, moving_grid, inverse, interpolation=interpolation)
        labels = _warp_labels(inputs, displacement)
    with clock.part("measure"):
        logarithm = log_jacobian(displacement, fixed_grid)
        brain = np.asanyarray(prepared.fixed_brain.dataobj) != 0
        measures: dict[str, Any] = {
            "jacobian": jacobian_summary(displacement, fixed_grid, brain, logarithm),
            "inverse_consistency_mm": _inverse_consistency(inputs, fit, displacement, brain),
        }
        if inputs.fixed_labels is not None and labels is not None:
            measures["labels"] = _compare_labels(inputs, inputs.fixed_labels, labels)
    facts = {**fit.facts, **measures}
    facts["parameters"] = {**facts["parameters"], "interpolation": interpolation}
    return Registration(
        fixed=inputs.fixed,
        moving=inputs.moving,
        warped=warped,
        inverse_warped=back,
        warped_labels=labels,
        composite=composite,
        inverse_composite=inverse,
        displacement=displacement,
        inverse_displacement=inverse_displacement,
        log_jacobian=logarithm,
        momentum=fit.momentum,
        summary={
            "versions": versions(),
            "inputs": inputs.files,
            **facts,
            "seconds": clock.with_total(),
            "cpu_seconds": clock.cpu_seconds,
        },
    )


def _with_uncertainty(
    result: Registration,
    prepared: Prepared,
    variance: np.ndarray,
    to_fixed: np.ndarray,
    components: bool,
) -> Registration:
    """Bring the uncertainty to the fixed image's grid, and measure it in the brain.

    Variances of the components tell nothing of other axes: those stay those of the working grid.
    """
    grid = Grid.from_image(result.fixed)
    # A brain in the frame of a template is larger or smaller than in the world.
    variance = variance * abs(np.linalg.det(to_fixed[:3, :3])) ** (2 / 3)
    whole = nifti(standard_deviation(variance), prepared.grid.affine)
    to_working = affine_transform(np.linalg.inv(to_fixed))
    uncertainty = resample(whole, grid, to_working)
    inside = uncertainty[np.asanyarray(prepared.fixed_brain.dataobj) != 0].astype(float)
    result.summary["uncertainty_mm"] = _spread(inside)
    parts = None
    if components:
        parts = resample(nifti(variance, prepared.grid.affine), grid, to_working)
    return replace(result, uncertainty=uncertainty, uncertainty_components=parts)


def _warp_labels(inputs: Inputs, displacement: np.ndarray) -> np.ndarray | None:
    """Return the moving labels on the fixed image's grid."""
    if inputs.moving_labels is None:
        return None
    labels, source = np.asanyarray(inputs.moving_labels.dataobj), Grid.from_image(inputs.moving)
    return pull_back_labels(labels, source, displacement, Grid.from_image(inputs.fixed))


def _compare_labels(inputs: Inputs, truth: Nifti1Image, warped: np.ndarray) -> dict[str, Any]:
    """Return the overlap with the affine only, and with the deformation."""
    affine = displacement_on_grid(affine_transform(inputs.matrix), Grid.from_image(truth))
    maps = {"before": _warp_labels(inputs, affine), "after": warped}
    return {
        when: label_overlap(truth, nifti(labels, truth.affine))
        for when, labels in maps.items()
        if labels is not None
    }


def _pull_back(image: Nifti1Image, displacement: np.ndarray, grid: Grid) -> np.ndarray:
    return pull_back(np.asanyarray(image.dataobj), Grid.from_image(image), displacement, grid)


def _inverse_consistency(
    inputs: Inputs, fit: Fit, displacement: np.ndarray, brain: np.ndarray
) -> dict[str, float]:
    """Return how far the way to the moving image and back leads from where it started."""
    start = apply_affine(inputs.fixed.affine, np.argwhere(brain))
    there = start + displacement[brain]
    before_field = apply_affine(np.linalg.inv(inputs.to_moving), there)
    after_field = move_points(before_field, fit.maps.forward, fit.momentum.working_grid)
    back = apply_affine(inputs.to_fixed, after_field)
    return _spread(np.linalg.norm(back - start, axis=-1))


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }
