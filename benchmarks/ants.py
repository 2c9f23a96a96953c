"""The affine of the peer ANTs, by its package for Python."""

from pathlib import Path

from benchmarks.measuring import Cost, run
from nipype_quicksilver.evaluation.ants import ANTSPYX


def align(fixed: Path, moving: Path, output: Path, threads: int) -> Cost:
    """Align two brains as ``antsRegistration`` does by default; the ITK affine is ``output``."""
    return run([*ANTSPYX, "affine", fixed, moving, output], threads)
