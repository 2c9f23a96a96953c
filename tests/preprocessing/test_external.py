"""External tools: their command lines, results and failures, with stand-ins for the programs."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.preprocessing.external import align_brains, extract_mask
from nipype_quicksilver.spatial.images import nifti, read_image, write_image
from nipype_quicksilver.spatial.transforms import write_affine
from nipype_quicksilver.tools import (
    AFFINE_TOOLS,
    BRAIN_EXTRACTION_TOOLS,
    check_dof,
    check_tools,
)
from tests.helpers.programs import FAILING

# A program that records how it was called, and copies prepared files into its folder.
STAND_IN = """#!{python}
import json, os, shutil, sys
record = {{"words": sys.argv[1:], "files": sorted(os.listdir()), "folder": os.getcwd()}}
names = "FSLOUTPUTTYPE", "OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
record["environment"] = [os.environ.get(name) for name in names]
with open({record!r}, "w") as file:
    json.dump(record, file)
for name in os.listdir({results!r}):
    shutil.copy(os.path.join({results!r}, name), name)
"""
AFFINE = np.diag([-2.0, 2, 2, 1])
INSIDE = np.zeros((6, 7, 8), np.uint8)
INSIDE[1:5, 2:6, 2:7] = 1
HEAD = nifti(100 * INSIDE.astype(np.float32), AFFINE)
MASK = nifti(INSIDE, AFFINE)
SHIFT = from_matvec(np.eye(3), [4, -2, 6])


@pytest.fixture
def stand_in(install, tmp_path):
    """A function that installs a stand-in of a tool; returns a folder for its results."""
    results = tmp_path / "results"
    results.mkdir()

    def stand_in(tool):
        record = str(tmp_path / "record.json")
        text = STAND_IN.format(python=sys.executable, record=record, results=str(results))
        install(tool.program, text)
        return results

    return stand_in


@pytest.fixture
def record(tmp_path):
    """A function that returns how the stand-in was called, or None if it was not."""

    def record():
        path = tmp_path / "record.json"
        return json.loads(path.read_text()) if path.exists() else None

    return record


EXTRACTIONS = {
    "bet": "head.nii.gz brain.nii.gz -m -R",
    "synthstrip": "-i head.nii.gz -o brain.nii.gz -m brain_mask.nii.gz -t 3",
    "afni": "-input head.nii.gz -prefix brain.nii.gz",
}
MI = "MI[fixed.nii.gz,moving.nii.gz,1,32,Regular,0.25]"
ANTS = (
    "--dimensionality 3 --float 1 --output affine --initial-moving-transform "
    "[fixed.nii.gz,moving.nii.gz,1] --collapse-output-transforms 1 "
    "--winsorize-image-intensities [0.0,1.0] --transform {kind}[0.1] --use-histogram-matching 1 "
    f"--metric {MI} --convergence [1000x500x250,1e-06,10] --shrink-factors 8x4x2 "
    "--smoothing-sigmas 3x2x1vox{masks}"
)
GREEDY = (
    "-d 3 -a -dof {dof} -m NCC 4x4x4 -n 100x50x10 -ia-image-centers -i fixed.nii.gz "
    "moving.nii.gz -o affine.mat -threads 3{masks}"
)
ALADIN = "-ref fixed.nii.gz -flo moving.nii.gz -aff affine.txt -res aligned.nii.gz -omp 3{end}"
FLIRT = (
    "-in moving.nii.gz -ref fixed.nii.gz -omat affine.mat -out aligned.nii.gz -dof {dof} "
    "-cost corratio -searchrx -60 60 -searchry -60 60 -searchrz -60 60{masks}"
)
BOTH = ("fixed", "moving")
F, M = "fixed_mask.nii.gz", "moving_mask.nii.gz"
#: Tool, degrees of freedom, masks, and the expected words.
ALIGNMENTS = [
    ("greedy", 12, (), GREEDY.format(dof=12, masks="")),
    ("greedy", 6, BOTH, GREEDY.format(dof=6, masks=f" -gm {F} -mm {M}")),
    ("ants", 12, (), ANTS.format(kind="Affine", masks="")),
    ("ants", 7, BOTH[1:], ANTS.format(kind="Similarity", masks=f" --masks [NULL,{M}]")),
    ("ants", 6, BOTH[:1], ANTS.format(kind="Rigid", masks=f" --masks [{F},NULL]")),
    ("reg_aladin", 12, (), ALADIN.format(end="")),
    ("reg_aladin", 6, BOTH, ALADIN.format(end=f" -rigOnly -rmask {F} -fmask {M}")),
    ("flirt", 9, (), FLIRT.format(dof=9, masks="")),
    ("flirt", 12, BOTH, FLIRT.format(dof=12, masks=f" -refweight {F} -inweight {M}")),
]


def write_result(results, tool, matrix=SHIFT):
    """Write an affine as a tool does."""
    if tool == "ants":
        return write_affine(results / "affine0GenericAffine.mat", matrix)
    path = results / ("affine.txt" if tool == "reg_aladin" else "affine.mat")
    if tool == "flirt":
        # In scaled voxels, from moving to fixed; axes are radiological, so that none is flipped.
        to_world = from_matvec(np.diag([-1.0, 1, 1]), [0, 0, 0])
        matrix = np.linalg.inv(to_world) @ np.linalg.inv(matrix) @ to_world
    np.savetxt(path, matrix)
    return path


def test_all_tools_are_tested():
    assert set(EXTRACTIONS) == set(BRAIN_EXTRACTION_TOOLS)
    assert {name for name, *_ in ALIGNMENTS} == set(AFFINE_TOOLS)


@pytest.mark.parametrize("name", EXTRACTIONS)
def test_brains_are_extracted(name, stand_in, record):
    results = stand_in(BRAIN_EXTRACTION_TOOLS[name])
    if name == "afni":
        # It writes the brain, with other intensities, instead of a mask.
        write_image(results / "brain.nii.gz", 7.5 * INSIDE, AFFINE)
    else:
        write_image(results / "brain.nii.gz", np.ones_like(INSIDE), AFFINE)
        write_image(results / "brain_mask.nii.gz", INSIDE, AFFINE)
    mask = extract_mask(name, HEAD, num_threads=3)
    np.testing.assert_array_equal(mask != 0, INSIDE != 0)
    call = record()
    assert call["words"] == EXTRACTIONS[name].split()
    assert call["files"] == ["head.nii.gz"]
    assert call["environment"] == ["NIFTI_GZ", "3", "3"]
    assert not os.path.exists(call["folder"])


@pytest.mark.parametrize(("name", "dof", "masks", "words"), ALIGNMENTS)
def test_affines_are_estimated(name, dof, masks, words, stand_in, record):
    write_result(stand_in(AFFINE_TOOLS[name]), name)
    given = {f"{side}_mask": MASK for side in masks}
    matrix = align_brains(name, HEAD, HEAD, **given, dof=dof, num_threads=3)
    np.testing.assert_allclose(matrix, SHIFT, atol=1e-5)
    call = record()
    assert call["words"] == words.split()
    images = [f"{side}.nii.gz" for side in BOTH] + [f"{side}_mask.nii.gz" for side in masks]
    assert call["files"] == sorted(images)
    assert call["environment"] == ["NIFTI_GZ", "3", "3"]
    assert not os.path.exists(call["folder"])


def test_masks_may_come_back_on_another_grid(stand_in):
    """Some tools change the orientation."""
    results = stand_in(BRAIN_EXTRACTION_TOOLS["synthstrip"])
    flipped = AFFINE @ from_matvec(np.diag([-1.0, 1, 1]), [INSIDE.shape[0] - 1, 0, 0])
    write_image(results / "brain_mask.nii.gz", INSIDE[::-1], flipped)
    np.testing.assert_array_equal(extract_mask("synthstrip", HEAD), INSIDE != 0)


def test_names_of_users_are_not_on_the_command_line(stand_in, record, tmp_path):
    """Nor do spaces, quotes or dollars in them matter."""
    data = tmp_path / "my data; $HOME 'x'"
    data.mkdir()
    head = read_image(write_image(data / "the head.nii.gz", HEAD.get_fdata(), AFFINE))
    write_result(stand_in(AFFINE_TOOLS["greedy"]), "greedy")
    align_brains("greedy", head, head, log_dir=data)
    assert not any(re.search(r"[ ;$']", word) for word in record()["words"])
    assert sorted(file.name for file in data.iterdir()) == ["the head.nii.gz"]


@pytest.mark.parametrize(
    ("name", "dof", "known"),
    [("greedy", 9, "6, 7, 12"), ("ants", 9, "6, 7, 12"), ("reg_aladin", 7, "6, 12")],
)
def test_unsupported_degrees_of_freedom_are_refused(name, dof, known, stand_in, record):
    stand_in(AFFINE_TOOLS[name])
    message = f"'{name}' does not estimate {dof} degrees of freedom; give {known}$"
    with pytest.raises(InputError, match=message):
        align_brains(name, HEAD, HEAD, dof=dof)
    assert record() is None
    check_dof(name, 12)
    check_dof("simpleitk", dof)


@pytest.mark.parametrize("name", [*BRAIN_EXTRACTION_TOOLS, *AFFINE_TOOLS])
def test_tools_that_are_not_installed_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("nipype_quicksilver.tools.find_spec", lambda _: None)
    extracts = name in BRAIN_EXTRACTION_TOOLS
    tool = {**BRAIN_EXTRACTION_TOOLS, **AFFINE_TOOLS}[name]
    default = "deepbet" if extracts else "simpleitk"
    message = re.escape(f"; {tool.install}, or choose {default}")
    with pytest.raises(InputError, match=f"^'{name}': .*{tool.program}.*{message}$"):
        check_tools(name, "none") if extracts else check_tools("none", name)
    with pytest.raises(InputError, match=message):
        extract_mask(name, HEAD) if extracts else align_brains(name, HEAD, HEAD)


def test_other_choices_are_accepted(tmp_path):
    check_tools("deepbet", tmp_path / "affine.mat")


@pytest.mark.parametrize("kept", [True, False])
def test_failures_have_a_log(kept, install, tmp_path, caplog):
    install("bet", FAILING)
    logs = tmp_path / "new" / "logs"
    with caplog.at_level(logging.DEBUG), pytest.raises(QuicksilverError) as caught:
        extract_mask("bet", HEAD, log_dir=logs if kept else None)
    message = str(caught.value)
    # The last five lines, of both streams.
    steps = " / ".join(f"step {number}" for number in range(2, 6))
    assert message.startswith(f"bet failed: {steps} / no licence was found (the whole log is ")
    assert not isinstance(caught.value, InputError)
    log = Path(message.split("the whole log is ")[1].rstrip(")"))
    assert log.name == "bet.log" and (log.parent == logs) == kept
    text = log.read_text()
    assert "step 1\n" in text and "no licence was found" in text
    assert text.startswith("Command: ") and "head.nii.gz brain.nii.gz -m -R\nExit code: 3\n" in text
    assert "bet: step 1" in caplog.text
    if not kept:
        shutil.rmtree(log.parent)


def test_failures_without_output(install, tmp_path):
    install("flirt", "#!/bin/sh\nexit 1\n")
    with pytest.raises(QuicksilverError, match=r"^flirt failed: no output \(the whole log is"):
        align_brains("flirt", HEAD, HEAD, log_dir=tmp_path)


def test_programs_that_cannot_be_started(install):
    install("bet", "#!/no/such/interpreter\n")
    with pytest.raises(QuicksilverError, match=r"^bet: .* cannot be started \(.*\); install"):
        extract_mask("bet", HEAD)


@pytest.mark.parametrize("name", [*BRAIN_EXTRACTION_TOOLS, *AFFINE_TOOLS])
@pytest.mark.parametrize("content", [None, b"", b"rubbish", b"\x1f\x8b\x00"])
def test_missing_and_unreadable_results_are_one_line(name, content, stand_in, record):
    tool = {**BRAIN_EXTRACTION_TOOLS, **AFFINE_TOOLS}[name]
    results = stand_in(tool)
    if content is not None and name in AFFINE_TOOLS:
        write_result(results, name).write_bytes(content)
    elif content is not None:
        (results / "brain_mask.nii.gz").write_bytes(content)
    with pytest.raises(QuicksilverError) as caught:
        extract_mask(name, HEAD) if name in BRAIN_EXTRACTION_TOOLS else align_brains(
            name, HEAD, HEAD
        )
    message = str(caught.value)
    assert message.startswith(f"{name} failed: its result cannot be read: ")
    assert "\n" not in message and record()["folder"] not in message
    assert not isinstance(caught.value, InputError)


def test_empty_masks_are_an_error_of_the_tool(stand_in):
    results = stand_in(BRAIN_EXTRACTION_TOOLS["bet"])
    write_image(results / "brain_mask.nii.gz", 0 * INSIDE, AFFINE)
    with pytest.raises(QuicksilverError, match=r"^bet failed: .* brain_mask.nii.gz: the mask is e"):
        extract_mask("bet", HEAD)
    far = from_matvec(np.eye(3), [500, 0, 0])
    write_image(results / "brain_mask.nii.gz", INSIDE, far)
    with pytest.raises(QuicksilverError, match=r"^bet failed: .* does not overlap image in space"):
        extract_mask("bet", HEAD)


def test_a_full_disk_is_no_failure_of_the_tool(stand_in, record, monkeypatch):
    def full(*_):
        raise InputError("head.nii.gz: no space left to write it")

    stand_in(BRAIN_EXTRACTION_TOOLS["bet"])
    monkeypatch.setattr("nipype_quicksilver.preprocessing.external.write_image", full)
    with pytest.raises(InputError, match=r"^head.nii.gz: no space left"):
        extract_mask("bet", HEAD)
    assert record() is None


# What stands for the Python packages of greedy and ANTs; `run` is defined in the test.
PACKAGES = {
    "greedy": (
        "picsl_greedy/__init__.py",
        """
