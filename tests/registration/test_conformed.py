"""Images on the working grid, from files to the momentum between them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import nipype_quicksilver
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.lddmm.settings import Settings
from nipype_quicksilver.registration.conformed import optimize_files
from nipype_quicksilver.registration.pair import ScanFiles
from nipype_quicksilver.registration.shooting import shoot_file
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import read_momentum, write_momentum
from tests.helpers.registrations import QUICK, SETTINGS

CPU = torch.device("cpu")
ONCE = "x".join("1" * len(Settings().stages))  # as an option, for the default schedule


def files_of(conformed, *, masks=True):
    """Return the files of the conformed pair."""
    return [
        ScanFiles(conformed[side], conformed[f"{side}_mask"] if masks else None)
        for side in ("fixed", "moving")
    ]


def test_optimizing_and_shooting_equals_registering(conformed_pair, result, tmp_path):
    pair = files_of(conformed_pair)
    options = {"device": CPU, "seed": 0, "settings": SETTINGS}
    optimized = optimize_files(*pair, initial_momentum=None, **options)
    before, after = (run.summary.similarity.after for run in (optimized, result))
    assert before == pytest.approx(after, rel=1e-3)
    path = write_momentum(tmp_path / "momentum.nii.gz", optimized.momentum)
    shoot_file(path, tmp_path / "shot", CPU)
    ours = transforms.read_transform(tmp_path / "shot" / "displacement.nii.gz")
    field = transforms.displacement_on_grid(ours, result.momentum.working_grid)
    composite = transforms.displacement_on_grid(result.composite, result.momentum.working_grid)
    np.testing.assert_allclose(field + np.array([3, 0, 0]), composite, atol=0.02)

    refined = optimize_files(*pair, initial_momentum=path, **options)
    assert [stage.stage for stage in refined.summary.stages] == [2]
    assert refined.summary.inputs["initial_momentum"] == str(path)
    losses = [run.summary.stages[-1].loss[-1] for run in (refined, optimized)]
    assert losses[0] < losses[1] * 1.05


def test_optimize_command_writes_momentum_and_summary(conformed_pair, tmp_path):
    options = [f"--{name.replace('_', '-')}={path}" for name, path in conformed_pair.items()]
    outputs = ["--output", tmp_path / "m.nii.gz", "--output-json", tmp_path / "m.json"]
    options += ["--iterations", ONCE, "--device", "cpu", "--quiet", *map(str, outputs)]
    assert main(["optimize", *options]) == 0
    momentum = read_momentum(tmp_path / "m.nii.gz")
    assert momentum.working_grid.equals(Grid.from_file(conformed_pair["fixed"]))
    summary = json.loads((tmp_path / "m.json").read_text())
    assert summary["masks"]["moving_mask"]["used"]
    other = [*options, "--initial-momentum", str(tmp_path / "m.nii.gz")]
    assert main(["optimize", *other]) == 2  # the output would replace the input
    other[other.index("--output") + 1] = str(tmp_path / "other.nii.gz")
    assert main(["optimize", *other]) == 0


def test_a_momentum_of_another_grid_is_refused(conformed_pair, result, tmp_path):
    pair = files_of(conformed_pair, masks=False)
    shift = np.eye(4)
    shift[0, 3] = 1
    moved = {
        name: Grid(grid.shape, shift @ grid.affine)
        for name in ("grid", "working_grid")
        for grid in [getattr(result.momentum, name)]
    }
    path = write_momentum(tmp_path / "momentum.nii.gz", replace(result.momentum, **moved))
    options = {"device": CPU, "seed": 0}
    with pytest.raises(nipype_quicksilver.InputError, match="not on the images' working grid"):
        optimize_files(*pair, initial_momentum=path, settings=QUICK, **options)
