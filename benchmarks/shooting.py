"""The fast shooting compared with the original scheme, on momenta of optimised registrations.

The original scheme depends on its grid too. Therefore `measure_resolved` also runs it on voxels of
half the size, and returns the distance of each scheme from that result.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarks import greedy
from benchmarks.data import Pair, pairs
from benchmarks.registration import register
from benchmarks.tables import show
from nipype_quicksilver.execution.processes import keep_freed_memory
from nipype_quicksilver.lddmm.fields import compose
from nipype_quicksilver.lddmm.grids import pool, upsample
from nipype_quicksilver.lddmm.jacobians import corner_determinants
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.reference import shoot_by_runge_kutta
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.spectra import resize_spectrally
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum

Shoot = Callable[[], Geodesic]

# Pairs whose momenta are shot: the original scheme takes minutes for each.
PAIRS = ("14-15", "real")
ORIGINAL = "original: RK4, full grid, 10 steps"


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Shoot every momentum by every scheme; print and return distances and CPU seconds."""
    return _measure(work, runs, threads, resolved=False)


def measure_resolved(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Shoot the first momentum by the original scheme on voxels of half the size as well.

    It takes half an hour and 14 GB of memory.
    """
    return _measure(work, runs, threads, resolved=True)


def _measure(work: Path, runs: int, threads: int, *, resolved: bool) -> dict[str, Any]:
    torch.set_num_threads(threads)
    keep_freed_memory()  # as the commands do
    rows = {}
    for pair in pairs(work):
        if pair.name in (PAIRS[:1] if resolved else PAIRS):
            momentum = _momentum(pair, work, threads)
            refined = _refined(momentum) if resolved else None
            rows[pair.name] = _measure_momentum(momentum, runs, refined)
    table = Table(
        *("pair", "scheme", "to original: mean mm", "p99 mm", "to refined: mean mm", "p99 mm"),
        *("inverse mm", "folds %", "CPU s", "of original"),
        title="Shooting: distances between the maps over the brain",
    )
    for name, row in rows.items():
        seconds = row[ORIGINAL]["cpu"]
        for scheme, f in row.items():
            distances = [f.get(key) for key in ("mean", "p99", "refined_mean", "refined_p99")]
            table.add_row(
                *(name, scheme, *("" if d is None else f"{d:.3f}" for d in distances)),
                *(f"{f['inverse']:.3f}", f"{f['folds']:.4f}"),
                *(f"{f['cpu']:.2f}", f"{f['cpu'] / seconds:.4f}"),
            )
    show(table)
    return rows


def _momentum(pair: Pair, work: Path, threads: int) -> Path:
    """Return the momentum of a pair, which is registered if necessary."""
    folder = work / pair.name
    folder.mkdir(exist_ok=True)
    path = folder / "out" / "momentum.nii.gz"
    if not path.exists():
        register(pair, greedy.align(pair, folder)[1], folder / "out", threads)
    return path


@torch.no_grad()
def _refined(path: Path) -> torch.Tensor:
    """Return ``phi^-1`` by the original scheme on voxels of half the size, at the original voxels.

    It is kept next to the momentum, and reused by the next run.
    """
    kept = path.with_name("refined.npy")
    if not kept.exists() or kept.stat().st_mtime < path.stat().st_mtime:
        stored = read_momentum(path)
        shape = tuple(2 * n for n in stored.working_grid.shape)
        spacing = [h / 2 for h in stored.working_grid.spacing]
        operator = KernelOperator(Kernel(**stored.kernel), shape, spacing)
        momentum = resize_spectrally(_tensor(stored), shape)
        np.save(kept, pool(shoot_by_runge_kutta(momentum, operator).inverse, 2).numpy())
    return torch.from_numpy(np.load(kept))


def _tensor(stored: Momentum) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(stored.data, -1, 0)[None].copy())


@torch.no_grad()
def _measure_momentum(
    path: Path, runs: int, refined: torch.Tensor | None
) -> dict[str, dict[str, float]]:
    stored = read_momentum(path)
    kernel = Kernel(**stored.kernel)
    half = _tensor(stored)
    full = resize_spectrally(half, stored.working_grid.shape)
    on_half = KernelOperator(kernel, stored.grid.shape, stored.grid.spacing)
    on_full = KernelOperator(kernel, stored.working_grid.shape, stored.working_grid.spacing)
    # Where the velocity is more than a hundredth of its maximum: the brain and its surroundings.
    speed = upsample(on_half.smooth(half), 2).norm(dim=1)
    inside = speed > 0.01 * speed.max()

    def fast(momentum: torch.Tensor, operator: KernelOperator, steps: int) -> Shoot:
        return lambda: shoot(momentum, operator, steps=steps, both=True)

    schemes: dict[str, Shoot] = {
        ORIGINAL: lambda: shoot_by_runge_kutta(full, on_full),
        **{f"fast, full grid, {n} steps": fast(full, on_full, n) for n in (10, 7, 5)},
        **{f"fast, half grid, {n} steps": fast(half, on_half, n) for n in (5, 4, stored.steps)},
    }
    original = None
    figures = {}
    for name, scheme in schemes.items():
        seconds = []
        for _ in range(1 if original is None else runs):
            start = time.process_time()
            geodesic = scheme()
            seconds.append(time.process_time() - start)
        factor = full.shape[2] // geodesic.inverse.shape[2]
        inverse, forward = (upsample(m, factor) for m in (geodesic.inverse, geodesic.forward))
        original = inverse if original is None else original
        round_trip = compose(inverse, forward, on_full.spacing).norm(dim=1)[inside]
        folded = (corner_determinants(inverse, on_full.spacing) <= 0).any(dim=1)
        figures[name] = {
            **_distance(inverse, original, inside),
            **_distance(inverse, refined, inside, "refined_"),
            "inverse": float(round_trip.mean()),
            "folds": 100 * float(folded.float().mean()),
            "cpu": float(np.median(seconds)),
        }
    return figures


def _distance(
    inverse: torch.Tensor, other: torch.Tensor | None, inside: torch.Tensor, prefix: str = ""
) -> dict[str, float]:
    """Return the mean and the 99th percentile of the distance between two maps, mm."""
    if other is None or other is inverse:
        return {}
    distance = (inverse - other).norm(dim=1)[inside].numpy()
    return {
        f"{prefix}mean": float(distance.mean()),
        f"{prefix}p99": float(np.percentile(distance, 99)),
    }
