"""Cohorts through the command: complete, failed, killed, resumed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.cli.progress import describe_cohort
from nipype_quicksilver.cohort.progress import Status
from nipype_quicksilver.cohort.validation import find_validator, validate
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.images import read_image, read_labels
from tests.helpers.cohorts import FAST, break_image, derivative_images, write_data_set, write_fixed


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of a data set of three participants and of a fixed image."""
    folder = tmp_path_factory.mktemp("cohort")
    write_data_set(folder / "bids", 3)
    write_fixed(folder)
    return folder


def arguments(cohort, out, *more):
    """Return a command line that registers the cohort with labels."""
    fixed = ["--fixed", cohort / "tpl-Tiny_T1w.nii.gz"]
    fixed += ["--fixed-labels", cohort / "tpl-Tiny_dseg.nii.gz"]
    fixed += ["--labels", cohort / "bids" / "derivatives" / "labels", "--n-procs", 2]
    words = ["cohort", cohort / "bids", out, "participant", *fixed, *FAST, *more]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def done(cohort):
    """Exit code and derivatives of a run in which the image of one participant is broken."""
    path, whole = break_image(cohort / "bids", "sub-02")
    out = cohort / "done"
    code = main(arguments(cohort, out))
    path.write_bytes(whole)
    return code, out


def test_one_failure_does_not_stop_the_others(done):
    code, out = done
    assert code == 1
    records = {path.parts[-3] for path in out.glob("sub-*/anat/*_registration.json")}
    assert records == {"sub-01", "sub-03"}
    assert {path.name for path in out.glob("*.html")} == {
        "sub-01_to-Tiny.html",
        "sub-03_to-Tiny.html",
    }
    (crash,) = (out / "logs").glob("crash-*.txt")
    assert "truncated or damaged" in crash.read_text()
    assert not list((out / "work" / "cohort_wf").glob("sub-01*"))  # removed when it was done


def test_the_content_of_derivatives(cohort, done):
    anat = done[1] / "sub-01" / "anat"
    stem = "sub-01_from-T1w_to-Tiny_mode-image_"
    record = json.loads((anat / f"{stem}registration.json").read_text())
    assert record["energy"]["initial"] > 0
    dice = {when: record["labels"][when]["mean"]["dice"] for when in ("before", "after")}
    assert dice["after"] > dice["before"] + 0.01
    forward, inverse = (
        transforms.read_transform(anat / f"sub-01_from-{names}_mode-image_xfm.h5")
        for names in ("T1w_to-Tiny", "Tiny_to-T1w")
    )
    points = np.array([[12.0, 15.0, 18.0], [20.0, 14.0, 16.0]])
    mapped = transforms.map_points(forward, points)
    assert np.abs(mapped - points).max() > 0.1
    np.testing.assert_allclose(transforms.map_points(inverse, mapped), points, atol=0.2)
    fixed = read_image(cohort / "tpl-Tiny_T1w.nii.gz")
    assert read_image(anat / "sub-01_space-Tiny_desc-preproc_T1w.nii.gz").shape == fixed.shape
    labels = read_labels(anat / "sub-01_space-Tiny_dseg.nii.gz")
    assert set(np.unique(labels.dataobj)) >= {0, 2, 3, 41, 42}
    jacobian = read_image(anat / "sub-01_space-Tiny_desc-jacobian_map.nii.gz")
    assert np.abs(np.asanyarray(jacobian.dataobj)).max() > 0.01


@pytest.mark.skipif(find_validator() is None, reason="bids-validator-deno is not installed")
def test_the_bids_validator_finds_no_errors(cohort, done):
    assert validate(cohort / "bids") == []
    assert validate(done[1]) == []
    misnamed = shutil.copytree(done[1], cohort / "misnamed") / "sub-01" / "anat" / "sub-1.nii.gz"
    misnamed.touch()
    assert any("sub-1.nii.gz" in error for error in validate(cohort / "misnamed"))


def test_a_second_run_does_what_is_missing(cohort, done, capsys, tmp_path):
    out = shutil.copytree(done[1], tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.glob("sub-*/anat/*")}
    assert main(arguments(cohort, out, "--plugin", "Linear")) == 0
    log = capsys.readouterr().err
    assert "1 to register, 2 done already" in log
    assert "3 of 3 done" in log
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(derivative_images(out)) == 9
    assert main(arguments(cohort, out, "--plugin", "Linear")) == 0
    assert "0 to register, 3 done already" in capsys.readouterr().err
    assert main(["cohort", str(cohort / "bids"), str(out), "group", "--quiet"]) == 0
    with open(out / "group_registration.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02", "sub-03"]
    assert "sub-02_to-Tiny.html" in (out / "group_registration.html").read_text()
    assert all(float(row["dice_after"]) > float(row["dice_before"]) for row in rows)
    if find_validator() is not None:
        assert validate(out) == []


def test_a_killed_run_is_resumed(cohort, done, tmp_path):
    out, images = tmp_path / "out", derivative_images(done[1])
    words = arguments(cohort, out, "--participant-label", "01", "03", "--n-procs", "1")
    command = [sys.executable, "-m", "nipype_quicksilver", *words]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    record = out / "sub-01" / "anat" / "sub-01_from-T1w_to-Tiny_mode-image_registration.json"
    while not record.exists() and run.poll() is None:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert len(list(out.glob("sub-*/anat/*_registration.json"))) == 1
    before = {path: path.stat().st_mtime_ns for path in record.parent.iterdir()}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "1 to register, 1 done already" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert derivative_images(out) == images


