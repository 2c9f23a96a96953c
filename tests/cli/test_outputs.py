"""No command overwrites or removes what it reads, under whatever name, nor waits for a pipe."""

import argparse
import os
import threading
import time

import pytest

from nipype_quicksilver.cli import outputs
from nipype_quicksilver.cli.main import build_parser
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.locks import locked
from nipype_quicksilver.registration.results import FILES

_TRIES = {
    "apply, input": "apply --input {a} --transform t.mat --reference r.nii --output {a}",
    "apply, reference": "apply --input i.nii --transform t.mat --reference {a} --output {a}",
    "apply, transform": "apply --input i.nii --transform [{a},1] --reference r.nii --output {a}",
    "extract-brain, mask": "extract-brain --input i.nii --mask {a} --output-mask {a}",
    "extract-brain, input": "extract-brain --input {a} --output {a}",
    "affine": "affine --fixed MNI152 --moving m.nii --initial {a} --output {a}",
    "affine, inverse": "affine --fixed {a} --moving m.nii --output o.mat --output-inverse {a}",
    "affine, image": "affine --fixed f.nii --moving {a} --output o.mat --output-image {a}",
    "optimize": "optimize --fixed f.nii --moving m.nii --initial-momentum {a} --output {a}",
    "predict": "predict --fixed {a} --moving m.nii --output o.nii --output-uncertainty {a}",
    "predict, network": "predict --fixed f --moving m --prediction-network {a} --output {a}",
    "evaluate": "evaluate --fixed-labels {a} --warped-labels w.nii --output-json {a}",
    "checkpoint": "checkpoint import {a} {a}",
    "report": "report out --fixed {a} --output {a}",
    "report, group": "report out --group {a} --work-dir w --fixed {a}",
}
_FOLDERS = {
    **{f"register, {name}": ("register --fixed f --moving {a}", name) for name in FILES.values()},
    "register, lesion": ("register --fixed f --moving m --moving-lesion-mask {a}", "warped.nii.gz"),
    "register, network": (
        "register --fixed f --moving m --prediction-network {a}",
        "momentum.nii.gz",
    ),
    "register, affine": ("register --fixed f --moving m --affine {a}", "composite.h5"),
    "register, template": ("register --fixed f --moving m --template {a}", "log_jacobian.nii.gz"),
    "shoot": ("shoot --momentum {a}", "displacement.nii.gz"),
    "dataset": ("dataset --fixed f --moving m --momenta {a}", "pair-0001_momentum.nii.gz"),
    "train": ("train --labels l --start {a}", "prediction.safetensors"),
    "train, recipe": ("train --labels l --recipe {a}", "recipe.json"),
    "train, before": ("train --labels l --name n --before {a}", "n.safetensors"),
    "evaluate": ("evaluate --pairs {a}", "pairs.tsv"),
}


def _check(words):
    outputs.check_files(build_parser().parse_args(words.split()))


def _named(tmp_path, how, path):
    """Return another name of a file."""
    other = tmp_path / "elsewhere" / "other"
    other.parent.mkdir()
    if how == "same":
        return path
    {"symlink": os.symlink, "hard link": os.link}[how](path, other)
    return other


@pytest.mark.parametrize("how", ["same", "symlink", "hard link"])
@pytest.mark.parametrize("name", _TRIES)
def test_an_output_is_not_an_input(name, how, tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_text("precious")
    words = _TRIES[name]
    output = words.rindex("{a}") if not name.startswith("report, group") else words.index("{a}")
    other = _named(tmp_path, how, path)
    words = (words[:output] + str(path) + words[output + 3 :]).replace("{a}", str(other))
    with pytest.raises(InputError, match=f"^{path}: is an input of this run.*; choose another"):
        _check(words)


@pytest.mark.parametrize("how", ["same", "symlink", "hard link"])
@pytest.mark.parametrize("name", _FOLDERS)
def test_no_file_of_an_output_folder_is_an_input(name, how, tmp_path):
    words, file = _FOLDERS[name]
    path = tmp_path / "out" / file
    path.parent.mkdir()
    path.write_text("precious")
    given = words.replace("{a}", str(_named(tmp_path, how, path)))
    with pytest.raises(InputError, match=f"^{path}: is an input of this run"):
        _check(f"{given} --output-dir {path.parent}")
    elsewhere = words.replace("{a}", str(path))
    _check(f"{elsewhere} --output-dir {tmp_path / 'new'}")  # as it should be


def test_the_card_of_a_network_belongs_to_it(tmp_path):
    for name in ("net.safetensors", "net.json"):
        (tmp_path / name).touch()
    words = "extract-brain --input i.nii --output o.nii --output-json {0}/net.json"
    _check(words.format(tmp_path))
    with pytest.raises(InputError, match=r"net\.json: is an input"):
        _check(
            f"predict --fixed f --moving m --output o.nii --output-json {tmp_path}/net.json "
            f"--prediction-network {tmp_path}/net.safetensors"
        )
    with pytest.raises(InputError, match=r"net\.json: is an input"):
        _check(f"checkpoint import {tmp_path}/net.json {tmp_path}/net.safetensors")


def test_a_command_waits_for_a_run_into_the_same_folder(tmp_path, caplog):
    held, done = threading.Event(), []

    def other():
        with locked(tmp_path / "out"):
            held.set()
            time.sleep(1)
            done.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    args = argparse.Namespace(output_dir=tmp_path / "out")
    with caplog.at_level("WARNING", "nipype_quicksilver"), outputs.output_folder(args):
        done.append("this")
    thread.join()
    assert done == ["other", "this"]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / 'out'}: process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "apply --input {a} --transform t.mat --reference r.nii --output o.nii",
        "apply --input i.csv --transform [{a},1] --output o.csv",
        "register --fixed f --moving m --fixed-mask {a} --output-dir o",
        "cohort {a} o participant",
        "evaluate --pairs {a} --output-dir o",
        "train --labels l --recipe {a} --output-dir o",
        "checkpoint info {a}",
    ],
)
def test_a_named_pipe_is_not_waited_for(words, tmp_path, refused):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(*words.format(a=pipe).split(), message=f"{pipe}: is a named pipe, a socket or a device")


def test_two_outputs_are_two_files(tmp_path):
    words = (
        f"affine --fixed f --moving m --output {tmp_path}/a.mat --output-inverse {tmp_path}/./a.mat"
    )
    with pytest.raises(InputError, match=r"a\.mat: is given for two outputs; choose another"):
        _check(words)


def test_the_command_refuses_before_it_computes(good, tmp_path, refused):
    out = tmp_path / "out"
    out.mkdir()
    moving = out / "warped.nii.gz"
    moving.write_bytes((tmp_path / "moving.nii.gz").read_bytes())
    words = {**good, "--fixed": tmp_path / "fixed.nii.gz", "--moving": moving}
    refused("register", *(word for pair in words.items() for word in pair), message="is an input")
    assert moving.read_bytes() == (tmp_path / "moving.nii.gz").read_bytes()


def test_a_foreign_folder_is_refused_before_anything_is_computed(good, tmp_path, refused):
    theirs = tmp_path / "out" / "warped_labels.nii.gz"
    theirs.mkdir(parents=True)
    (theirs / "file").write_text("theirs")
    words = {**good, "--fixed": tmp_path / "fixed.nii.gz", "--moving": tmp_path / "moving.nii.gz"}
    words = [word for pair in words.items() for word in pair]
    refused(
        "register", *words, message="warped_labels.nii.gz: is a folder, and a file of this name"
    )
    assert (theirs / "file").read_text() == "theirs"
