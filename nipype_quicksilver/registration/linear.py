"""Registrations without a deformation: rigid, similarity and affine transforms."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock, thread_counts
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.options import TRANSFORMS
from nipype_quicksilver.registration.comparison import describe_similarity, with_matching_contrast
from nipype_quicksilver.registration.fit import Fit
from nipype_quicksilver.registration.preparation import Prepared
from nipype_quicksilver.registration.shooting import Maps
from nipype_quicksilver.registration.summary import Energy, FitSummary, GridSummary, Parameters
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.momentum import Momentum

if TYPE_CHECKING:
    import torch

_FACTOR = 8  # of the grid of the momentum, which is zero
_TOLERANCE = 1e-3  # of the scales of a matrix; files round them


def check_model(matrix: np.ndarray | None, transform: str, name: PathLike | None) -> None:
    """Raise an error if a given affine is not of the requested kind.

    Parameters
    ----------
    matrix : ndarray or None
        4x4, fixed to moving points; None if the affine is estimated or left to the headers.
    transform : str
        A key of `options.TRANSFORMS`.
    name : path-like or None
        Its file, for messages.

    Raises
    ------
    InputError
        If a rigid transform or a similarity is requested, and the affine scales otherwise.
    """
    if matrix is None or TRANSFORMS[transform] == 12:
        return
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    expected = scales.mean() if transform == "similarity" else 1.0
    if np.abs(scales - expected).max() > _TOLERANCE * expected:
        listed = ", ".join(f"{scale:.3f}" for scale in scales)
        raise InputError(
            f"{name}: is not a {transform} transform, as it scales by {listed}; give another "
            "affine, or choose transform affine"
        )


def without_deformation(
    prepared: Prepared, transform: str, *, device: torch.device, seed: int, clock: Clock
) -> Fit:
    """Return the fit of a registration by an affine alone: a momentum of zero.

    Parameters
    ----------
    prepared : Prepared
        Images and weights on the working grid, aligned by the affine.
    transform : str
        A key of `options.TRANSFORMS`.
    device : torch.device
        Where to compute.
    seed : int
        Seed of the random numbers, which the summary records; nothing uses it.
    clock : Clock
        Records the time spent in ``maps``.

    Returns
    -------
    Fit
        With identical similarities before and after.
    """
    grid, kernel = prepared.grid, asdict(Kernel())
    coarse = grid.subsampled(_FACTOR)
    momentum = Momentum(
        data=np.zeros((*coarse.shape, 3), np.float32),
        grid=coarse,
        kernel=kernel,
        steps=1,
        working_grid=grid,
    )
    with clock.part("maps"):
        still = np.zeros((*grid.shape, 3), np.float32)
        maps = Maps(still, still, [0.0])
        matched, exchanged = with_matching_contrast(prepared)
        similarity = describe_similarity(matched, maps, device)
        similarity = replace(similarity, after=similarity.before)  # but for rounding errors
    summary = FitSummary(
        parameters=Parameters(
            method=None,
            transform=transform,
            kernel=kernel,
            steps=1,
            share_of_prediction=None,
            contrast_exchanged=exchanged,
            device=str(device),
            threads=thread_counts(),
            seed=seed,
        ),
        working_grid=GridSummary.of(grid),
        velocity_grid=GridSummary.of(coarse),
        masks=prepared.masks,
        similarity=similarity,
        energy=Energy(0.0, [0.0]),
        stages=[],
    )
    return Fit(momentum, maps, summary, deforms=False)
