"""Tables of an evaluation in long format, as statistics programs read them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nipype_quicksilver.evaluation.measures import LOG10_EDGES, Measures, percentiles
from nipype_quicksilver.spatial.files import PathLike, staged

#: Percentiles of the distance to the reference, as in the paper.
PERCENTS = (0.3, 5.0, 25.0, 50.0, 75.0, 95.0, 99.7)

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Measures of a method on a pair.

    Attributes
    ----------
    pair, label_set, method : str
        Their names.
    measures : Measures
        With times, except for the affine alone.
    """

    pair: str
    label_set: str
    method: str
    measures: Measures


def measure_rows(measured: Iterable[Measured]) -> list[Row]:
    """Return a row for each method and pair."""
    return [
        {
            "label_set": one.label_set,
            "pair": one.pair,
            "method": one.method,
            "target_overlap": one.measures.overlap.mean.target_overlap,
            "total_overlap": one.measures.overlap.total.target_overlap,
            "dice": one.measures.overlap.mean.dice,
            "folded_voxels": one.measures.jacobian.folded,
            "folded_percent": one.measures.jacobian.folded_percent,
            "smallest_jacobian": one.measures.jacobian.minimum,
            **_errors(np.array(one.measures.distance or [])),
            "seconds": one.measures.seconds,
            "cpu_seconds": one.measures.cpu_seconds,
        }
        for one in measured
    ]


def label_rows(measured: Iterable[Measured]) -> list[Row]:
    """Return a row for each label of the fixed image, method and pair."""
    return [
        {
            "label_set": one.label_set,
            "pair": one.pair,
            "method": one.method,
            "label": int(label),
            "target_overlap": overlap.target_overlap,
            "dice": overlap.dice,
            "target_mm3": overlap.target_mm3,
        }
        for one in measured
        for label, overlap in one.measures.overlap.labels.items()
        if overlap.target_overlap is not None
    ]


def error_rows(measured: Sequence[Measured]) -> list[Row]:
    """Return percentiles of the distance to the reference over all pairs of a label set."""
    rows = []
    for label_set, method, group in _groups(measured):
        counts = _sum(one.measures.distance for one in group)
        if counts.any():
            rows.append(
                {
                    "label_set": label_set,
                    "method": method,
                    "pairs": len(group),
                    **_errors(counts),
                }
            )
    return rows


def histogram_rows(measured: Sequence[Measured]) -> list[Row]:
    """Return densities of log10 of the Jacobian determinant, over the voxels of all pairs."""
    centres = (LOG10_EDGES[1:] + LOG10_EDGES[:-1]) / 2
    width = LOG10_EDGES[1] - LOG10_EDGES[0]
    rows = []
    for label_set, method, group in _groups(measured):
        for quantity in ("log10_jacobian", "difference"):
            counts = _sum(getattr(one.measures, quantity) for one in group)
            if counts.any():
                density = counts / (counts.sum() * width)
                rows += [
                    {
                        "label_set": label_set,
                        "method": method,
                        "quantity": quantity,
                        "log10": round(float(x), 6),
                        "density": float(y),
                    }
                    for x, y in zip(centres, density, strict=True)
                ]
    return rows


def summary_rows(measured: Sequence[Measured], errors: Sequence[Row]) -> list[Row]:
    """Return the summary of each method in each label set.

    Parameters
    ----------
    measured : sequence of Measured
        Measures of every method on every pair.
    errors : sequence of dict
        Their :func:`error_rows`.
    """
    errors_of = {(row["label_set"], row["method"]): row for row in errors}
    rows = []
    for label_set, method, group in _groups(measured):
        measures = measure_rows(group)
        overlap = np.array([row["target_overlap"] for row in measures])
        quartiles = np.percentile(overlap, (25, 50, 75))
        folds = [row["folded_percent"] for row in measures]
        error = errors_of.get((label_set, method), {})
        rows.append(
            {
                "label_set": label_set,
                "method": method,
                "pairs": len(group),
                "target_overlap_mean": float(overlap.mean()),
                "target_overlap_sd": float(overlap.std(ddof=1)) if len(group) > 1 else None,
                "target_overlap_p25": float(quartiles[0]),
                "target_overlap_median": float(quartiles[1]),
                "target_overlap_p75": float(quartiles[2]),
                "total_overlap_mean": float(np.mean([row["total_overlap"] for row in measures])),
                "folded_percent_mean": float(np.mean(folds)),
                "pairs_with_folds": int(np.count_nonzero(folds)),
                "error_mm_p50": error.get("error_mm_p50"),
                "error_mm_p95": error.get("error_mm_p95"),
                "seconds_median": _median([row["seconds"] for row in measures]),
                "cpu_seconds_median": _median([row["cpu_seconds"] for row in measures]),
            }
        )
    return rows


def write_table(path: PathLike, rows: Sequence[Row]) -> Path:
    """Write rows as TSV; missing values are ``n/a``.

    Parameters
    ----------
    path : path-like
        The file to write.
    rows : sequence of dict
        At least one, all with the same keys.

    Returns
    -------
    Path
        The file written.
    """
    with staged(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return Path(path)


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _groups(measured: Sequence[Measured]) -> list[tuple[str, str, list[Measured]]]:
    """Return the measures of each label set and method, in the order of their first occurrence."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.label_set, one.method), []).append(one)
    return [(*names, group) for names, group in groups.items()]


def _sum(histograms: Iterable[list[int] | None]) -> np.ndarray:
    """Return the sum of the histograms that exist, whose lengths may differ."""
    known = [counts for counts in histograms if counts is not None]
    total = np.zeros(max(map(len, known), default=0), dtype=np.int64)
    for counts in known:
        total[: len(counts)] += counts
    return total


def _median(values: list[float | None]) -> float | None:
    """Return the median of the values that exist."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _errors(counts: np.ndarray) -> Row:
    """Return the percentiles of distances; None without a reference."""
    values = percentiles(counts, PERCENTS) if counts.size else [None] * len(PERCENTS)
    return {f"error_mm_p{percent:g}": v for percent, v in zip(PERCENTS, values, strict=True)}
