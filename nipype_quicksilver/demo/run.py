"""The demonstration from end to end: make a pair, register it, compare with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine

from nipype_quicksilver.demo.outcome import Distances, LargestError, Numbers, Outcome
from nipype_quicksilver.demo.phantom import TISSUES, Pair
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.options import NONE, OPTIONS
from nipype_quicksilver.registration import register
from nipype_quicksilver.registration.summary import with_total
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.transforms import displacement_on_grid
from nipype_quicksilver.steps import DEVICE

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.registration.fit import Progress


def run_demo(
    pair: Pair,
    inputs: dict[str, Path],
    *,
    method: str = OPTIONS["method"].default,
    settings: Settings | None = None,
    device: torch.device | str = DEVICE.default,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Register a pair and compare the result with the truth.

    Parameters
    ----------
    pair : Pair
        The images and the deformation between them.
    inputs : dict
        Their files, as :meth:`Pair.write` returns them; the registration reads only these.
    method : str
        A key of `methods.METHODS`; of the registration, as in :func:`nipype_quicksilver.register`.
    settings : Settings, optional
        Of the optimisation; default: those of the method.
    device : torch.device or str
        Where to compute.
    seed : int
        Seed of the pair, which is recorded.
    progress : callable, optional
        Called after each iteration.
    clock : Clock, optional
        Seconds before the registration, to be reported with its own.

    Returns
    -------
    Outcome
        Registration and measures; nothing is written.
    """
    registration = register(
        inputs["fixed"],
        inputs["moving"],
        fixed_labels=inputs["fixed_labels"],
        moving_labels=inputs["moving_labels"],
        brain_extraction=NONE,
        affine=NONE,  # the true deformation includes no affine
        method=method,
        settings=settings,
        device=device,
        seed=seed,
        progress=progress,
    )
    earlier = {**clock.seconds} if clock else {}
    clock = Clock()
    with clock.part("compare"):
        truth = displacement_on_grid(pair.truth.transform, Grid.from_image(pair.fixed))
        error = {
            "before": np.linalg.norm(truth, axis=-1),
            "after": np.linalg.norm(registration.displacement - truth, axis=-1),
        }
        brain = np.asanyarray(pair.fixed.dataobj) > 0
        error_mm = {when: _statistics(distance[brain]) for when, distance in error.items()}
        largest = _place_of_largest(error["after"], pair)
    summary = registration.summary
    assert summary.labels is not None
    overlaps = {"before": summary.labels.before, "after": summary.labels.after}
    numbers = Numbers(
        seed=seed,
        method=method,
        error_mm=error_mm,
        largest_error=largest,
        local_correlation={
            "before": summary.similarity.before,
            "after": summary.similarity.after,
        },
        dice={
            when: {tissue: overlap.labels[str(label)].dice for label, tissue in TISSUES.items()}
            for when, overlap in overlaps.items()
        },
        jacobian=summary.jacobian,
        seconds=with_total(earlier | summary.seconds | clock.seconds),
    )
    return Outcome(pair, registration, error, numbers)


def _statistics(distances: np.ndarray) -> Distances:
    """Return the statistics of distances (N,)."""
    return Distances(
        float(distances.mean(dtype=float)),
        float(np.percentile(distances, 95)),
        float(distances.max()),
    )


def _place_of_largest(error: np.ndarray, pair: Pair) -> LargestError:
    """Return the largest error, with its position, tissue and distance to another tissue."""
    labels = np.asanyarray(pair.fixed_labels.dataobj)
    place = np.unravel_index(np.where(labels > 0, error, -1).argmax(), error.shape)
    spacing = Grid.from_image(pair.fixed).spacing
    offsets = (h * (np.arange(n) - i) for h, n, i in zip(spacing, error.shape, place, strict=True))
    x, y, z = np.ix_(*offsets)
    border = np.sqrt(np.where(labels == labels[place], np.inf, x**2 + y**2 + z**2).min())
    return LargestError(
        error_mm=float(error[place]),
        position_mm=apply_affine(pair.fixed.affine, np.array(place)).tolist(),
        tissue=TISSUES[int(labels[place])],
        border_mm=float(border),
    )
