"""The scripts that users copy, run as they run them."""

import csv
import runpy
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.demo import phantom
from nipype_quicksilver.preprocessing import templates
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti
from tests.conftest import brain

EXAMPLES = Path(__file__).parents[2] / "examples"
ITERATIONS = ["--iterations", "4", "2", "1", "1"]


def run(script, *arguments):
    """Run the main function of an example."""
    main = runpy.run_path(str(EXAMPLES / script))["main"]
    main([*map(str, arguments), *ITERATIONS])


@pytest.mark.parametrize("way", [[], ["--node"]])
def test_pairwise(way, pair, tmp_path, capsys):
    out = tmp_path / "registration"
    labels = ["--affine", pair.affine, "--moving-labels", pair.moving_labels]
    run("pairwise.py", pair.fixed, pair.moving, out, *labels, *way)
    assert capsys.readouterr().out.endswith(f"{out / 'labels_in_fixed.nii.gz'}\n")
    assert {"composite.h5", "warped.nii.gz", "summary.json"} <= {p.name for p in out.iterdir()}
    warped, fixed = nib.load(out / "labels_in_fixed.nii.gz"), nib.load(pair.fixed_labels)
    assert warped.shape == fixed.shape
    assert warped.get_data_dtype() == nib.load(pair.moving_labels).get_data_dtype()
    assert np.mean(np.asanyarray(warped.dataobj) == np.asanyarray(fixed.dataobj)) > 0.8


def test_workflow(pair, tmp_path):
    out, second = tmp_path / "volumes", tmp_path / "second.nii.gz"
    shutil.copy(pair.moving, second)
    images = ["--fixed", pair.fixed, "--fixed-labels", pair.fixed_labels]
    images += ["--moving", pair.moving, second]
    run("workflow.py", *images, "--output-dir", out, "--work-dir", tmp_path / "work")
    for name in ("moving", "second"):
        files = {path.name for path in (out / name).iterdir()}
        assert files == {"composite.h5", f"{name}_trans.nii.gz", "regions.csv"}
        with open(out / name / "regions.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["label"] for row in rows] == ["1", "2"]
        assert all(np.isfinite(float(row["mean_log_jacobian"])) for row in rows)


def test_workflow_is_drawn(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = ["--fixed", pair.fixed, "--fixed-labels", pair.fixed_labels, "--moving", pair.moving]
    try:
        run("workflow.py", *images, "--output-dir", "out", "--graph")
    except OSError:  # the picture needs Graphviz, the description does not
        if shutil.which("dot"):
            raise
    assert list(Path("work/volumes_wf").glob("*.dot"))
    assert not Path("out").exists()


def train(*arguments):
    """Run the training example, which has no stages of an optimisation."""
    runpy.run_path(str(EXAMPLES / "train.py"))["main"]([str(argument) for argument in arguments])


def test_train_on_label_maps(label_maps, recipe, tmp_path, capsys):
    out = tmp_path / "training"
    train(label_maps[0].parent, "--output-dir", out, "--recipe", recipe)
    curve = out / "run" / "curve.png"
    assert capsys.readouterr().out.endswith(f"prediction.safetensors\n{curve}\n")
    with open(out / "run" / "validation.csv", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert min(losses[1:]) < losses[0]  # the first is that of no deformation
    assert curve.read_bytes().startswith(b"\x89PNG")


def test_train_without_a_folder(tmp_path, capsys):
    out = tmp_path / "training"
    train("--output-dir", out, "--phantoms", 4, "--iterations", 1)
    maps = sorted((out / "phantoms").glob("*.nii.gz"))
    assert len(maps) == 4
    labels = [np.asanyarray(nib.load(path).dataobj) for path in maps]
    assert np.unique(labels[0]).tolist() == list(range(7))
    assert 0.6 < np.mean(labels[0][labels[0] > 0] == labels[1][labels[0] > 0]) < 0.99
    assert "validation Dice 0." in capsys.readouterr().out


@pytest.fixture
def small_template(monkeypatch):
    """A brain of a few centimetres, of which the examples make theirs instead of the MNI152."""
    grid = Grid((18, 22, 16), from_matvec(np.eye(3) * 2, [-17, -21, -15]))
    data, labels = brain(grid.coordinates())
    shares = (data / 1000, labels == 1, labels == 2)
    images = [nifti(share.astype(np.float32), grid.affine) for share in shares]
    monkeypatch.setattr(phantom, "load_template", lambda spacing: phantom.Template(*images))


def call(script, *arguments):
    """Run an example that has no stages of an optimisation."""
    runpy.run_path(str(EXAMPLES / script))["main"]([str(argument) for argument in arguments])


def test_template(small_template, pair, tmp_path, capsys):
    out = tmp_path / "normalized"
    call("template.py", "--output-dir", out, "--template", pair.fixed, "--phantoms", 2)
    assert len(list((out / "phantoms").iterdir())) == 2
    assert (out / "phantom-01_T1w" / "inverse_composite.h5").exists()
    mean, spread, fixed = (
        nib.load(path) for path in (out / "mean.nii.gz", out / "sd_log_jacobian.nii.gz", pair.fixed)
    )
    assert np.corrcoef(mean.get_fdata().ravel(), fixed.get_fdata().ravel())[0, 1] > 0.9
    inside = fixed.get_fdata() > 0
    assert 0.01 < spread.get_fdata()[inside].mean() < 1
    assert capsys.readouterr().out.count("after registration") == 2


def test_multiatlas(small_template, tmp_path, capsys):
    out = tmp_path / "labelled"
    call("multiatlas.py", "--output-dir", out, "--work-dir", tmp_path / "work", "--phantoms", 3)
    with open(out / "volumes.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["name"] for row in rows] == ["CSF", "gray matter", "white matter"]
    dice = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert min(dice) > 0.8


def test_replace_ants(small_template, pair, tmp_path, monkeypatch, capsys):
    pytest.importorskip("niworkflows")
    monkeypatch.setattr(templates, "template_file", lambda name, folder: pair.fixed)
    out = tmp_path / "normalized"
    call("replace_ants.py", "--output-dir", out, "--work-dir", tmp_path / "work")
    names = {path.name for path in (out / "MNI152").iterdir()}
    assert names == {"composite.h5", "inverse_composite.h5", "phantom_T1w_trans.nii.gz"}
    resampled, fixed = nib.load(out / "MNI152" / "phantom_T1w_trans.nii.gz"), nib.load(pair.fixed)
    assert np.corrcoef(resampled.get_fdata().ravel(), fixed.get_fdata().ravel())[0, 1] > 0.9
