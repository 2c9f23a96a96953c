"""Files are written completely or not at all, identical data give identical bytes."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial import files, images, itk, transforms
from nipype_quicksilver.spatial.grids import Grid
from tests.helpers.blocks import ROOT

AFFINE = np.array([[0, 0, 1.2, 10], [-2.0, 0, 0, -20], [0, -1, 0, 5], [0, 0, 0, 1]])
DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
GRID = Grid(DATA.shape, AFFINE)

WRITERS = {
    "x.nii.gz": lambda path: images.write_image(path, DATA, AFFINE),
    "x.nii": lambda path: images.write_image(path, DATA, AFFINE),
    "x.json": lambda path: files.write_json(path, {"a": 1}),
    "x.mat": lambda path: transforms.write_affine(path, np.eye(4)),
    "x.h5": lambda path: transforms.write_composite(path, transforms.affine_transform(np.eye(4))),
    "w.nii.gz": lambda path: transforms.write_displacement(path, np.zeros((2, 3, 4, 3)), GRID),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my data"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_written_under_the_name_alone(folder, name):
    assert WRITERS[name](folder / name) == folder / name
    assert [file.name for file in folder.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_disk_full_on_renaming(folder, name, monkeypatch):
    (folder / name).write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError) as caught:
        WRITERS[name](folder / name)
    assert str(caught.value).startswith(f"{folder / name}: no space left")
    assert [file.name for file in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "old"


def test_disk_full_while_writing(folder, monkeypatch):
    def fill(image, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib, "save", fill)
    with pytest.raises(InputError, match="no space left"):
        images.write_image(folder / "x.nii", DATA, AFFINE)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_really_full_disk(folder, monkeypatch):
    # The temporary name leads to a device on which every write fails.
    monkeypatch.setattr(files, "temporary_name", lambda: "t")
    (folder / ".t.json").symlink_to("/dev/full")
    with pytest.raises(InputError, match="no space left"):
        files.write_json(folder / "x.json", {"a": 1})
    assert list(folder.iterdir()) == []


def test_a_composite_that_does_not_fit_on_the_disk(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    field = transforms.displacement_transform(np.zeros((2, 3, 4, 3)), GRID)
    with pytest.raises(InputError, match="no space left"):
        transforms.write_composite(folder / "x.h5", field)
    assert list(folder.iterdir()) == []


def test_a_composite_beyond_the_limit_of_the_shell(folder):
    """HDF5 would crash at the exit of the process, after the message."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); import resource;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from tests.spatial.test_writing import *;"
        "field = transforms.displacement_transform(np.zeros((20, 20, 20, 3)),"
        " Grid((20, 20, 20), np.eye(4)));"
        "transforms.write_composite(sys.argv[1], field)"
    )
    words = [sys.executable, "-B", "-c", program, str(folder / "x.h5"), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, "x.h5: no space left to write it" in done.stderr) == (1, True)
    assert list(folder.iterdir()) == []


def test_the_size_of_a_composite_is_not_underestimated(folder):
    path = WRITERS["x.h5"](folder / "x.h5")
    assert 8 * 12 < path.stat().st_size <= 8 * 12 + itk._OVERHEAD


@pytest.mark.parametrize("free", [100, 1 << 30])
def test_a_composite_that_could_not_be_written(folder, free, monkeypatch, capfd):
    """The disk was filled in the meantime, or something else went wrong."""
    usage = shutil.disk_usage(folder)

    def failing(_, path):
        Path(path).write_text("half")
        os.write(2, b"HDF5-DIAG: a list of calls\n")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        raise RuntimeError("H5Dwrite failed")

    monkeypatch.setattr("SimpleITK.WriteTransform", failing)
    kind, message = (
        (InputError, "no space left") if free == 100 else (QuicksilverError, "ITK could")
    )
    with pytest.raises(kind, match=rf"x\.h5: {message}"):
        WRITERS["x.h5"](folder / "x.h5")
    assert list(folder.iterdir()) == []
    assert capfd.readouterr().err == ""
    os.write(2, b"not suppressed")
    assert capfd.readouterr().err == "not suppressed"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_nothing_left_after_any_error(folder, error):
    with pytest.raises(type(error)), files.staged(folder / "x.csv") as temporary:
        assert temporary.parent == folder and temporary.suffix == ".csv"
        temporary.write_text("half")
        raise error
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_missing_folder(folder, name):
    with pytest.raises(InputError) as caught:
        WRITERS[name](folder / "no" / name)
    assert (
        str(caught.value) == f"{folder / 'no' / name}: its folder does not exist; create it first"
    )


@pytest.mark.parametrize("name", WRITERS)
def test_unwritable_folder(folder, name, monkeypatch):
    # The rights of folders do not bind the superuser, as whom tests may run.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="not writable"):
        WRITERS[name](folder / name)


def test_permission_denied_while_writing(folder):
    denied = PermissionError(errno.EACCES, "Permission denied")
    message = r"x\.csv: cannot be written \(Permission denied\)"
    with pytest.raises(InputError, match=message), files.staged(folder / "x.csv"):
        raise denied


def test_folder_in_the_way(folder):
    (folder / "x.nii").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        images.write_image(folder / "x.nii", DATA, AFFINE)


