"""The scripts that users copy, run as they run them."""

import csv
import runpy
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

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
