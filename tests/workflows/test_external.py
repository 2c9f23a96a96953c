"""Programs of other packages behind `register`: found, run, and told of where they fail."""

import json
import sys

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy import ndimage

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image
from tests.preprocessing.conftest import brain

# `bet` that takes all but the scalp, which is dark enough here, and `greedy` that moves by 4 mm.
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
GREEDY = """#!/bin/sh
for last; do :; done
printf '1 0 0 4\\n0 1 0 0\\n0 0 1 0\\n0 0 0 1\\n' > "$last"
"""
FAILING = """#!/bin/sh
echo reading
echo 'no licence was found' >&2
exit 3
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that installs a program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FSLOUTPUTTYPE", "NIFTI_GZ")

    def install(name, text):
        (folder / name).write_text(text.replace("{python}", sys.executable))
        (folder / name).chmod(0o755)

    return install


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
        file = write_image(tmp_path / f"{side}.nii.gz", data.astype(np.float32), grid.affine)
        command += [f"--{side}", str(file)]
    return command


def test_programs_find_brains_and_affine(heads, program, tmp_path):
    program("bet", BET)
    program("greedy", GREEDY)
    assert main([*heads, "--brain-extraction", "bet", "--affine", "greedy"]) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["preprocessing"]
    assert found["fixed_brain"]["how"] == found["moving_brain"]["how"] == "bet"
    assert found["affine"]["how"] == "greedy"
    assert found["affine"]["scales"] == [1, 1, 1]


def test_program_that_is_not_installed(heads, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*heads, "--affine", "flirt"]) == 2
    assert "flirt is not on the PATH; install FSL, or choose simpleitk" in capsys.readouterr().err
    assert main([*heads, "--brain-extraction", "synthstrip"]) == 2
    assert "install FreeSurfer" in capsys.readouterr().err


@pytest.mark.parametrize("work", [True, False])
def test_program_that_fails(work, heads, program, tmp_path, capsys):
    program("bet", FAILING)
    options = ["--work-dir", str(tmp_path / "work")] if work else []
    assert main([*heads, *options, "--brain-extraction", "bet"]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "bet failed: reading / no licence was found (the whole log is " in told
    log = told.split("the whole log is ")[1].rstrip(")")
    assert (str(tmp_path / "work") in log) == work
    with open(log) as file:
        whole = file.read()
    assert "no licence was found" in whole and "Cmdline" in whole
    assert not (tmp_path / "out").exists()
