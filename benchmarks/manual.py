"""Registration next to greedy and ANTs, on real brains with labels drawn by hand.

The figures of each pair and method are kept in the work folder; the next run skips what is there.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import ants, greedy, prediction
from benchmarks.data import (
    CORTICAL_REGIONS,
    STRUCTURES,
    Pair,
    manual_pairs,
    with_cortical_regions,
)
from benchmarks.measuring import local_correlation, mean_dice, median_cost
from benchmarks.registration import folds_of, register, warp_labels
from benchmarks.tables import show
from nipype_quicksilver.spatial.applying import apply_to_image, join_transforms
from nipype_quicksilver.spatial.files import write_json

OURS = ("LP", "LPC", "refine", "LO")
SLOW = "SyN-CC"  # half an hour of CPU time for each pair
SLOW_PAIRS = 2
METHODS = ("affine", *OURS, "greedy", "SyN-MI", SLOW)

LabelsOf = Callable[[Pair], Path | None]


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register the pairs by all methods but the slow one; print and return the figures."""
    return _measure(work, runs, threads, slow_pairs=0)


def measure_with_slow(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register the first pairs by the slow method too. It takes more than an hour."""
    return _measure(work, runs, threads, slow_pairs=SLOW_PAIRS)


def _measure(work: Path, runs: int, threads: int, *, slow_pairs: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for number, pair in enumerate(manual_pairs()):
        folder = work / "manual" / pair.name
        methods = [m for m in METHODS if m != SLOW or number < slow_pairs]
        rows[pair.name] = {m: _figures(pair, m, folder, runs, threads) for m in methods}
    show(_table(rows))
    for key, labels in (("dice", "27 structures"), ("cortical_dice", "cortical regions")):
        show(_table_of_pairs(rows, key, labels))
    return rows


def _figures(pair: Pair, method: str, folder: Path, runs: int, threads: int) -> dict[str, float]:
    """Return the figures of a pair by a method, from the file where they are kept."""
    kept = folder / f"{method}.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, _register(pair, method, folder, runs, threads))
    return json.loads(kept.read_text())


def _register(pair: Pair, method: str, folder: Path, runs: int, threads: int) -> dict[str, float]:
    """Register a pair from greedy's affine, as a whole command."""
    matrix, affine = greedy.align(pair, folder)
    if method == "affine":
        return _overlaps(pair, *_warp(pair, folder, affine))
    if method in OURS:
        output = folder / method
        options = ("--brain-extraction", "none", *prediction.METHODS[method])
        costs = [register(pair, affine, output, threads, options) for _ in range(runs)]
        field, image = output / "displacement.nii.gz", output / "warped.nii.gz"
        overlaps = _overlaps(pair, image, lambda each: warp_labels(each, output))
    elif method == "greedy":
        costs = [greedy.register(pair, matrix, folder, threads) for _ in range(runs)]
        field, image = folder / "greedy_warp.nii.gz", greedy.apply(pair, matrix, folder)[0]
        overlaps = _overlaps(pair, image, lambda each: greedy.apply(each, matrix, folder)[1])
    else:
        field = folder / f"{method}_warp.nii.gz"
        costs = [ants.register(pair, affine, field, threads, method) for _ in range(runs)]
        overlaps = _overlaps(pair, *_warp(pair, folder, field, affine))
    return {**overlaps, **folds_of(pair, field), **vars(median_cost(costs))}


def _warp(pair: Pair, folder: Path, *transforms: Path) -> tuple[Path, LabelsOf]:
    """Warp the moving image by transforms in ANTs' order; return what warps labels likewise."""
    chain = join_transforms(transforms)

    def labels_of(pair: Pair) -> Path | None:
        assert pair.moving_labels is not None
        output = folder / "labels.nii.gz"
        return apply_to_image(
            pair.moving_labels, pair.fixed, output, chain, interpolation="NearestNeighbor"
        )

    return apply_to_image(pair.moving, pair.fixed, folder / "warped.nii.gz", chain), labels_of


def _overlaps(pair: Pair, image: Path, labels_of: LabelsOf) -> dict[str, float]:
    """Measure the similarity of a warped image, and the overlap of labels that are warped so."""
    figures = {"lncc": local_correlation(pair.fixed, image)}
    cortical = with_cortical_regions(pair)
    for key, each, structures in (
        ("dice", pair, STRUCTURES),
        ("cortical_dice", cortical, CORTICAL_REGIONS),
    ):
        labels = labels_of(each)
        assert labels is not None and each.fixed_labels is not None
        figures[key] = mean_dice(each.fixed_labels, labels, structures)
    return figures


def _table(rows: dict[str, Any]) -> Table:
    """Return a row per method: means over the pairs, medians of what it cost."""
    means = {"dice": 4, "cortical_dice": 4, "lncc": 4, "folded_voxels": 0}
    medians = {"cpu": 1, "wall": 1, "memory": 2}
    table = Table("method", "pairs", *means, *medians, title="Real brains, manual labels")
    for method in METHODS:
        measured = [row[method] for row in rows.values() if method in row]
        cells = []
        for columns, summary in ((means, statistics.mean), (medians, statistics.median)):
            for key, digits in columns.items():
                values = [figures[key] for figures in measured if key in figures]
                cells.append(f"{summary(values):.{digits}f}" if values else "")
        table.add_row(method, str(len(measured)), *cells)
    return table


def _table_of_pairs(rows: dict[str, Any], key: str, labels: str) -> Table:
    table = Table("pair", *METHODS, title=f"Dice over {labels}")
    for name, row in rows.items():
        cells = (f"{row[method][key]:.4f}" if method in row else "" for method in METHODS)
        table.add_row(name, *cells)
    return table
