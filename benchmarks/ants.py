"""ANTs by the package antspyx: its affine, its SyN, and SyN with the defaults of the package.

``python -m benchmarks.ants affine FIXED MOVING OUTPUT`` writes an ITK affine, and ``python -m
benchmarks.ants SyN-MI FIXED MOVING AFFINE OUTPUT`` a displacement field.
"""

import shutil
import sys
from pathlib import Path

from benchmarks.data import Pair
from benchmarks.measuring import Cost, run
from nipype_quicksilver.evaluation.peers import SYN_WARP, syn_arguments
from nipype_quicksilver.tools import PEERS

PROGRAM = (sys.executable, "-m", "benchmarks.ants")


def align(fixed: Path, moving: Path, output: Path, threads: int) -> Cost:
    """Align two brains with ANTs' defaults; the ITK affine is written to `output`."""
    return run([*PROGRAM, "affine", fixed, moving, output], threads)


def register(pair: Pair, affine: Path, output: Path, threads: int, method: str) -> Cost:
    """Register a pair from its affine; the displacement field is written to `output`.

    ``SyN-CC`` is SyN with cross-correlation, as antsRegistrationSyN.sh has it; ``SyN-MI`` is SyN as
    `ants.registration` has it by default, with mutual information and iterations 40x20x0.
    """
    if method == "SyN-MI":
        return run([*PROGRAM, method, pair.fixed, pair.moving, affine, output], threads)
    command = PEERS["SyN"].command() or ("antsRegistration",)
    arguments = syn_arguments(str(pair.fixed), str(pair.moving), str(affine))
    cost = run([*command, *arguments], threads, folder=output.parent)
    shutil.move(output.parent / SYN_WARP, output)
    return cost


def _main(method: str, fixed: str, moving: str, *files: str) -> None:
    import ants

    images = (ants.image_read(fixed), ants.image_read(moving))
    if method == "affine":
        result = ants.registration(*images, "Affine", random_seed=1)
        shutil.copy(result["fwdtransforms"][0], files[0])
        return
    affine, output = files
    result = ants.registration(*images, "SyNOnly", initial_transform=affine, random_seed=1)
    shutil.copy(next(f for f in result["fwdtransforms"] if f.endswith(".nii.gz")), output)


if __name__ == "__main__":
    _main(*sys.argv[1:])