@pytest.mark.parametrize("fails", ["writing", "renaming"])
def test_files_are_written_together_or_not_at_all(folder, fails, monkeypatch):
    paths = [folder / name for name in ("a.json", "b.json", "c.json")]
    for path in paths:
        path.write_text("old")

    def failing(path):
        path.write_text("half")
        if fails == "writing":
            raise InputError(f"{path}: no")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails == "renaming":
        monkeypatch.setattr(os, "replace", full)
    message = "^" + str(paths[1]) + ": no" if fails == "writing" else "no space left"
    with pytest.raises(InputError, match=message):
        files.write_together({paths[0]: Path.touch, paths[1]: failing, paths[2]: Path.touch})
    assert [path.read_text() for path in paths] == ["old"] * 3
    assert sorted(folder.iterdir()) == paths


def test_device_in_the_way(folder):
    """It would be replaced by a file."""
    for name in ("/dev/null", "/dev/stdout"):
        with pytest.raises(InputError, match="a device"):
            files.check_writable(name)
    os.mkfifo(folder / "x.json")
    with pytest.raises(InputError, match="is a named pipe"):
        files.write_json(folder / "x.json", {})


@pytest.mark.parametrize("name", ["x.mgz", "x.img", "x", "x.nii.bz2"])
def test_other_suffixes(folder, name):
    with pytest.raises(InputError, match=r"\.nii or \.nii\.gz"):
        images.write_image(folder / name, DATA, AFFINE)
    assert list(folder.iterdir()) == []


def test_same_bytes(folder, monkeypatch):
    first = images.write_image(folder / "a.nii.gz", DATA, AFFINE).read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    second = images.write_image(folder / "other name.nii.gz", DATA, AFFINE).read_bytes()
    assert first == second
    assert first[:2] == b"\x1f\x8b" and first[4:8] == bytes(4)  # gzip's time stamp


def test_permissions_are_the_usual_ones(folder):
    mask = os.umask(0o022)
    try:
        path = images.write_image(folder / "a.nii.gz", DATA, AFFINE)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_header(folder):
    header = nib.load(images.write_image(folder / "a.nii", DATA, AFFINE, intent="label")).header
    np.testing.assert_allclose(header.get_sform(), AFFINE, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), AFFINE, atol=1e-5)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_intent()[0] == "label"


@pytest.mark.parametrize(
    ("codes", "differ", "expected"),
    [((4, 1), 0, (4, 1)), ((4, 1), 7, (4, 4)), ((2, 0), 7, (2, 2)), ((0, 3), 7, (3, 3))],
)
@pytest.mark.filterwarnings("ignore:.*sform and qform differ")
def test_codes_of_the_reference(folder, codes, differ, expected):
    qform = AFFINE.copy()
    qform[0, 3] += differ
    like = nib.Nifti1Image(DATA, AFFINE)
    like.set_qform(qform, codes[1])
    like.set_sform(AFFINE, codes[0])
    nib.save(like, folder / "like.nii")
    like = images.read_image(folder / "like.nii")
    path = images.write_image(folder / "a.nii", DATA, like.affine, like=like)
    written = nib.load(path)
    header = written.header
    assert (int(header["sform_code"]), int(header["qform_code"])) == expected
    np.testing.assert_allclose(written.affine, AFFINE if codes[0] else qform, atol=1e-5)
    # Both forms are the one that counts.
    np.testing.assert_allclose(header.get_qform(), written.affine, atol=1e-5)


def test_matrices_of_a_reference_elsewhere_are_not_taken(folder):
    like = nib.Nifti1Image(DATA, np.eye(4))
    like.set_sform(np.eye(4), 4)
    like.set_qform(np.eye(4), 4)
    written = nib.load(images.write_image(folder / "a.nii", DATA, AFFINE, like=like))
    np.testing.assert_allclose(written.header.get_sform(), AFFINE, atol=1e-5)
    np.testing.assert_allclose(written.header.get_qform(), AFFINE, atol=1e-5)
    assert int(written.header["sform_code"]) == 4


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4"])
def test_types_are_kept(folder, dtype):
    data = DATA.astype(dtype)
    written = nib.load(images.write_image(folder / "a.nii", data, AFFINE))
    assert written.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), data)


def test_other_types(folder):
    path = folder / "a.nii"
    assert nib.load(images.write_image(path, DATA > 3, AFFINE)).get_data_dtype() == np.uint8
    assert nib.load(images.write_image(path, DATA.astype("f8"), AFFINE)).get_data_dtype() == "f4"
    rounded = nib.load(images.write_image(path, DATA + 0.6, AFFINE, dtype="u1"))
    np.testing.assert_array_equal(np.asanyarray(rounded.dataobj), DATA + 1)
    with pytest.raises(InputError, match="do not fit"):
        images.write_image(path, DATA + 250, AFFINE, dtype="u1")


def test_time_step(folder):
    series = np.stack([DATA, DATA], -1)
    header = nib.load(images.write_image(folder / "a.nii", series, AFFINE, time_step=0.72)).header
    assert header.get_zooms()[3] == pytest.approx(0.72)
    assert header.get_xyzt_units() == ("mm", "sec")


def test_json(folder):
    path = files.write_json(folder / "a.json", {"x": np.float32(0.5), "y": np.arange(2)})
    assert path.read_text() == '{\n  "x": 0.5,\n  "y": [\n    0,\n    1\n  ]\n}\n'
    with pytest.raises(ValueError):
        files.write_json(folder / "b.json", {"x": float("nan")})
    assert not (folder / "b.json").exists()
