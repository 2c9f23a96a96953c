"""Reports name files, and show where they lie on a disk only if that is asked for."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.interfaces import RegistrationReport
from nipype_quicksilver.reports import write_group_report, write_registration_report
from nipype_quicksilver.reports.folder import read_summary
from nipype_quicksilver.reports.names import name_files, without_folders

PRIVATE = "jo o'neil, secret"


@pytest.fixture
def private(registered, tmp_path):
    """A registration of files in a folder whose name is private; returns its folder and that."""
    home = tmp_path / PRIVATE / "study"
    home.mkdir(parents=True)
    folder = shutil.copytree(registered, home / "out")
    file = folder / "summary.json"
    content = json.loads(file.read_text())
    for name, path in content["inputs"].items():
        if path is not None:
            content["inputs"][name] = shutil.copy(path, home / Path(path).name)
    files = {name: path and str(path) for name, path in content["inputs"].items()}
    network = str(home / "my.safetensors")
    content["inputs"] = files
    content["parameters"]["networks"] = [network]
    content["options"]["prediction_network"] = network
    words = ["quicksilver", "register", "--fixed", files["fixed"], f"--moving={files['moving']}"]
    content["command"] = shlex.join([*words, "--output-dir", str(home / "out")])
    content["warnings"] = [
        f"{files['fixed']}: the head may be cut off",
        f"study/{Path(files['moving']).name}: is dark",
        "work/kept.json: is damaged (see /scratch/private-user/log.txt)",
    ]
    content["sha256"]["fixed"] = "0" * 64  # has changed since
    file.write_text(json.dumps(content))
    return folder


def assert_private(page, tmp_path):
    text = re.sub(r"data:[^\"]*", "", page.read_text())
    for word in ("neil", "secret", "study", "private-user", str(tmp_path)):
        assert word not in text
    return text


def test_a_report_names_files_only(private, tmp_path):
    page = write_registration_report(private, tmp_path / "page.html")
    text = assert_private(page, tmp_path)
    names = read_summary(private).inputs
    for name in ("fixed", "moving", "fixed_mask", "moving_labels"):
        assert Path(names[name]).name in text
    fixed, moving = (Path(names[side]).name for side in ("fixed", "moving"))
    assert f"quicksilver register --fixed {fixed} --moving={moving} --output-dir out" in text
    for finding in (
        f"{fixed}: the head may be cut off",
        f"{moving}: is dark",
        "(see log.txt)",
        f"{fixed} has changed since the registration",
    ):
        assert f"<li>{finding}" in text or finding in text
    assert "my.safetensors" in text
    assert "https://doi.org/" in text


def test_paths_are_shown_if_asked_for(private, tmp_path, capsys):
    arguments = [str(private), "--output", str(tmp_path / "page.html"), "--show-paths"]
    assert main(["report", *arguments]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "secret/study/" in text and "/scratch/private-user/log.txt" in text


def test_a_node_names_files_only(private, tmp_path):
    node = RegistrationReport(summary=private / "summary.json", out_file=tmp_path / "page.html")
    assert_private(Path(node.run().outputs.out_file), tmp_path)
    node.inputs.show_paths = True
    assert "secret/study/" in Path(node.run().outputs.out_file).read_text()


def test_a_group_report_names_files_only(private, tmp_path):
    other = shutil.copytree(private, private.parent / "second")
    page = private.parent / "group.html"
    write_group_report([private, other], page)
    text = assert_private(page, tmp_path)
    assert "the head may be cut off" in text and ">second<" in text
    write_group_report([private, other], page, show_paths=True)
    assert "secret/study/" in page.read_text()


def test_the_summary_itself_keeps_its_paths(private):
    summary = read_summary(private)
    assert PRIVATE in summary.inputs["fixed"]
    short = without_folders(summary)
    assert short.inputs["fixed"] == Path(summary.inputs["fixed"]).name
    assert short.jacobian == summary.jacobian and short.labels == summary.labels
    assert without_folders(short) == short


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a b/c/x.nii: dark", "x.nii: dark"),
        ("a b/c/x.nii: dark, and c/x.nii", "x.nii: dark, and x.nii"),
        ("'/a b/c/x.nii'", "'x.nii'"),
        ("/a b/c/x.nii.gz is another", "x.nii.gz is another"),
        ("~/y.nii ./y.nii ../../y.nii /y.nii", "y.nii y.nii y.nii y.nii"),
        ("(/data/out/)", "(out)"),
        ("2 mm/s, and/or https://doi.org/10.1/2", "2 mm/s, and/or https://doi.org/10.1/2"),
    ],
)
def test_paths_in_texts(text, expected):
    assert name_files(["/a b/c/x.nii"])(text) == expected
