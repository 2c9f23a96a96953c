"""The LDDMM engine on prepared images: arrays in, arrays out; torch is imported when it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock, thread_counts
from nipype_quicksilver.methods import methods_that
from nipype_quicksilver.registration.comparison import describe_similarity, with_matching_contrast
from nipype_quicksilver.registration.method import Method
from nipype_quicksilver.registration.preparation import Prepared
from nipype_quicksilver.registration.shooting import (
    Maps,
    describe_energies,
    maps_at_end,
    to_array,
    to_tensor,
)
from nipype_quicksilver.registration.summary import (
    FitSummary,
    GridSummary,
    Parameters,
    StageSummary,
)
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.intensity import PERCENTILE, normalize
from nipype_quicksilver.spatial.momentum import Momentum

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.folding import Lattice
    from nipype_quicksilver.lddmm.optimize import Iteration
    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.lddmm.shooting import Geodesic
    from nipype_quicksilver.networks.card import Card
    from nipype_quicksilver.networks.predictor import Prediction, Predictor, SampleProgress

    Progress = Callable[[Iteration | SampleProgress], None]


# Factors from the working grid, whose dimensions are multiples of 8, to grids of momenta.
FACTORS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Fit:
    """Result of the engine.

    Attributes
    ----------
    momentum : Momentum
        On the velocity grid of the last stage.
    maps : Maps
        Maps at the end of its geodesic.
    summary : FitSummary
        How the momentum was estimated.
    variance : ndarray or None
        (X, Y, Z, 3), float32, on the working grid, mm^2: variance of each component of the
        displacement of phi^-1, predicted by a probabilistic network; None without samples.
    deforms : bool
        False if the momentum is zero because no deformation was asked for.
    """

    momentum: Momentum
    maps: Maps
    summary: FitSummary
    variance: np.ndarray | None = None
    deforms: bool = True


def find_momentum(
    prepared: Prepared,
    method: Method,
    *,
    device: torch.device,
    seed: int,
    clock: Clock,
    initial: Momentum | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Estimate the momentum that warps one prepared image onto another, and shoot it.

    Parameters
    ----------
    prepared : Prepared
        Images and weights on the working grid.
    method : Method
        Method, with its networks and settings.
    device : torch.device
        Where to compute.
    seed : int
        Seed of the random numbers, which the summary records; only samples use them.
    clock : Clock
        Records the time spent in ``predict``, ``optimize`` and ``maps``.
    initial : Momentum, optional
        Momentum to start the optimisation from, see :func:`settings_of_initial`; default: zero.
    progress : callable, optional
        Called after each sample of a network, and after each iteration of the optimisation.

    Returns
    -------
    Fit
        Momentum, maps and summary.

    Raises
    ------
    InputError
        If the networks were trained for another voxel size.

    Warns
    -----
    UserWarning
        If only a part of the predicted deformation is used.
    """
    import torch

    torch.manual_seed(seed)
    history: list[Iteration] = []
    settings = method.settings
    momentum, geodesic, variance, fraction = initial, None, None, None
    matched, exchanged = with_matching_contrast(prepared)
    if method.predictor is not None:
        images = matched if method.predictor.card.match_contrast else prepared
        with clock.part("predict"):
            momentum, prediction, variance = _predict_momentum(images, method, device, progress)
        geodesic, fraction = prediction.geodesic, prediction.fraction
        settings = _settings_from(settings, momentum)
    if method.traits.optimizes:
        with clock.part("optimize"):
            momentum, geodesic, history = _optimize_momentum(
                matched, settings, momentum, device, progress
            )
    assert momentum is not None and geodesic is not None
    with clock.part("maps"):
        maps = maps_at_end(geodesic, momentum, device)
        similarity = describe_similarity(matched, maps, device)
    summary = FitSummary(
        parameters=Parameters(
            **_describe_method(method, settings),
            share_of_prediction=fraction,
            contrast_exchanged=exchanged,
            device=str(device),
            threads=thread_counts(),
            seed=seed,
        ),
        working_grid=GridSummary.of(prepared.grid),
        velocity_grid=GridSummary.of(momentum.grid),
        masks=prepared.masks,
        similarity=similarity,
        energy=describe_energies(maps),
        stages=describe_history(history),
    )
    return Fit(momentum, maps, summary, variance)


def _predict_momentum(
    prepared: Prepared, method: Method, device: torch.device, progress: Progress | None
) -> tuple[Momentum, Prediction, np.ndarray | None]:
    """Run the networks on arrays; return momentum, prediction and variance of samples."""
    from nipype_quicksilver.networks.prediction import Images

    assert method.predictor is not None
    predictor = method.predictor.to(device)
    card = predictor.card
    _check_spacing(predictor, prepared.grid)
    fixed, moving = (
        to_tensor(_normalized_for(card, image), device)
        for image in (prepared.fixed, prepared.moving)
    )
    lesion = prepared.moving_weight
    images = Images(
        fixed,
        moving,
        to_tensor(prepared.weight, device),
        None if lesion is None else to_tensor(lesion, device),
        spacing=prepared.grid.spacing,
    )
    prediction: Prediction
    variance, lattice = None, _lattice(prepared, device)
    if method.samples:
        prediction = samples = predictor.sample(
            images, method.corrections, method.samples, progress, lattice
        )
        variance = to_array(samples.variance)
    else:
        # A subsequent optimisation repairs folds at its own end.
        final = not method.traits.optimizes
        prediction = predictor.predict(images, method.corrections, lattice, final=final)
    if prediction.fraction < 1:
        warnings.warn(
            "the full predicted deformation makes the images less similar than no deformation; "
            f"{100 * prediction.fraction:g}% of it is used; try the method "
            f"{methods_that('optimizes')}",
            UserWarning,
            stacklevel=2,
        )
    momentum = Momentum(
        data=to_array(prediction.operator.apply(prediction.state, -0.5)),
        grid=prepared.grid.subsampled(predictor.velocity_factor(method.corrections)),
        kernel=card.kernel,
        steps=card.steps,
        working_grid=prepared.grid,
    )
    return momentum, prediction, variance