class Greedy3D:
    def execute(self, text):
        run(shlex.split(text))
""",
    ),
    "ants": (
        "ants/internal.py",
        """
def get_lib_fn(name):
    assert name == "antsRegistration"
    return run
""",
    ),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_python_packages_replace_programs(name, tmp_path, monkeypatch):
    tool = AFFINE_TOOLS[name]
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = []
    monkeypatch.setattr("nipype_quicksilver.tools.find_spec", lambda name: asked.append(name) or 1)
    assert tool.command() == (sys.executable, "-m", tool.stand_in)
    assert asked == [tool.package]

    result = write_result(tmp_path, name)
    file, text = PACKAGES[name]
    path = tmp_path / "packages" / file
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    path.write_text(
        "import json, shlex, shutil\n"
        "def run(words):\n"
        f"    json.dump(words, open({str(tmp_path / 'words.json')!r}, 'w'))\n"
        f"    shutil.copy({str(result)!r}, {result.name!r})\n"
        "    return 0\n" + text
    )
    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))
    matrix = align_brains(name, HEAD, HEAD, num_threads=3)
    np.testing.assert_allclose(matrix, SHIFT, atol=1e-6)
    words = json.loads((tmp_path / "words.json").read_text())
    expected = next(words for tool, *_, words in ALIGNMENTS if tool == name).split()
    # picsl-greedy is three-dimensional and does not take the dimension.
    assert words == (expected[2:] if name == "greedy" else expected)


def test_failures_of_python_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("nipype_quicksilver.tools.find_spec", lambda _: 1)
    package = tmp_path / "packages" / "ants"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "internal.py").write_text("def get_lib_fn(name):\n    return lambda words: 4\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    with pytest.raises(QuicksilverError, match=r"^ants failed: no output"):
        align_brains("ants", HEAD, HEAD, log_dir=tmp_path)
    assert "Exit code: 4" in (tmp_path / "ants.log").read_text()


def test_stand_ins_import_nothing_without_their_package():
    """Importing the modules does not run anything."""
    for tool in AFFINE_TOOLS.values():
        if tool.stand_in:
            subprocess.run([sys.executable, "-c", f"import {tool.stand_in}"], check=True)
