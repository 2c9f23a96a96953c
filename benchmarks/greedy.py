"""The external tool greedy (Yushkevich et al.) as a command."""

from pathlib import Path

import numpy as np

from benchmarks.data import Pair
from benchmarks.measuring import Cost, run
from nipype_quicksilver.evaluation.peers import GREEDY_METRIC
from nipype_quicksilver.spatial.transforms import write_affine
from nipype_quicksilver.tools import PEERS

GREEDY = (*(PEERS["greedy"].command() or ("greedy",)), "-d", "3")


def align(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """Align a pair affinely; return the files of greedy's matrix and of the ITK transform."""
    matrix, itk = folder / "affine.mat", folder / "affine.txt"
    if not itk.exists():
        align_files(pair.fixed, pair.moving, matrix)
        write_affine(itk, np.loadtxt(matrix))
    return matrix, itk


def align_files(fixed: Path, moving: Path, matrix: Path, threads: int = 2) -> Cost:
    """Align two brains affinely; greedy's matrix is written to `matrix`."""
    start = ("-a", "-dof", "12", "-ia-image-centers", "-m", "NCC", "4x4x4", "-n", "100x50x10")
    files = ("-i", fixed, moving, "-o", matrix)
    return run([*GREEDY, *start, *files, "-threads", str(threads)], threads)


def register(pair: Pair, matrix: Path, folder: Path, threads: int) -> Cost:
    """Register a pair from its affine matrix; the field is ``greedy_warp.nii.gz``."""
    images = ("-i", pair.fixed, pair.moving, "-it", matrix)
    output = ("-o", folder / "greedy_warp.nii.gz", "-threads", threads)
    return run([*GREEDY, *images, *GREEDY_METRIC, *map(str, output)], threads)


def apply(pair: Pair, matrix: Path, folder: Path) -> tuple[Path, Path | None]:
    """Warp the moving image, and its labels if there are any."""
    chain = ("-r", folder / "greedy_warp.nii.gz", matrix)
    image, labels = folder / "greedy_warped.nii.gz", folder / "greedy_labels.nii.gz"
    run([*GREEDY, "-rf", pair.fixed, "-ri", "LINEAR", "-rm", pair.moving, image, *chain])
    if pair.moving_labels is None:
        return image, None
    run([*GREEDY, "-rf", pair.fixed, "-ri", "NN", "-rm", pair.moving_labels, labels, *chain])
    return image, labels
