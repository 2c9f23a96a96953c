import json

import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.transforms import write_displacement


@pytest.fixture
def labels(grid, save):
    """Two label maps: label 1 is shifted by one voxel of two, label 7 is in the first only."""
    fixed = np.zeros(grid.shape, np.uint8)
    fixed[2:4, 2:6, 2:6] = 1
    fixed[8:10, 8:10, 8:10] = 7
    warped = np.zeros(grid.shape, np.uint8)
    warped[3:5, 2:6, 2:6] = 1
    return save("fixed.nii.gz", fixed, grid), save("warped.nii.gz", warped, grid)


def test_label_overlap(labels, tmp_path, capsys):
    fixed, warped = labels
    output = tmp_path / "numbers.json"
    arguments = ["evaluate", "--fixed-labels", str(fixed), "--warped-labels", str(warped)]
    assert main([*arguments, "--output-json", str(output)]) == 0
    overlap = json.loads(output.read_text())["label_overlap"]
    assert overlap["labels"]["1"] == pytest.approx(
        {
            "dice": 0.5,
            "jaccard": 1 / 3,
            "target_overlap": 0.5,
            "target_mm3": 32 * 3.0,
            "source_mm3": 32 * 3.0,
        }
    )
    assert overlap["labels"]["7"]["dice"] == 0
    assert overlap["mean"]["dice"] == pytest.approx(0.25)
    table = capsys.readouterr().out
    assert "0.5000" in table
    assert "mean" in table


def test_quiet_prints_nothing_when_there_is_a_file(labels, tmp_path, capsys):
    fixed, warped = labels
    arguments = ["evaluate", "--quiet", "--fixed-labels", fixed, "--warped-labels", warped]
    assert main([*map(str, arguments), "--output-json", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*map(str, arguments)]) == 0
    assert "0.5000" in capsys.readouterr().out


def test_jacobian_inside_a_mask(grid, save, tmp_path, capsys):
    """Twice as long along x everywhere, and one fold, which the mask leaves out."""
    field = np.zeros((*grid.shape, 3), np.float32)
    field[..., 0] = grid.coordinates()[..., 0]
    field[8, 8, 8, 0] -= 30.0
    warp = write_displacement(tmp_path / "warp.nii.gz", field, grid)
    inside = np.zeros(grid.shape, np.uint8)
    inside[1:5, 1:5, 1:5] = 1
    mask = save("mask.nii.gz", inside, grid)
    output = tmp_path / "numbers.json"
    arguments = ["evaluate", "--displacement", str(warp), "--output-json", str(output)]

    assert main(arguments) == 0
    everywhere = json.loads(output.read_text())["jacobian"]
    assert everywhere["voxels"] == np.prod(grid.shape)
    assert everywhere["folded"] > 0
    assert f"{everywhere['folded']} (" in capsys.readouterr().out

    assert main([*arguments, "--mask", str(mask)]) == 0
    masked = json.loads(output.read_text())["jacobian"]
    assert (masked["voxels"], masked["folded"]) == (64, 0)
    assert masked["minimum"] == pytest.approx(2, rel=1e-4)
    assert masked["log_jacobian"]["mean"] == pytest.approx(np.log(2), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate"),
        (["--fixed-labels", "a.nii"], "give both"),
        (["--mask", "a.nii", "--fixed-labels", "a.nii", "--warped-labels", "b.nii"], "--mask"),
        (["--displacement", "none.nii.gz"], "none.nii.gz"),
    ],
)
def test_wrong_usage(arguments, message, refused):
    refused("evaluate", *arguments, message=message)


def test_unusable_files(labels, grid, save, tmp_path, refused):
    fixed, warped = labels
    other = Grid((12, 14, 15), grid.affine)
    smaller = save("smaller.nii.gz", np.ones(other.shape, np.uint8), other)
    halves = save("halves.nii.gz", np.full(grid.shape, 0.5, np.float32), grid)
    both = ("evaluate", "--fixed-labels", fixed, "--warped-labels")
    refused(*both, smaller, message="not on the grid of")
    refused(*both, halves, message="halves.nii.gz")
    refused(*both, tmp_path / "none.nii.gz", message="none.nii.gz")
    refused(*both, warped, "--output-json", tmp_path / "no" / "a.json", message="create it first")
    refused(*both, warped, "--output-json", tmp_path / "a.txt", message="must end in .json")
    refused("evaluate", "--displacement", fixed, message="is not an ITK displacement field")
    warp = write_displacement(tmp_path / "w.nii.gz", np.zeros((*grid.shape, 3)), grid)
    masked = ("evaluate", "--displacement", warp, "--mask")
    refused(*masked, smaller, message="smaller.nii.gz: not on the grid of")
    empty = save("empty.nii.gz", np.zeros(grid.shape, np.uint8), grid)
    refused(*masked, empty, message="empty.nii.gz: the mask is empty")
