"""`quicksilver affine`: what it writes and what it refuses."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.interfaces import AffineRegistration
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.spatial.transforms import read_affine, write_affine
from nipype_quicksilver.tools import ExternalTool
from tests.preprocessing.conftest import brain

SHIFT = np.array([12.0, -8.0, 5.0])


@pytest.fixture
def files(tmp_path):
    """A brain, and the same further on, in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    grid = Grid((38, 44, 32), from_matvec(np.eye(3) * 5, [-93, -105, -78]))
    paths = {}
    for name, shift in (("fixed", 0), ("moving", SHIFT)):
        data = brain(grid.coordinates() - shift)
        paths[f"--{name}"] = write_image(folder / f"{name}.nii.gz", data, grid.affine)
    return {**paths, "--output": folder / "affine.mat"}


def listed(options):
    return [str(item) for pair in options.items() for item in pair]


def test_all_files_are_written(files, capsys):
    folder = files["--output"].parent
    more = {
        "--output-inverse": folder / "inverse.txt",
        "--output-image": folder / "aligned.nii.gz",
        "--output-json": folder / "affine.json",
        "--dof": 6,
        "--num-threads": 1,
    }
    assert main(["affine", *listed({**files, **more})]) == 0
    assert "mutual information" in capsys.readouterr().err
    matrix, inverse = read_affine(files["--output"]), read_affine(folder / "inverse.txt")
    np.testing.assert_allclose(matrix[:3, 3], SHIFT, atol=0.5)
    np.testing.assert_allclose(matrix @ inverse, np.eye(4), atol=1e-6)
    summary = json.loads((folder / "affine.json").read_text())
    np.testing.assert_allclose(summary["matrix"], matrix, atol=1e-6)
    assert summary["inputs"]["moving"] == str(files["--moving"])
    fixed, aligned = (nib.load(p) for p in (files["--fixed"], folder / "aligned.nii.gz"))
    np.testing.assert_array_equal(fixed.affine, aligned.affine)
    assert np.corrcoef(fixed.get_fdata().ravel(), aligned.get_fdata().ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--fixed": "missing.nii.gz"}, "missing.nii.gz: no such file"),
        ({"--moving-mask": "missing.nii.gz"}, "missing.nii.gz: no such file"),
        ({"--output": "affine.nii"}, "must end in .mat or .txt"),
        ({"--output-image": "image.mgz"}, "must end in .nii"),
        ({"--dof": 8}, "--dof"),
        ({"--initial": "missing.mat"}, "missing.mat: no such file"),
    ],
)
def test_wrong_usage_is_refused(changes, message, files, refused):
    refused("affine", *listed({**files, **changes}), message=message)


def test_external_tools_have_fewer_options(files, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(ExternalTool, "command", lambda _: None)
    message = "'greedy': greedy is not on the PATH, and the package picsl_greedy is not installed"
    refused("affine", *listed(files), "--affine", "greedy", message=message)
    monkeypatch.setattr(ExternalTool, "command", lambda _: ("true",))
    message = "'greedy' does not estimate 9 degrees of freedom; give 6, 7, 12"
    refused("affine", *listed(files), "--affine", "greedy", "--dof", 9, message=message)
    start = write_affine(tmp_path / "start.mat", np.eye(4))
    message = f"{start}: 'flirt' does not use an initial affine; leave it out"
    refused("affine", *listed(files), "--affine", "flirt", "--initial", start, message=message)


def test_a_start_that_mirrors_is_refused(files, refused, tmp_path):
    mirror = write_affine(tmp_path / "mirror.mat", np.diag([-1.0, 1, 1, 1]))
    arguments = listed({**files, "--initial": mirror})
    refused("affine", *arguments, message=f"{mirror}: contains a reflection")


def test_node(files, tmp_path):
    node = AffineRegistration(dof=6)
    node.inputs.fixed_image, node.inputs.moving_image = files["--fixed"], files["--moving"]
    outputs = node.run(cwd=tmp_path).outputs
    np.testing.assert_allclose(read_affine(outputs.affine_transform)[:3, 3], SHIFT, atol=0.5)
    both = read_affine(outputs.affine_transform) @ read_affine(outputs.inverse_affine_transform)
    np.testing.assert_allclose(both, np.eye(4), atol=1e-6)
    assert json.loads(Path(outputs.summary).read_text())["dof"] == 6
    assert nib.load(outputs.warped_image).shape == nib.load(files["--fixed"]).shape
