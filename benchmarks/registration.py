"""Optimised registration and greedy: overlap, similarity, folds, inverse consistency, cost."""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import greedy
from benchmarks.data import Pair, pairs
from benchmarks.measuring import Cost, local_correlation, mean_dice, median_cost, run
from benchmarks.tables import show
from nipype_quicksilver.spatial.applying import apply_to_image
from nipype_quicksilver.spatial.images import read_mask
from nipype_quicksilver.spatial.jacobians import jacobian_summary
from nipype_quicksilver.spatial.transforms import read_displacement, read_transform

LO = ("--method", "optimize")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register all pairs with both tools, as whole commands; print and return the figures."""
    rows = {pair.name: _measure_pair(pair, work, runs, threads) for pair in pairs(work)}
    show(_table(rows))
    labelled = [row for row in rows.values() if "dice" in row["greedy"]]
    for tool in ("quicksilver", "greedy"):
        mean = statistics.mean(row[tool]["dice"] for row in labelled)
        print(f"mean Dice of the labelled pairs, {tool}: {mean:.4f}")
    return rows


def _measure_pair(pair: Pair, work: Path, runs: int, threads: int) -> dict[str, Any]:
    folder = work / pair.name
    folder.mkdir(exist_ok=True)
    matrix, affine = greedy.align(pair, folder)
    costs: dict[str, list[Cost]] = {"quicksilver": [], "greedy": []}
    for _ in range(runs):
        costs["quicksilver"].append(register(pair, affine, folder / "out", threads))
        costs["greedy"].append(greedy.register(pair, matrix, folder, threads))
    greedy_image, greedy_labels = greedy.apply(pair, matrix, folder)
    output = folder / "out"
    return {
        "quicksilver": {
            **figures_of(pair, output / "warped.nii.gz", warp_labels(pair, output)),
            **folds_of(pair, output / "displacement.nii.gz"),
            "inverse_consistency_mm": json.loads((output / "summary.json").read_text())[
                "inverse_consistency_mm"
            ]["mean"],
            **vars(median_cost(costs["quicksilver"])),
        },
        "greedy": {
            **figures_of(pair, greedy_image, greedy_labels),
            **folds_of(pair, folder / "greedy_warp.nii.gz"),
            **vars(median_cost(costs["greedy"])),
        },
    }


def register(
    pair: Pair, affine: Path, output: Path, threads: int, options: Sequence[str] = LO
) -> Cost:
    """Register a pair with the command, from files to files."""
    command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet"]
    command += ["--fixed", pair.fixed, "--moving", pair.moving, "--affine", affine]
    command += [*options, "--num-threads", str(threads), "--output-dir", output]
    return run(command, threads)


def warp_labels(pair: Pair, folder: Path) -> Path | None:
    """Warp the moving labels with the interpolation that greedy uses."""
    if pair.moving_labels is None:
        return None
    output = folder / "nearest_labels.nii.gz"
    composite = read_transform(folder / "composite.h5")
    return apply_to_image(
        pair.moving_labels, pair.fixed, output, composite, interpolation="NearestNeighbor"
    )


def figures_of(pair: Pair, image: Path, labels: Path | None) -> dict[str, float]:
    figures = {"lncc": local_correlation(pair.fixed, image)}
    if labels is not None and pair.fixed_labels is not None:
        figures["dice"] = mean_dice(pair.fixed_labels, labels)
    return figures


def folds_of(pair: Pair, displacement: Path) -> dict[str, float]:
    field, grid = read_displacement(displacement)
    brain = read_mask(pair.fixed).get_fdata() > 0
    summary = jacobian_summary(field, grid, brain)
    return {"folded_voxels": summary.folded, "smallest_jacobian": summary.minimum}


def _table(rows: dict[str, Any]) -> Table:
    columns = ("Dice", "LNCC", "folds", "min J", "inverse mm", "CPU s", "wall s", "GB")
    keys = ("dice", "lncc", "folded_voxels", "smallest_jacobian", "inverse_consistency_mm")
    keys += ("cpu", "wall", "memory")
    digits = (4, 4, 0, 3, 3, 1, 1, 2)
    table = Table("pair", "tool", *columns, title="Registration, whole commands")
    for name, row in rows.items():
        for tool, figures in row.items():
            cells = [
                f"{figures[key]:.{digit}f}" if key in figures else ""
                for key, digit in zip(keys, digits, strict=True)
            ]
            table.add_row(name, tool, *cells)
    return table
