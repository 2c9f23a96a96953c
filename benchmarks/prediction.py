"""Predicted registrations compared with the optimised one and greedy: the paper's methods."""

import statistics
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import greedy
from benchmarks.data import Pair, pairs, synthesize
from benchmarks.measuring import mean_dice, median_cost
from benchmarks.registration import figures_of, folds_of, register, warp_labels
from benchmarks.tables import show
from nipype_quicksilver.data import shipped_networks
from nipype_quicksilver.spatial.applying import apply_to_image
from nipype_quicksilver.spatial.transforms import read_transform

PREDICTION = str(shipped_networks()[0])

# The methods of the paper, and the options of the command.
METHODS: dict[str, tuple[str, ...]] = {
    "LP": ("--method", "predict"),
    "LPP": ("--method", "correct", "--prediction-network", PREDICTION),
    "LPC": ("--method", "correct"),
    "LPC2": ("--method", "correct", "--corrections", "2"),
    "LPC3": ("--method", "correct", "--corrections", "3"),
    "refine": ("--method", "refine"),
    "LO": ("--method", "optimize"),
}


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register all pairs by all methods, as whole commands; print and return the figures."""
    rows = {pair.name: _measure_pair(pair, work, runs, threads) for pair in pairs(work)}
    show(_table(rows))
    contrasts = _other_contrast(work, threads)
    for name, value in contrasts.items():
        print(f"{name}: {value:.4f}")
    return {"pairs": rows, "contrasts": contrasts}


def _measure_pair(pair: Pair, work: Path, runs: int, threads: int) -> dict[str, Any]:
    folder = work / pair.name
    folder.mkdir(exist_ok=True)
    matrix, affine = greedy.align(pair, folder)
    rows: dict[str, Any] = {}
    for name, options in METHODS.items():
        output = folder / f"method-{name}"
        costs = [register(pair, affine, output, threads, options) for _ in range(runs)]
        rows[name] = {
            **figures_of(pair, output / "warped.nii.gz", warp_labels(pair, output)),
            **folds_of(pair, output / "displacement.nii.gz"),
            **vars(median_cost(costs)),
        }
    costs = [greedy.register(pair, matrix, folder, threads) for _ in range(runs)]
    rows["greedy"] = {
        **figures_of(pair, *greedy.apply(pair, matrix, folder)),
        **folds_of(pair, folder / "greedy_warp.nii.gz"),
        **vars(median_cost(costs)),
    }
    return rows


def _other_contrast(work: Path, threads: int) -> dict[str, float]:
    """Return the mean Dice of the affine, and of registrations with T1w and T2w moving images."""
    dice: dict[str, list[float]] = {"affine": [], "T1w to T1w": [], "T2w to T1w": []}
    for pair in pairs(work):
        if pair.moving_labels is None or pair.fixed_labels is None:
            continue
        folder = work / pair.name
        affine = greedy.align(pair, folder)[1]
        labels = apply_to_image(
            pair.moving_labels,
            pair.fixed,
            folder / "affine_labels.nii.gz",
            read_transform(affine),
            interpolation="NearestNeighbor",
        )
        dice["affine"].append(mean_dice(pair.fixed_labels, labels))
        subject = pair.name.split("-")[1]
        other = Pair(
            pair.name,
            pair.fixed,
            synthesize(work, subject, contrast="T2w")[0],
            pair.fixed_labels,
            pair.moving_labels,
        )
        for name, each in (("T1w to T1w", pair), ("T2w to T1w", other)):
            output = folder / name.replace(" ", "-")
            register(each, affine, output, threads, METHODS["LPC"])
            warped = warp_labels(each, output)
            assert warped is not None
            dice[name].append(mean_dice(pair.fixed_labels, warped))
    means = {name: statistics.mean(values) for name, values in dice.items()}
    gains = [means[name] - means["affine"] for name in ("T2w to T1w", "T1w to T1w")]
    return {**means, "share of the gain": gains[0] / gains[1]}


def _table(rows: dict[str, Any]) -> Table:
    """Return a table of means over all pairs, one row per method."""
    columns = {"dice": 4, "lncc": 4, "folded_voxels": 0, "cpu": 1, "wall": 1, "memory": 2}
    table = Table("method", *columns, title="Methods, means over the pairs, whole commands")
    for method in (*METHODS, "greedy"):
        cells = []
        for key, digits in columns.items():
            values = [row[method][key] for row in rows.values() if key in row[method]]
            cells.append(f"{statistics.mean(values):.{digits}f}")
        table.add_row(method, *cells)
    return table
