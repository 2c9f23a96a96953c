"""The affine of the peer ANTs: ``python -m benchmarks.ants FIXED MOVING OUTPUT``."""

import shutil
import sys
from pathlib import Path

from benchmarks.measuring import Cost, run

AFFINE = (sys.executable, "-m", "benchmarks.ants")


def align(fixed: Path, moving: Path, output: Path, threads: int) -> Cost:
    """Align two brains as ``antsRegistration`` does by default; the ITK affine is ``output``."""
    return run([*AFFINE, fixed, moving, output], threads)


if __name__ == "__main__":
    import ants

    target, source, result = sys.argv[1:]
    found = ants.registration(
        ants.image_read(target), ants.image_read(source), "Affine", random_seed=1
    )
    shutil.copy(found["fwdtransforms"][0], result)
