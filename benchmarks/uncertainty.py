"""Uncertainty compared with the true error, on pairs whose deformation is known."""

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.measuring import median_cost, run
from benchmarks.tables import show
from nipype_quicksilver.demo.phantom import load_template, make_pair
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.transforms import displacement_on_grid, read_displacement

SEEDS = (1, 2, 3)
SAMPLES = 20
METHODS = ("predict", "correct")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register a template to deformed copies of itself; print and return the figures."""
    template = load_template()
    rows: dict[str, Any] = {method: {} for method in METHODS}
    for seed in SEEDS:
        pair = make_pair(template, seed, torch.device("cpu"))
        folder = work / f"known-{seed}"
        folder.mkdir(exist_ok=True)
        files = pair.write(folder)
        truth = displacement_on_grid(pair.truth.transform, Grid.from_image(pair.fixed))
        for method in METHODS:
            output = folder / method
            command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet"]
            command += ["--fixed", files["fixed"], "--moving", files["moving"]]
            command += ["--brain-extraction", "none", "--affine", "none"]
            command += ["--method", method, "--samples", str(SAMPLES)]
            command += ["--num-threads", str(threads), "--output-dir", output]
            costs = [run(command, threads) for _ in range(runs)]
            displacement, _ = read_displacement(output / "displacement.nii.gz")
            error = np.linalg.norm(displacement - truth, axis=-1)
            spread = nib.load(output / "uncertainty.nii.gz").get_fdata()
            brain = np.asanyarray(pair.fixed.dataobj) > 0
            rows[method][seed] = {
                "before_mm": float(np.linalg.norm(truth[brain], axis=-1).mean()),
                "error_mm": float(error[brain].mean()),
                "uncertainty_mm": float(spread[brain].mean()),
                "rank_correlation": float(spearmanr(error[brain], spread[brain]).statistic),
                **vars(median_cost(costs)),
            }
            _draw(error * brain, spread * brain, output / "uncertainty.png")
    show(_table(rows))
    return rows


def _draw(error: np.ndarray, spread: np.ndarray, path: Path) -> None:
    """Draw both maps in the three planes through the middle of the brain."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 3)
    for row, (name, volume) in enumerate((("true error", error), ("uncertainty", spread))):
        top = np.percentile(volume[volume > 0], 99)
        for axis in range(3):
            plane = np.take(volume, volume.shape[axis] // 2, axis=axis).T
            shown = axes[row, axis].imshow(plane, origin="lower", vmin=0, vmax=top, cmap="magma")
            axes[row, axis].set_axis_off()
        figure.colorbar(shown, ax=axes[row], label=f"{name}, mm")
    figure.savefig(path, dpi=80)


def _table(rows: dict[str, Any]) -> Table:
    keys = {"before_mm": 2, "error_mm": 2, "uncertainty_mm": 2, "rank_correlation": 3, "cpu": 1}
    title = f"Uncertainty of {SAMPLES} samples, and the true error in the brain"
    table = Table("method", "seed", *keys, title=title)
    for method, pairs in rows.items():
        for seed, row in pairs.items():
            table.add_row(
                method, str(seed), *(f"{row[k]:.{digits}f}" for k, digits in keys.items())
            )
    return table
