"""The affine of ANTs by the package antspyx: ``python -m benchmarks.ants FIXED MOVING OUTPUT``."""

import shutil
import sys
from pathlib import Path

from benchmarks.measuring import Cost, run


def align(fixed: Path, moving: Path, output: Path, threads: int) -> Cost:
    """Align two brains with ANTs' defaults; the ITK affine is written to `output`."""
    return run([sys.executable, "-m", "benchmarks.ants", fixed, moving, output], threads)


if __name__ == "__main__":
    import ants

    images = [ants.image_read(file) for file in sys.argv[1:3]]
    result = ants.registration(*images, "Affine", random_seed=1)
    shutil.copy(result["fwdtransforms"][0], sys.argv[3])