def test_two_runs_cannot_use_the_same_folder(cohort, tmp_path, refused):
    from nipype_quicksilver.execution.locks import locked

    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir(mode=0o700)
    words = arguments(cohort, out, "--work-dir", work)
    for folder in (out, work):
        with ThreadPoolExecutor(1) as other, locked(folder):
            # A thread may lock again what it has locked.
            other.submit(refused, *words, message=f"{folder}: process {os.getpid()}").result()


def test_pairwise_from_a_table(cohort, tmp_path, capsys):
    table = tmp_path / "images.tsv"
    rows = [
        f"{name}\t{cohort / 'bids' / name / 'anat'}/{name}_T1w.nii.gz\n"
        for name in ("sub-01", "sub-03")
    ]
    # The moving image has no labels: there is nothing to compare with those of the fixed image.
    labels = cohort / "bids" / "derivatives" / "labels" / "sub-01" / "anat" / "sub-01_dseg.nii.gz"
    rows = [
        row.replace("\n", f"\t{file}\n") for row, file in zip(rows, (labels, "n/a"), strict=True)
    ]
    table.write_text("participant_id\timage\tlabels\n" + "".join(rows))
    out = tmp_path / "out"
    words = ["cohort", table, out, "participant", "--fixed", "pairwise", "--plugin", "Linear"]
    assert main([*map(str, words), *FAST]) == 0
    names = {path.name for path in (out / "sub-03" / "anat").iterdir()}
    assert {
        "sub-03_from-T1w_to-sub01_mode-image_xfm.h5",
        "sub-03_from-sub01_to-T1w_mode-image_xfm.h5",
        "sub-03_space-sub01_desc-preproc_T1w.nii.gz",
    } <= names
    assert not (out / "sub-01").exists()
    if find_validator() is not None:
        assert validate(out) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fixed", "nothing.nii.gz"], "nothing.nii.gz: no such file"),
        (["--fixed-labels", "nothing.nii"], "nothing.nii: no such file; check the path of the fi"),
        (["--labels", "nothing"], "nothing: no such folder; check --labels"),
        (["--participant-label", "77"], "no T1w image of participant 77"),
        (["--suffix", "T2w"], "has no T2w images"),
        (["--method", "predict"], "does not use iterations"),
        (["--iterations", "1x2"], "the schedule has 4 stages"),
        (["--prediction-network", "x.safetensors"], "does not use prediction network"),
        (["--affine", "a.mat"], "invalid choice: 'a.mat'"),
        (["--affine", "flirt"], "flirt is not on the PATH"),
        (["--plugin-args", "nothing.json"], "nothing.json: no such file"),
        (["--mem-gb", "0.5"], "--mem-gb 0.5: register needs 4 GB"),
        (["--n-procs", "1", "--num-threads", "2"], "--n-procs 1: register uses 2 threads"),
        (["--n-gpus", "1"], "--n-gpus 1: this machine has 0"),
        (["--device", "cpu", "--n-gpus", "1"], "leave --n-gpus out"),
        (["--mem-gb", "much"], "'much' is not a number above 0"),
        (["--plugin", "Condor"], "invalid choice: 'Condor'"),
    ],
)
def test_what_cannot_be_run_is_refused(options, message, cohort, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["cohort", cohort / "bids", tmp_path / "out", "participant", *FAST]
    refused(*words, "--quiet", *options, message=message)


def test_fixed_labels_need_labels_to_compare(cohort, refused, tmp_path):
    words = ["cohort", cohort / "bids", tmp_path / "out", "participant", *FAST]
    words += ["--fixed", cohort / "tpl-Tiny_T1w.nii.gz"]
    words += ["--fixed-labels", cohort / "tpl-Tiny_dseg.nii.gz"]
    refused(*words, "--quiet", message="--fixed-labels: no image has labels to compare with")


def test_output_folders_that_cannot_be_used(cohort, refused, tmp_path):
    (tmp_path / "file").touch()
    refused(*arguments(cohort, tmp_path / "file"), message="is not a folder")
    refused(*arguments(cohort, cohort / "bids"), message="is the data set itself")
    refused("cohort", cohort / "bids", tmp_path, "group", message="run the participant level first")


def test_t2w_images_need_masks(tmp_path, refused):
    (tmp_path / "a_T2w.nii.gz").touch()
    table = tmp_path / "images.tsv"
    table.write_text("participant_id\timage\n01\ta_T2w.nii.gz\n")
    words = ["cohort", table, tmp_path / "out", "participant", "--suffix", "T2w"]
    refused(*words, message="deepbet extracts brains from T1w images only")


def test_progress_is_one_line():
    status = Status(total=8, done=3, failed=1, running=2, seconds_left=61.0)
    assert describe_cohort(status) == "3 of 8 done, 2 running, 1 failed, 1 min 01 s left"
    status = Status(total=8, done=0, failed=0, running=2, seconds_left=float("inf"))
    assert describe_cohort(status) == "0 of 8 done, 2 running"
