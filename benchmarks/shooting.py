"""The fast shooting beside the original scheme, on momenta that the optimisation found."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import greedy
from benchmarks.data import Pair, pairs
from benchmarks.registration import register
from nipype_quicksilver.lddmm.fields import compose, corner_determinants, upsample
from nipype_quicksilver.lddmm.kernel import Kernel, KernelOperator
from nipype_quicksilver.lddmm.reference import shoot_by_runge_kutta
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.spectra import resize_spectrally
from nipype_quicksilver.spatial.momentum import read_momentum

Shoot = Callable[[], Geodesic]

# Pairs whose momenta are shot: the original scheme takes minutes for each.
PAIRS = ("14-15", "real")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Shoot every momentum by every scheme; print and return distances and CPU seconds."""
    torch.set_num_threads(threads)
    rows = {}
    for pair in pairs(work):
        if pair.name in PAIRS:
            rows[pair.name] = _measure_momentum(_momentum(pair, work, threads), runs)
    table = Table(
        *("pair", "scheme", "mean mm", "p99 mm", "inverse mm", "folds %", "CPU s", "of reference"),
        title="Shooting: distance to the original scheme on the full grid, over the brain",
    )
    for name, row in rows.items():
        seconds = row["RK4, 10 steps, full grid"]["cpu"]
        for scheme, f in row.items():
            table.add_row(
                *(name, scheme, f"{f['mean']:.3f}", f"{f['p99']:.3f}", f"{f['inverse']:.3f}"),
                *(f"{f['folds']:.4f}", f"{f['cpu']:.2f}", f"{f['cpu'] / seconds:.4f}"),
            )
    Console().print(table)
    return rows


def _momentum(pair: Pair, work: Path, threads: int) -> Path:
    """Return the momentum of a pair, registered unless that was done before."""
    folder = work / pair.name
    folder.mkdir(exist_ok=True)
    path = folder / "out" / "momentum.nii.gz"
    if not path.exists():
        register(pair, greedy.align(pair, folder)[1], folder / "out", threads)
    return path


@torch.no_grad()
def _measure_momentum(path: Path, runs: int) -> dict[str, dict[str, float]]:
    stored = read_momentum(path)
    kernel = Kernel(**stored.kernel)
    half = torch.from_numpy(np.moveaxis(stored.data, -1, 0)[None].copy())
    full = resize_spectrally(half, stored.working_grid.shape)
    on_half = KernelOperator(kernel, stored.grid.shape, stored.grid.spacing)
    on_full = KernelOperator(kernel, stored.working_grid.shape, stored.working_grid.spacing)
    # Where the velocity is more than a hundredth of its maximum: the brain and its surroundings.
    speed = upsample(on_half.smooth(half), 2).norm(dim=1)
    inside = speed > 0.01 * speed.max()

    def fast(momentum: torch.Tensor, operator: KernelOperator, steps: int) -> Shoot:
        return lambda: shoot(momentum, operator, steps=steps, both=True)

    schemes: dict[str, Shoot] = {
        "RK4, 10 steps, full grid": lambda: shoot_by_runge_kutta(full, on_full),
        "semi-Lagrangian, 10 steps, full grid": fast(full, on_full, 10),
        "semi-Lagrangian, 5 steps, full grid": fast(full, on_full, 5),
        "semi-Lagrangian, 5 steps, half grid": fast(half, on_half, 5),
        f"semi-Lagrangian, {stored.steps} steps, half grid": fast(half, on_half, stored.steps),
    }
    reference = None
    figures = {}
    for name, scheme in schemes.items():
        seconds = []
        for _ in range(1 if reference is None else runs):
            start = time.process_time()
            geodesic = scheme()
            seconds.append(time.process_time() - start)
        factor = full.shape[2] // geodesic.inverse.shape[2]
        inverse, forward = (upsample(m, factor) for m in (geodesic.inverse, geodesic.forward))
        reference = inverse if reference is None else reference
        distance = (inverse - reference).norm(dim=1)[inside]
        round_trip = compose(inverse, forward, on_full.spacing).norm(dim=1)[inside]
        folded = (corner_determinants(inverse, on_full.spacing) <= 0).any(dim=1)
        figures[name] = {
            "mean": float(distance.mean()),
            "p99": float(np.percentile(distance.numpy(), 99)),
            "inverse": float(round_trip.mean()),
            "folds": 100 * float(folded.float().mean()),
            "cpu": float(np.median(seconds)),
        }
    return figures
