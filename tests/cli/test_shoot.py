"""`quicksilver shoot`: what it refuses."""

import numpy as np

from nipype_quicksilver.lddmm.settings import Settings
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import Momentum, write_momentum
from tests.helpers.balls import listed, write
from tests.helpers.registrations import options_of, register


def test_a_momentum_that_blows_up_is_refused(tmp_path, refused):
    grid = Grid((32, 32, 32), np.diag([2.0, 2, 2, 1]))
    pair = {}
    for name, shift in (("fixed", 0), ("moving", 1)):
        index = np.indices(grid.shape) - np.array([16 + shift, 16, 16])[:, None, None, None]
        data = np.clip(1.5 - np.linalg.norm(index, axis=0) / 12, 0, 1).astype(np.float32)
        pair[f"--{name}"] = write(tmp_path / f"{name}.nii.gz", data, grid.affine)
    coarse = grid.subsampled(2)
    noise = 1e4 * np.random.default_rng(0).standard_normal((*coarse.shape, 3))
    momentum = Momentum(noise.astype(np.float32), coarse, Settings().kernel.as_dict(), 3, grid)
    path = write_momentum(tmp_path / "wild.nii.gz", momentum)
    message = f"{path}: its geodesic diverges"
    refused("shoot", "--momentum", path, "--output-dir", tmp_path / "out", message=message)
    start = ("--initial-momentum", path, "--output", tmp_path / "m.nii.gz")
    refused("optimize", *listed(pair), *start, message=message)


def test_shoot_refuses_an_image_that_is_not_a_momentum(good, tmp_path, refused):
    options = {"--momentum": good["--fixed"], "--output-dir": tmp_path / "out"}
    refused("shoot", *listed(options), message="is not a momentum")


def test_shoot_does_not_replace_a_registration(pair, tmp_path, refused):
    folder = tmp_path / "registration"
    result = register(pair.fixed, pair.moving, **options_of(pair))
    files = result.save(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    options = {"--momentum": files["momentum"], "--output-dir": folder}
    refused("shoot", *listed(options), message=f"{folder}: holds composite.h5, of another command")
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
