"""`quicksilver register`: what it refuses, what it writes, what it prints."""

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import Settings
from nipype_quicksilver.options import SCAN_FILES
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.spatial.transforms import write_affine
from tests.helpers.balls import ALONE, GRID, ball, listed, write

STAGES = len(Settings().stages)
QUICK = ("--iterations", "x".join("1" * STAGES), "--num-threads", "1", "--method", "optimize")
MASKS = [option.flag for name, option in SCAN_FILES.items() if name.endswith("mask")]


def patched(path, offset, values):
    """Overwrite bytes of the header, past everything that repairs headers."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(raw)
    return path


def bad_missing(folder):
    return folder / "missing.nii.gz"


def bad_folder(folder):
    (folder / "folder.nii.gz").mkdir()
    return folder / "folder.nii.gz"


def bad_truncated(folder):
    path = write(folder / "bad.nii.gz", np.random.default_rng(1).random(GRID.shape))
    path.write_bytes(path.read_bytes()[:3000])
    return path


def bad_text(folder):
    path = folder / "bad.nii.gz"
    path.write_bytes(gzip.compress(b"these are my notes"))
    return path


def bad_dimensions(folder):
    return write(folder / "bad.nii.gz", ball()[:, :, 0])


def bad_series(folder):
    return write(folder / "bad.nii.gz", np.stack([ball()] * 3, axis=-1))


def bad_rgb(folder):
    return write(folder / "bad.nii.gz", np.zeros(GRID.shape, [(c, "u1") for c in "RGB"]))


def bad_zero(folder):
    return write(folder / "bad.nii.gz", np.zeros(GRID.shape, np.float32))


def bad_nan(folder):
    return write(folder / "bad.nii.gz", np.full(GRID.shape, np.nan, np.float32))


def bad_constant(folder):
    return write(folder / "bad.nii.gz", np.full(GRID.shape, 7, np.int16))


def bad_infinite(folder):
    data = ball()
    data[6, 7, 5] = np.inf
    return write(folder / "bad.nii.gz", data)


def bad_zero_spacing(folder):
    path = write(folder / "bad.nii", ball(), code=0)
    path = patched(path, 252, np.array([1, 0], "<i2"))  # qform only, so that pixdim counts
    return patched(path, 80, np.array([0, 2, 2], "<f4"))


def bad_nan_spacing(folder):
    path = bad_zero_spacing(folder)
    return patched(path, 80, np.array([np.nan, 2, 2], "<f4"))


def bad_singular(folder):
    path = write(folder / "bad.nii", ball())
    path = patched(path, 252, np.array([0, 1], "<i2"))
    return patched(path, 280, np.array([[2, 0, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0]], "<f4"))


BAD = [value for name, value in list(globals().items()) if name.startswith("bad_")]


@pytest.mark.parametrize("option", ["--fixed", "--moving"])
@pytest.mark.parametrize("make", BAD)
def test_unusable_images_are_refused(make, option, good, tmp_path, refused):
    bad = make(tmp_path)
    refused("register", *listed({**good, option: bad}), message=f"{bad}: ")


@pytest.mark.parametrize("command", ["optimize", "shoot"])
def test_the_other_commands_refuse_missing_files(command, good, tmp_path, refused):
    missing = tmp_path / "missing.nii.gz"
    options = {
        "optimize": {**good, "--fixed": missing, "--output": tmp_path / "momentum.nii.gz"},
        "shoot": {"--momentum": missing, "--output-dir": tmp_path / "out"},
    }[command]
    if command == "optimize":
        options = {k: v for k, v in options.items() if k not in ("--output-dir", *ALONE)}
    refused(command, *listed(options), message=f"{missing}: no such file")


def test_images_that_do_not_meet_are_refused(good, tmp_path, refused):
    affine = GRID.affine.copy()
    affine[0, 3] = 500
    far = write(tmp_path / "far.nii.gz", ball(), affine)
    refused("register", *listed({**good, "--moving": far}), message=f"{far}: does not overlap")


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_labels_on_another_grid_are_refused(side, good, tmp_path, refused):
    labels = write(tmp_path / "labels.nii.gz", (ball() > 0).astype(np.uint8))
    affine = GRID.affine.copy()
    affine[0, 3] = 1
    moved = write(tmp_path / "moved.nii.gz", (ball() > 0).astype(np.uint8), affine)
    given = {"--fixed-labels": labels, "--moving-labels": labels, f"--{side}-labels": moved}
    refused("register", *listed({**good, **given}), message=f"{moved}: not on the grid of")


def test_fixed_labels_alone_are_refused(good, tmp_path, refused):
    labels = write(tmp_path / "labels.nii.gz", (ball() > 0).astype(np.uint8))
    refused(
        "register", *listed({**good, "--fixed-labels": labels}), message="give moving labels too"
    )


@pytest.mark.parametrize("option", MASKS)
def test_masks_that_are_empty_or_elsewhere_are_refused(option, good, tmp_path, refused):
    empty = write(tmp_path / "empty.nii.gz", np.zeros(GRID.shape, np.uint8))
    refused("register", *listed({**good, option: empty}), message=f"{empty}: ")
    affine = GRID.affine.copy()
    affine[2, 3] = 300
    elsewhere = write(tmp_path / "elsewhere.nii.gz", np.ones(GRID.shape, np.uint8), affine)
    refused(
        "register", *listed({**good, option: elsewhere}), message=f"{elsewhere}: does not overlap"
    )


def test_a_brain_mask_over_nothing_is_refused(good, tmp_path, refused):
    corner = np.zeros(GRID.shape, np.uint8)
    corner[0, 0, 0] = 1
    mask = write(tmp_path / "mask.nii.gz", corner)
    refused(
        "register", *listed({**good, "--fixed-mask": mask}), message=f"{mask}: does not overlap"
    )


def test_a_lesion_of_the_whole_brain_is_refused(good, tmp_path, refused):
    affine = GRID.affine.copy()
    affine[:3, 3] = -20
    wide = write(tmp_path / "wide.nii.gz", np.ones((34, 34, 34), np.uint8), affine)
    message = "covers the whole brain"
    refused("register", *listed({**good, "--fixed-lesion-mask": wide}), message=message)


def test_absurd_voxel_sizes_are_refused(good, tmp_path, refused):
    for name in ("fixed", "moving"):
        write(tmp_path / f"{name}.nii.gz", ball(), np.diag([100.0, 100, 100, 1]))
    refused("register", *listed(good), message="check the voxel sizes")


def test_affines_that_mirror_or_are_missing_are_refused(good, tmp_path, refused):
    mirror = write_affine(tmp_path / "mirror.mat", np.diag([-1.0, 1, 1, 1]))
    refused(
        "register",
        *listed({**good, "--affine": mirror}),
        message=f"{mirror}: contains a reflection",
    )
    absent = tmp_path / "absent.mat"
    refused("register", *listed({**good, "--affine": absent}), message=f"{absent}: no such file")


def test_an_output_below_a_file_is_refused(good, tmp_path, refused):
    (tmp_path / "file").write_text("")
    for below in (tmp_path / "file", tmp_path / "file" / "out"):
        refused("register", *listed({**good, "--output-dir": below}), message=f"{below}: ")
        momentum = ("--momentum", tmp_path / "any.nii.gz", "--output-dir", below)
        refused("shoot", *momentum, message=f"{below}: ")


def test_an_output_that_cannot_be_written_to_is_refused(good, tmp_path, refused, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    refused("register", *listed(good), message=f"{tmp_path / 'out'}: not writable")


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A folder that may not be looked into, as that of another user."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    stat, access = os.stat, os.access

    def forbidden(path, *args, **kwargs):
        if folder in Path(str(path)).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr("os.stat", forbidden)
    monkeypatch.setattr("os.access", lambda path, mode: path != folder and access(path, mode))
    return folder


@pytest.mark.parametrize("below", ["out", "new/out"])
def test_an_output_in_a_hidden_folder_is_refused(below, hidden, good, refused):
    message = "not writable"
    out = hidden / below
    refused("register", *listed({**good, "--output-dir": out}), message=f"{out}: {message}")
    refused(
        "shoot", "--momentum", good["--fixed"], "--output-dir", out, message=f"{out}: {message}"
    )
    images_and_affine = ("--input", good["--fixed"], "--reference", good["--fixed"])
    options = ("--transform", "any.mat", "--output", out.with_suffix(".nii"))
    refused("apply", *images_and_affine, *options, message=f"{out}.nii: its folder")
    options = ("--displacement", good["--fixed"], "--output-json", out.with_suffix(".json"))
    refused("evaluate", *options, message=f"{out}.json: its folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--similarity", "mi"], "--similarity"),
        (["--method", "guess"], "--method"),
        (["--brain-extraction", "guess"], "--brain-extraction"),
        (["--interpolation", "GenericLabel"], "--interpolation"),
        (["--method", "correct", "--similarity", "mind"], "does not use similarity; leave it out"),
        (["--method", "predict", "--similarity", "lncc"], "does not use similarity; leave it out"),
        (
            ["--method", "correct", "--iterations", "4x4"],
            "'correct' does not use iterations",
        ),
        (["--method", "predict", "--corrections", "2"], "'predict' does not use corrections"),
        (["--method", "optimize", "--samples", "9"], "'optimize' does not use samples"),
        (["--uncertainty-components"], "uncertainty components: needs samples"),
        (["--method", "correct", "--samples", "1"], "'1' is not a whole number of at least 2"),
        (["--method", "refine", "--iterations", "1x1"], "the schedule has 1 stage;"),
        (["--corrections", "0"], "--corrections"),
        (["--iterations", "10,10"], "give AxBxC"),
        (["--iterations", "10x"], "give AxBxC"),
        (["--method", "optimize", "--iterations", "9"], f"the schedule has {STAGES} stages"),
        (["--device", "cuda:99"], "use cpu or auto"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_refused(arguments, message, good, refused):
    refused("register", *listed(good), *arguments, message=message)


def test_required_options(refused):
    for command in ("register", "optimize", "shoot"):
        refused(command, message="required")


def test_a_missing_file_ends_a_process_with_one_line(good, tmp_path):
    missing = tmp_path / "missing.nii.gz"
    program = "import sys; from nipype_quicksilver.cli.main import main; sys.exit(main())"
    arguments = [str(item) for item in listed({**good, "--moving": missing})]
    result = subprocess.run(
        [sys.executable, "-c", program, "register", *arguments], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"quicksilver: error: {missing}: no such file")
    assert result.stderr.count("\n") == 1
    assert not good["--output-dir"].exists()


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_nothing_behind(exists, good, tmp_path, monkeypatch, capsys):
    out = good["--output-dir"]
    if exists:
        out.mkdir()
        (out / "warped.nii.gz").write_text("earlier")
        (out / "summary.json").write_text('{"files": {"warped.nii.gz": 7}}')
    before = sorted(tmp_path.rglob("*"))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nipype_quicksilver.spatial.momentum.save_nifti", full)
    arguments = [str(item) for item in listed(good)]
    assert main(["register", "--quiet", *QUICK, *arguments]) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("quicksilver: error: ")
    assert str(out) in error
    assert "no space left" in error
    assert sorted(tmp_path.rglob("*")) == before
    if exists:
        assert (out / "warped.nii.gz").read_text() == "earlier"


def test_a_limit_of_the_shell_leaves_nothing_behind(good, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000));"
        "from nipype_quicksilver.cli.main import main; sys.exit(main())"
    )
    words = [sys.executable, "-B", "-c", program, "register", "--quiet", *QUICK]
    done = subprocess.run([*words, *map(str, listed(good))], capture_output=True, text=True)
    assert done.returncode == 2
    *_, error = done.stderr.splitlines()
    assert error.startswith("quicksilver: error: ") and "composite.h5: no space left" in error
    assert sorted(tmp_path.rglob("*")) == before


def test_some_nan_are_a_warning(good, tmp_path, capsys):
    data = ball()
    data[0, 0, :3] = np.nan
    write(good["--moving"], data)
    assert main(["register", "--quiet", *QUICK, *map(str, listed(good))]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("quicksilver: warning: ")
    assert "3 voxels are NaN" in captured.err


def test_register_prints_what_it_does_and_keeps_other_files(good, capsys):
    out = good["--output-dir"]
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "summary.json").write_text('{"versions": {}}')  # of an earlier version
    assert main(["register", *QUICK, *map(str, listed(good))]) == 0
    captured = capsys.readouterr()
    # One iteration only measures, which does not make the images more similar.
    *lines, warning = sorted(captured.err.splitlines(), key=lambda line: ": warning: " in line)
    assert "did not increase" in warning
    stages = [f"stage {n + 1} of {STAGES}" for n in range(STAGES)]
    assert [line.split(":")[1].strip() for line in lines] == stages
    assert all("energy" in line for line in lines)
    assert "local correlation" in captured.out
    assert f"Files: {out}" in captured.out
    assert (out / "notes.txt").read_text() == "mine"
    written = {file.name for file in out.iterdir()} - {"notes.txt"}
    optional = {"warped_labels", "uncertainty", "uncertainty_components"}
    assert written == {file for name, file in FILES.items() if name not in optional}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["inputs"]["fixed"] == str(good["--fixed"])
    assert [stage["iterations"] for stage in summary["stages"]] == [1] * STAGES


def test_help_has_an_example(capsys):
    for command in ("register", "optimize", "shoot"):
        assert main([command, "--help"]) == 0
        assert f"Example:\n  quicksilver {command} --" in capsys.readouterr().out


def test_python_callers_get_the_same_refusals(good):
    from nipype_quicksilver import register as registered

    pair = good["--fixed"], good["--moving"]
    with pytest.raises(InputError, match="method 'guess' is unknown"):
        registered(*pair, method="guess")
    with pytest.raises(InputError, match="interpolation 'GenericLabel'"):
        registered(*pair, interpolation="GenericLabel")
    for device in ("cuda:99", "gpu"):
        with pytest.raises(InputError, match=f"device {device}: .*use cpu or auto"):
            registered(*pair, device=device)
