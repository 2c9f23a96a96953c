"""`register`: from two image files to transforms, warped images and measures."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from nipype_quicksilver.declarations import documents
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.devices import select_device
from nipype_quicksilver.execution.processes import return_freed_memory
from nipype_quicksilver.execution.provenance import Clock, recorded_warnings, versions
from nipype_quicksilver.options import (
    DEFORMABLE,
    NONE,
    OPTIONS,
    RegistrationOptions,
    completed,
    described,
)
from nipype_quicksilver.preprocessing.templates import is_template
from nipype_quicksilver.registration.alignment import (
    Context,
    affine_file,
    check_given,
    named_file,
    to_aligned_brains,
)
from nipype_quicksilver.registration.finishing import Warped, finish
from nipype_quicksilver.registration.frames import chosen_template, in_own_frame, to_frame
from nipype_quicksilver.registration.judging import warn_of
from nipype_quicksilver.registration.linear import check_model, without_deformation
from nipype_quicksilver.registration.method import Method, choose_method
from nipype_quicksilver.registration.pair import Pair, ScanFiles, paths_of, read_pair
from nipype_quicksilver.registration.preparation import Prepared, prepare
from nipype_quicksilver.registration.results import Registration
from nipype_quicksilver.registration.summary import RegistrationSummary, with_total
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.files import PathLike, sha256_of
from nipype_quicksilver.spatial.images import image_name, read_image
from nipype_quicksilver.steps import DEVICE
from nipype_quicksilver.tools import check_tools

if TYPE_CHECKING:
    import torch
    from nibabel.nifti1 import Nifti1Image

    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.registration.fit import Fit, Progress


@documents(OPTIONS)
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
    settings: Settings | None = None,
    device: str | torch.device = DEVICE.default,
    progress: Progress | None = None,
    work_dir: PathLike | None = None,
    **options: Unpack[RegistrationOptions],
) -> Registration:
    """Register a moving image to a fixed image.

    Both are heads as they come from a scanner, or brains without skull. Nothing is written: see
    :meth:`Registration.save`.

    Parameters
    ----------
    fixed, moving : path-like
        3-D images (NIfTI, MGH), any grid and orientation. ``MNI152`` is the template that comes
        with nilearn.
    fixed_mask, moving_mask : path-like, optional
        Brain masks, on any grid in the same world space; default: the brains are extracted.
    fixed_lesion_mask, moving_lesion_mask : path-like, optional
        Masks of regions without counterpart in the other image, which are excluded from the
        comparison; on any grid in the same world space.
    fixed_labels, moving_labels : path-like, optional
        Label maps on the grids of their images: moving labels are warped, and compared with
        fixed labels where these are given too.
    settings : Settings, optional
        Schedule, kernel and similarity of the optimisation, see
        `nipype_quicksilver.lddmm.settings`; default: those of the method.
    device : str or torch.device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    progress : callable, optional
        Called after each iteration of the optimisation, and after each sample.
    work_dir : path-like, optional
        Existing folder in which brain masks, affines and the momentum are kept; the next run with
        the same images and options uses them.
    {options}

    Returns
    -------
    Registration
        Warped images, transforms, momentum and summary.

    Raises
    ------
    InputError
        If an input cannot be used; the message names the file and the remedy.
    """
    chosen = completed(options)
    check_tools(chosen["brain_extraction"], chosen["affine"])
    method = _method(chosen, settings)
    files = (
        ScanFiles(fixed, fixed_mask, fixed_lesion_mask, fixed_labels),
        ScanFiles(moving, moving_mask, moving_lesion_mask, moving_labels),
    )
    clock, started = Clock(), datetime.now(UTC)
    context = Context(chosen, WorkFolder(work_dir), select_device(device), clock)
    with recorded_warnings() as messages:
        with clock.part("read"):
            inputs = _read(*files, method, chosen, work_dir)
        pair, preprocessing = to_aligned_brains(inputs.pair, context)
        if inputs.template is not None:
            pair, template = to_frame(pair, inputs.template, inputs.template_name, context)
            preprocessing = replace(preprocessing, template=template)
        if pair.frame is None:
            pair = in_own_frame(pair)
        with clock.part("prepare"):
            prepared = prepare(pair, inputs.paths)
            check_given(pair, preprocessing)
        fit = _fit(prepared, method, context, progress)
        return_freed_memory()  # far more than the next steps need
        warped = finish(pair, prepared, fit, chosen, clock)
        parameters = replace(fit.summary.parameters, interpolation=chosen["interpolation"])
        summary = RegistrationSummary(
            **vars(replace(fit.summary, parameters=parameters)),
            versions=versions(),
            inputs=inputs.paths,
            jacobian=warped.jacobian,
            inverse_consistency_mm=warped.inverse_consistency,
            labels=warped.overlaps,
            uncertainty_mm=warped.uncertainty_spread,
            deformation_mm=warped.deformation,
            seconds=with_total(clock.seconds),
            cpu_seconds=clock.cpu_seconds,
            preprocessing=preprocessing,
            affine_matrix=pair.matrix.tolist(),
            magnification=1.0 if pair.frame is None else pair.frame.magnification,
            sha256=inputs.hashes,
            options=described(chosen),
            started=started.isoformat(timespec="seconds"),
            warnings=messages,
        )
        warn_of(summary, image_name(pair.moving.image))
    return _registration(pair, warped, summary)


def _method(options: RegistrationOptions, settings: Settings | None) -> Method | None:
    """Return the method with its networks; None without a deformation."""
    if options["transform"] == DEFORMABLE:
        return choose_method(options, settings)
    if settings is not None:
        raise InputError(
            f"transform '{options['transform']}' does not use settings; leave them out"
        )
    return None


def _fit(
    prepared: Prepared, method: Method | None, context: Context, progress: Progress | None
) -> Fit:
    """Estimate the momentum, or return that of no deformation."""
    options, seed = context.options, context.options["seed"]
    if method is None:
        return without_deformation(
            prepared, options["transform"], device=context.device, seed=seed, clock=context.clock
        )
    return context.work.fit(
        prepared,
        method,
        device=context.device,
        seed=seed,
        clock=context.clock,
        progress=progress,
    )


@dataclass(frozen=True)
class _Inputs:
    """Inputs of a registration, as they were read."""

    pair: Pair
    paths: dict[str, str | None]
    hashes: dict[str, Any]
    template: Nifti1Image | None
    template_name: PathLike


def _read(
    fixed: ScanFiles,
    moving: ScanFiles,
    method: Method | None,
    options: RegistrationOptions,
    work_dir: PathLike | None,
) -> _Inputs:
    """Read all files, and compute their hashes while temporary files of templates exist."""
    affine = affine_file(options["affine"])
    with ExitStack() as stack:
        fixed_files, moving_files = (
            replace(files, image=named_file(files.image, stack, work_dir))
            for files in (fixed, moving)
        )
        pair = read_pair(fixed_files, moving_files, affine)
        check_model(pair.affine, options["transform"], affine)
        paths = paths_of(fixed_files, moving_files, affine)
        hashes = _hashes(paths, method)
        name, template = chosen_template(options, pair), None
        if name is not None:
            template = read_image(named_file(name, stack, work_dir), what="template")
            if not is_template(name):
                hashes["template"] = sha256_of(name)
    # The file of a template from nilearn may be temporary: its name is recorded.
    for side, files in (("fixed", fixed), ("moving", moving)):
        if is_template(files.image):
            paths[side] = str(files.image)
    return _Inputs(pair, paths, hashes, template, NONE if name is None else name)


def _hashes(paths: dict[str, str | None], method: Method | None) -> dict[str, Any]:
    """Return the SHA-256 of each input by name, and a list of those of the networks."""
    hashes: dict[str, Any] = {
        name: sha256_of(file) for name, file in paths.items() if file is not None
    }
    if method is not None and method.predictor is not None:
        hashes["networks"] = [sha256_of(file) for file in method.predictor.files]
    return hashes


def _registration(pair: Pair, warped: Warped, summary: RegistrationSummary) -> Registration:
    return Registration(
        fixed=pair.fixed.image,
        moving=pair.moving.image,
        warped=warped.warped,
        inverse_warped=warped.inverse_warped,
        warped_labels=warped.labels,
        composite=warped.composite,
        inverse_composite=warped.inverse_composite,
        displacement=warped.displacement,
        inverse_displacement=warped.inverse_displacement,
        log_jacobian=warped.log_jacobian,
        momentum=warped.momentum,
        summary=summary,
        uncertainty=warped.uncertainty,
        uncertainty_components=warped.uncertainty_components,
    )
