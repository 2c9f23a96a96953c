"""The peer ANTs (Avants et al.) in Python: ``python -m nipype_quicksilver.evaluation.ants``.

It is no dependency: Nipype runs `antsRegistration` where that is on the PATH, else this module is
run as a program, over the package `antspyx`:

- ``affine FIXED MOVING OUTPUT``: ANTs' affine with its own defaults;
- ``syn FIXED MOVING AFFINE OUTPUT``: the displacement field of SyN, from an affine.
"""

import shutil
import sys
from importlib.util import find_spec

#: Of SyN, as `antsRegistrationSyN.sh` has them: radius of the cross-correlation, gradient step,
#: smoothing of the update and of the whole field, iterations of each level.
RADIUS, STEP, FLOW_SIGMA, TOTAL_SIGMA = 4, 0.1, 3.0, 0.0
ITERATIONS, SHRINK_FACTORS, SMOOTHING = (100, 70, 50, 20), (8, 4, 2, 1), (3, 2, 1, 0)

ANTSPYX = (sys.executable, "-m", "nipype_quicksilver.evaluation.ants")


def has_program() -> bool:
    """Tell whether `antsRegistration` is on the PATH."""
    return shutil.which("antsRegistration") is not None


def has_package() -> bool:
    """Tell whether `antspyx` is installed."""
    return find_spec("ants") is not None


def _affine(fixed: str, moving: str, output: str) -> None:
    import ants

    images = (ants.image_read(fixed), ants.image_read(moving))
    shutil.copy(ants.registration(*images, "Affine", random_seed=1)["fwdtransforms"][0], output)


def _syn(fixed: str, moving: str, affine: str, output: str) -> None:
    import ants

    found = ants.registration(
        ants.image_read(fixed),
        ants.image_read(moving),
        "SyNOnly",
        initial_transform=affine,
        syn_metric="CC",
        syn_sampling=RADIUS,
        grad_step=STEP,
        flow_sigma=FLOW_SIGMA,
        total_sigma=TOTAL_SIGMA,
        reg_iterations=ITERATIONS,
        random_seed=1,
    )
    warp = next(name for name in found["fwdtransforms"] if name.endswith(".nii.gz"))
    shutil.copy(warp, output)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "affine":
        _affine(*arguments)
    else:
        _syn(*arguments)
