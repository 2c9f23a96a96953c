"""Measures: the cost of whole commands, the similarity of images, the overlap of labels."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from benchmarks.data import STRUCTURES
from nipype_quicksilver.spatial.images import read_image, read_labels
from nipype_quicksilver.spatial.measures import label_overlap


@dataclass(frozen=True)
class Cost:
    """Cost of one run of a command: CPU and wall-clock seconds, peak memory in GB."""

    cpu: float
    wall: float
    memory: float


def run(command: Sequence[str | os.PathLike], threads: int = 2, folder: Path | None = None) -> Cost:
    """Run a command, in a folder, and return its cost as the operating system accounts for it."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
    }
    start = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in command], env=environment, stdout=subprocess.DEVNULL, cwd=folder
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"benchmarks: failed with {process.returncode}: {' '.join(map(str, command))}")
    return Cost(
        cpu=usage.ru_utime + usage.ru_stime,
        wall=time.monotonic() - start,
        memory=usage.ru_maxrss / 2**20,
    )


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Return the medians of several runs."""
    return Cost(*(float(np.median([getattr(c, n) for c in costs])) for n in Cost.__annotations__))


def mean_dice(fixed: Path, warped: Path, structures: Sequence[int] = STRUCTURES) -> float:
    """Return the mean Dice coefficient over the structures of two label files on one grid."""
    overlap = label_overlap(read_labels(fixed), read_labels(warped), structures)
    assert overlap.mean.dice is not None
    return overlap.mean.dice


def local_correlation(fixed: Path, warped: Path) -> float:
    """Return the mean squared correlation in windows of 5^3 voxels, over the fixed brain."""
    first, second = (
        np.asanyarray(read_image(path).dataobj).astype(np.float64) for path in (fixed, warped)
    )
    brain = first > 0
    first, second = (image / np.percentile(image[image > 0], 99.5) for image in (first, second))

    def mean(image: np.ndarray) -> np.ndarray:
        return uniform_filter(image, 5, mode="constant")

    centre, other = mean(first), mean(second)
    covariance = mean(first * second) - centre * other
    variances = (mean(first**2) - centre**2 + 1e-6) * (mean(second**2) - other**2 + 1e-6)
    return float((covariance**2 / variances)[brain].mean())
