"""Repeatability: equal momenta of two runs; differences between numbers of threads."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import greedy
from benchmarks.data import pairs
from benchmarks.registration import register
from nipype_quicksilver.spatial.momentum import read_momentum
from nipype_quicksilver.spatial.transforms import read_displacement


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register the real pair twice with the same number of threads and once with one thread."""
    pair = pairs(work)[-1]
    folder = work / pair.name
    folder.mkdir(exist_ok=True)
    affine = greedy.align(pair, folder)[1]
    outputs = [folder / f"repeat-{name}" for name in ("first", "second", "one-thread")]
    for output, count in zip(outputs, (threads, threads, 1), strict=True):
        register(pair, affine, output, count)
    first, second, single = (read_momentum(o / "momentum.nii.gz").data for o in outputs)
    fields = [read_displacement(o / "displacement.nii.gz")[0] for o in outputs]
    figures = {
        "same_threads_equal_bytes": bool(np.array_equal(first, second)),
        "threads_momentum_relative": float(np.linalg.norm(single - first) / np.linalg.norm(first)),
        "threads_displacement_mean_mm": float(
            np.linalg.norm(fields[2] - fields[0], axis=-1).mean()
        ),
        "threads_displacement_max_mm": float(np.linalg.norm(fields[2] - fields[0], axis=-1).max()),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    return figures
