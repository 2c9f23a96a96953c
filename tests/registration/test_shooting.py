"""A momentum from a file, shot to its maps."""

import json

import numpy as np

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.measures import transform_distance
from nipype_quicksilver.spatial.momentum import read_momentum
from tests.helpers.registrations import SETTINGS


def test_shooting_the_momentum_gives_the_same_map(saved, pair, brain_mask, tmp_path):
    arguments = ["--momentum", str(saved["momentum"]), "--output-dir", str(tmp_path / "shot")]
    assert main(["shoot", "--quiet", "--device", "cpu", *arguments]) == 0
    affine = transforms.read_transform(pair.affine)
    warp = transforms.read_transform(tmp_path / "shot" / "displacement.nii.gz")
    inverse = transforms.read_transform(tmp_path / "shot" / "inverse_displacement.nii.gz")
    chain = transforms.compose([affine, warp])
    composite = transforms.read_transform(saved["composite"])
    assert transform_distance(chain, composite, brain_mask).max < 1e-3
    round_trip = transforms.compose([inverse, warp])
    identity = transforms.affine_transform(np.eye(4))
    assert transform_distance(round_trip, identity, brain_mask).p99 < 0.2
    summary = json.loads((tmp_path / "shot" / "summary.json").read_text())
    assert summary["jacobian"]["folded"] == 0
    assert summary["energy"]["initial"] > 0
    assert len(summary["energy"]["path"]) == SETTINGS.steps + 1
    grid = Grid.from_file(tmp_path / "shot" / "log_jacobian.nii.gz")
    assert grid.equals(read_momentum(saved["momentum"]).working_grid)
