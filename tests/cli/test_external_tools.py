"""Registration from the command line with external tools: stand-ins, missing and failing ones."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy import ndimage

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image
from tests.helpers.programs import FAILING
from tests.preprocessing.conftest import brain

# The command: `bet` that extracts everything except the scalp, and `greedy` that moves by 4 mm.
BET = """#!{python}
import sys
import nibabel as nib
import numpy as np
image = nib.load(sys.argv[1])
data = image.get_fdata()
inside = (data > 90) & (data < 900)
nib.save(nib.Nifti1Image(data * inside, image.affine), sys.argv[2])
mask = sys.argv[2].replace(".nii.gz", "_mask.nii.gz")
nib.save(nib.Nifti1Image(inside.astype(np.uint8), image.affine), mask)
"""
SHIFTING = """#!/bin/sh
printf '1 0 0 4\\n0 1 0 0\\n0 0 1 0\\n0 0 0 1\\n' > affine.mat
"""


@pytest.fixture
def heads(tmp_path):
    """Arguments of a registration of two coarse heads with a bright scalp."""
    grid = Grid((40, 44, 36), from_matvec(np.eye(3) * 5, [-98, -108, -88]))
    command = ["register", "--output-dir", str(tmp_path / "out"), "--method", "optimize"]
    command += ["--iterations", "1x0x0x0"]
    for side, shift in (("fixed", 0), ("moving", 4)):
        data = brain(grid.coordinates() - np.array([shift, 0, 0]))
        out = ndimage.distance_transform_edt(data == 0, sampling=5)
        data = np.where((out > 10) & (out <= 20), 900, np.where((out > 0) & (out <= 10), 30, data))
        file = write_image(tmp_path / f"{side} head.nii.gz", data.astype(np.float32), grid.affine)
        command += [f"--{side}", str(file)]
    return command


def test_a_registration_with_external_tools(heads, install, tmp_path):
    install("bet", BET.format(python=sys.executable))
    install("greedy", SHIFTING)
    assert main([*heads, "--brain-extraction", "bet", "--affine", "greedy"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["preprocessing"]
    assert summary["fixed_brain"]["how"] == summary["moving_brain"]["how"] == "bet"
    assert summary["affine"]["how"] == "greedy"
    assert summary["affine"]["scales"] == [1, 1, 1]


def test_a_registration_without_the_tools(heads, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*heads, "--affine", "flirt"]) == 2
    assert "flirt is not on the PATH; install FSL, or choose simpleitk" in capsys.readouterr().err
    assert main([*heads, "--brain-extraction", "synthstrip"]) == 2
    assert "install FreeSurfer" in capsys.readouterr().err


@pytest.mark.parametrize("work", [True, False])
def test_a_registration_with_a_tool_that_fails(work, heads, install, tmp_path, capsys):
    install("bet", FAILING)
    options = ["--work-dir", str(tmp_path / "work")] if work else []
    assert main([*heads, *options, "--brain-extraction", "bet"]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "bet failed: step 2 / " in message
    log = message.split("the whole log is ")[1].rstrip(")")
    assert (str(tmp_path / "work") in log) == work
    assert "no licence was found" in Path(log).read_text()
    assert not (tmp_path / "out").exists()
