"""`quicksilver optimize`: what it refuses."""

import numpy as np

from tests.helpers.balls import ALONE, ball, listed, write


def test_optimize_refuses_images_that_are_not_conformed(good, tmp_path, refused):
    for option in ("--output-dir", *ALONE):
        good.pop(option)
    good["--output"] = tmp_path / "momentum.nii.gz"
    refused("optimize", *listed(good), message="normalise its intensities first")
    for name in ("fixed", "moving"):
        write(tmp_path / f"{name}.nii.gz", ball() / 100)
    refused("optimize", *listed(good), message="is not a multiple of 8")
    for name in ("fixed", "moving"):
        write(tmp_path / f"{name}.nii.gz", ball() / 100, np.diag([-2.0, 2, 2, 1]))
    refused("optimize", *listed(good), message="is not isotropic and RAS")
    write(tmp_path / "fixed.nii.gz", ball() / 100)
    refused("optimize", *listed(good), message="not on the grid of")
