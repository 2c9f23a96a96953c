"""`quicksilver evaluate` with pairs of images."""

import csv
import json
import os
import signal

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.cli import common
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.interfaces.base import QuicksilverCommand
from nipype_quicksilver.workflows import evaluation
from tests.helpers import trees


@pytest.fixture
def networks(tiny_networks):
    return [
        f"--{role}-network={tiny_networks[f'{role}_network']}"
        for role in ("prediction", "correction")
    ]


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_data_set_and_again(tmp_path, networks, capsys):
    """One method on two pairs of Analyze images; then a second method, with the first one kept."""
    root, work, out = tmp_path / "CUMC12", tmp_path / "work", tmp_path / "out"
    trees.cumc12(root, numbers=(1, 2))
    run = ["evaluate", "--dataset", "CUMC12", str(root), "--max-pairs=2", "--device=cpu"]
    run += ["--affine=none", "--n-procs=1", *networks]
    run += [f"--output-dir={out}", f"--work-dir={work}"]
    assert main([*run, "--methods", "LP"]) == 0
    captured = capsys.readouterr()
    assert "copied to NIfTI" in captured.err
    assert "has 2 of the 12 subjects" in captured.err
    assert "2 of 2 registrations" in captured.err
    assert "CUMC12: 2 pairs" in captured.out
    rows = read_table(out / "measures.tsv")
    assert [row["method"] for row in rows] == ["affine"] * 2 + ["LP"] * 2
    assert all(0.3 < float(row["target_overlap"]) < 1 for row in rows)
    assert float(rows[2]["seconds"]) > 0 and float(rows[2]["cpu_seconds"]) > 0
    pairs = read_table(out / "pairs.tsv")
    assert pairs[0]["fixed"].endswith(".hdr")
    assert not (out / "errors.tsv").exists()
    assert {file.suffix for file in out.iterdir()} == {".tsv", ".json", ".png", ".svg"}

    before = {file: file.stat().st_mtime_ns for file in work.rglob("displacement.nii.gz")}
    assert len(before) == 2
    assert main([*run, "--methods", "LP", "LPC", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(read_table(out / "measures.tsv")) == 6


def test_a_table_whose_affine_is_given(pair, tmp_path, networks, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "RUNS", 1)
    table = tmp_path / "pairs.tsv"
    columns = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask")
    columns += ("affine",)
    cells = [str(getattr(pair, name)) for name in columns]
    table.write_text("\t".join(columns) + "\n" + "\t".join(cells) + "\n")
    out = tmp_path / "out"
    run = ["evaluate", f"--pairs={table}", "--methods", "LP", f"--output-dir={out}", networks[0]]
    run += ["--device=cpu", "--num-threads=1", "--n-procs=1", "--time-prediction"]
    assert main(run) == 0
    assert "labels: 1 pair" in capsys.readouterr().out
    start, predicted = read_table(out / "measures.tsv")
    assert float(start["target_overlap"]) != float(predicted["target_overlap"])
    assert [row["threads"] for row in read_table(out / "times.tsv")] == ["1"]
    summary = json.loads((out / "summary.json").read_text())
    assert [row["method"] for row in summary["methods"]] == ["affine", "LP"]


def test_the_step_that_fails_is_named(tmp_path, networks, capsys):
    """The header of an image is fine, its voxels are all the same."""
    root = trees.mgh10(tmp_path / "MGH10")
    nib.save(nib.Nifti1Image(np.ones(trees.SHAPE), trees.AFFINE), root / "Heads" / "g2.nii.gz")
    out, work = tmp_path / "out", tmp_path / "work"
    run = ["evaluate", "--dataset", "MGH10", str(root), "--max-pairs=1", "--device=cpu", "--quiet"]
    run += ["--num-threads=1", "--n-procs=1", "--methods", "LP", networks[0]]
    assert main([*run, f"--output-dir={out}", f"--work-dir={work}"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("quicksilver: error: 1 step failed; the first: step brains: ")
    assert "g2.nii.gz: the image is the same value in every voxel" in error
    assert error.endswith("correct it and run again with the same --work-dir")
    assert not out.exists()


def test_a_killed_worker_is_the_failure_of_its_step(tmp_path, networks, capsys, monkeypatch):
    def killed(node, runtime):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(QuicksilverCommand, "_run_interface", killed)
    root, out = trees.mgh10(tmp_path / "MGH10"), tmp_path / "out"
    run = ["evaluate", "--dataset", "MGH10", str(root), "--max-pairs=1", "--device=cpu", "--quiet"]
    run += ["--n-procs=1", "--methods", "LP", networks[0], f"--output-dir={out}"]
    assert main(run) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the first: step brains: its process was killed, probably because it ran out" in error
    assert not out.exists()


def test_a_work_folder_of_others_is_refused(tmp_path, networks, capsys):
    root, work = trees.mgh10(tmp_path / "MGH10"), tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    run = ["evaluate", "--dataset", "MGH10", root, "--max-pairs=1", "--methods", "LP", networks[0]]
    run += [f"--output-dir={tmp_path / 'out'}", f"--work-dir={work}"]
    assert main([*map(str, run), "--quiet"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"quicksilver: error: {work}: belongs to another user, or others may")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs=p.tsv"], "--output-dir is missing"),
        (["--pairs=p.tsv", "--dataset", "MGH10", "d", "--output-dir=o"], "give one of them"),
        (["--pairs=p.tsv", "--output-dir=o", "--max-pairs=2"], "--max-pairs needs a data set"),
        (["--pairs=p.tsv", "--output-dir=o"], "p.tsv: no such file"),
        (["--pairs=p.tsv", "--output-dir=o", "--mask=m.nii"], "--mask is for one registration"),
        (["--displacement=d.nii", "--methods", "LP"], "--methods is for a comparison"),
        (["--output-dir=o"], "--output-dir is for a comparison"),
        (["--time-prediction"], "--time-prediction is for a comparison"),
        (["--pairs=p.tsv", "--output-dir=o", "--methods", "VM"], "invalid choice: 'VM'"),
        (["--dataset", "OASIS", "d", "--output-dir=o"], "data set 'OASIS' is unknown"),
        (["--dataset", "MGH10", "none", "--output-dir=o"], "none: no such folder"),
        (
            ["--pairs=p.tsv", "--output-dir=o", "--num-threads=4", "--n-procs=2"],
            "--num-threads 4: a registration cannot use more threads",
        ),
        (["--pairs=p.tsv", "--output-dir=/dev/null/o"], "choose another output folder"),
    ],
)
def test_wrong_usage(arguments, message, refused):
    refused("evaluate", *arguments, message=message)


def test_one_gpu_of_several_is_refused(refused, monkeypatch):
    monkeypatch.setattr(common, "start_torch", lambda args: None)  # as if there were one
    arguments = ["--pairs=p.tsv", "--output-dir=o", "--device=cuda:1"]
    refused("evaluate", *arguments, message="--device cuda:1: an evaluation may use several GPUs")


def test_missing_files_are_reported_before_anything_runs(tmp_path, refused, pair):
    table = tmp_path / "pairs.tsv"
    columns = ("fixed", "moving", "fixed_labels", "moving_labels")
    cells = [str(getattr(pair, name)) for name in columns]
    table.write_text("\t".join(columns) + "\n" + "\t".join(cells) + "\n")
    run = ("evaluate", "--pairs", table, "--output-dir", tmp_path / "out", "--device=cpu")
    missing = tmp_path / "none.safetensors"
    refused(*run, "--prediction-network", missing, message="none.safetensors: no such file")
    missing.write_text("no network")
    refused(*run, "--prediction-network", missing, message="none.safetensors: ")
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "text.mat").write_text("no affine")
    bad = [*cells[:3], "text.nii"]
    table.write_text("\t".join(columns) + "\n" + "\t".join(bad) + "\n")
    refused(*run, message="text.nii: not an image that can be read")
    bad = [*cells, "text.mat"]
    table.write_text("\t".join((*columns, "affine")) + "\n" + "\t".join(bad) + "\n")
    refused(*run, message="text.mat: not an ITK transform")