def _check_spacing(predictor: Predictor, grid: Grid) -> None:
    """Raise an error if networks were trained for another voxel size."""
    expected = predictor.card.spacing
    if not np.allclose(grid.spacing, expected, rtol=1e-3):
        raise InputError(
            f"{predictor.files[0]}: was trained for voxels of {expected:g} mm, not for the "
            f"{grid.spacing[0]:g} mm of the working grid; give a network for these"
        )


def _normalized_for(card: Card, image: np.ndarray) -> np.ndarray:
    """Return a normalised image as the networks of a card expect it."""
    if card.percentile == PERCENTILE and not card.equalize:
        return image
    return normalize(image, percentile=card.percentile, equalize=card.equalize)


def _settings_from(settings: Settings, momentum: Momentum) -> Settings:
    """Return the settings that continue from a momentum: its kernel, time steps and grid."""
    from nipype_quicksilver.lddmm.settings import Kernel, stages_from

    stages = stages_from(settings.stages, momentum.factor)
    return replace(settings, stages=stages, kernel=Kernel(**momentum.kernel), steps=momentum.steps)


def _describe_method(method: Method, settings: Settings) -> dict[str, Any]:
    """Return the fields of `Parameters` that depend on the method."""
    described: dict[str, Any] = {"method": method.name}
    if method.predictor is not None:
        card = method.predictor.card
        described |= {
            "networks": list(method.predictor.files),
            "corrections": method.corrections,
            "samples": method.samples,
            "kernel": card.kernel,
            "steps": card.steps,
        }
    if method.traits.optimizes:
        described |= asdict(settings)
        described["stages"] = list(described["stages"])
    return described


def _optimize_momentum(
    prepared: Prepared,
    settings: Settings,
    initial: Momentum | None,
    device: torch.device,
    progress: Progress | None,
) -> tuple[Momentum, Geodesic, list[Iteration]]:
    """Run the optimiser on arrays; return the momentum, its geodesic and its history."""
    from nipype_quicksilver.lddmm.optimize import optimize

    lesion = prepared.moving_weight
    optimum = optimize(
        to_tensor(prepared.fixed, device),
        to_tensor(prepared.moving, device),
        settings,
        weight=to_tensor(prepared.weight, device),
        moving_weight=None if lesion is None else to_tensor(lesion, device),
        initial=None if initial is None else to_tensor(initial.data, device),
        spacing=prepared.grid.spacing,
        lattice=_lattice(prepared, device),
        progress=progress,
    )
    momentum = Momentum(
        data=to_array(optimum.momentum),
        grid=prepared.grid.subsampled(settings.velocity),
        kernel=optimum.operator.kernel.as_dict(),
        steps=optimum.steps,
        working_grid=prepared.grid,
    )
    return momentum, optimum.geodesic, optimum.history


def _lattice(prepared: Prepared, device: torch.device) -> Lattice | None:
    """Return the voxels of the fixed image; None if they are those of the working grid."""
    import torch

    from nipype_quicksilver.lddmm.folding import Lattice

    native, grid = Grid.from_image(prepared.fixed_brain), prepared.grid
    matrix = np.linalg.inv(prepared.to_fixed @ grid.affine) @ native.affine
    along_axes = np.allclose(np.abs(matrix[:3, :3]).sum(axis=0), 1)
    if along_axes and np.allclose(matrix, np.round(matrix), atol=1e-4):
        return None
    rows = torch.tensor(matrix[:3], dtype=torch.float32, device=device)
    return Lattice(rows, native.shape)


def settings_of_initial(settings: Settings, initial: Momentum, grid: Grid, name: str) -> Settings:
    """Return the settings with which an optimisation continues from a momentum.

    Parameters
    ----------
    settings : Settings
        Requested settings.
    initial : Momentum
        Momentum to start the optimisation from.
    grid : Grid
        The working grid of the images.
    name : str
        The momentum's file, for messages.

    Returns
    -------
    Settings
        The same, with the kernel and the time steps of the momentum, and a stage on its grid.

    Raises
    ------
    InputError
        If the momentum is not on the working grid, coarsened by one of `FACTORS`.
    """
    if not any(initial.grid.equals(grid.subsampled(factor), tol=1e-2) for factor in FACTORS):
        raise InputError(
            f"{name}: the momentum is not on the images' working grid, coarsened by one of "
            f"{FACTORS}; give one that was made for these images"
        )
    return _settings_from(settings, initial)


def describe_history(history: list[Iteration]) -> list[StageSummary]:
    """Summarise each stage of an optimisation that ran.

    Parameters
    ----------
    history : list of Iteration
        Of all iterations, in order.

    Returns
    -------
    list of StageSummary
        In their order.
    """
    stages = []
    for number, group in groupby(history, key=lambda iteration: iteration.stage):
        rows = list(group)
        first, last = rows[0], rows[-1]
        stages.append(
            StageSummary(
                stage=number,
                iterations=last.iteration,
                iterations_at_most=last.iterations,
                converged=last.converged,
                loss=[first.loss, last.loss],
                energy=[first.energy, last.energy],
                dissimilarity=[first.similarity, last.similarity],
                smallest_jacobian=last.smallest_jacobian,
            )
        )
    return stages
