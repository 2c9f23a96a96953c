"""Output folders: all files or none, and files of other names are never changed."""

import errno
import json
import os

import numpy as np
import pytest

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial import images
from nipype_quicksilver.spatial.files import write_json
from nipype_quicksilver.spatial.folders import check_output_dir, staged_folder


def contents(folder):
    """Return the text of each file in a folder, hidden ones too."""
    return {file.name: file.read_text() for file in folder.iterdir()}


def fill(folder, text, names="ab"):
    for name in names:
        (folder / name).write_text(f"{text} {name}")


def test_a_new_folder_is_created_with_its_parents(tmp_path):
    target = tmp_path / "new" / "out"
    with staged_folder(target) as stage:
        fill(stage, "new")
        assert all(path.name.startswith(".") for path in target.iterdir())
    assert contents(target) == {"a": "new a", "b": "new b"}
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_files_of_an_existing_folder_are_replaced(tmp_path):
    fill(tmp_path, "old", "abcdx")
    write_json(tmp_path / "record", {"files": {"a": 5, "b": 5, "c": 5, "d": 6}})
    names = ("a", "b", "c", "d", "record")
    with (
        pytest.warns(UserWarning, match=f"^{tmp_path / 'd'}: .* was changed since; it is kept$"),
        staged_folder(tmp_path, names, record="record") as stage,
    ):
        assert list(stage.iterdir()) == []
        fill(stage, "new", ("a", "b", "record"))
        assert (tmp_path / "a").read_text() == "old a"
    # An earlier run wrote c; d has another size than what it wrote, and x is not one of the files.
    new = {name: f"new {name}" for name in ("a", "b", "record")}
    assert contents(tmp_path) == {**new, "d": "old d", "x": "old x"}


@pytest.mark.parametrize(
    "record", ["", "[]", '{"files": ["a"]}', '{"files": {"../victim": 3}}', '{"files": {"/": 3}}']
)
def test_only_files_of_a_sound_record_are_replaced(record, tmp_path):
    """A record is a file that others may have written: nothing outside the folder is touched."""
    folder = tmp_path / "out"
    folder.mkdir()
    fill(folder, "old", "a")
    (tmp_path / "victim").write_text("abc")
    (folder / "record").write_text(record)
    names = ("a", "../victim", "/", "record")
    with (
        pytest.raises(InputError, match="would be replaced, and no record says that an earlier"),
        staged_folder(folder, names, "record") as stage,
    ):
        fill(stage, "new", ("record",))
    assert contents(folder) == {"a": "old a", "record": record}
    assert (tmp_path / "victim").read_text() == "abc"


def test_files_of_other_origin_are_not_replaced(tmp_path):
    fill(tmp_path, "theirs", "b")
    with (
        pytest.raises(InputError, match=f"^{tmp_path / 'b'}: would be replaced.*; move it, or"),
        staged_folder(tmp_path, ("a", "b", "record"), "record"),
    ):
        pytest.fail("nothing is computed")
    write_json(tmp_path / "record", {"files": {"b": 8, "c": 1}})
    with (
        pytest.raises(InputError, match=f"^{tmp_path}: holds c, of another command, whose record"),
        staged_folder(tmp_path, ("a", "b", "record"), "record"),
    ):
        pytest.fail("nothing is computed")
    assert (tmp_path / "b").read_text() == "theirs b"


def test_the_record_lists_the_files(tmp_path):
    for text in ("one", "three"):
        with staged_folder(tmp_path, ("a", "record"), "record") as stage:
            (stage / "a").write_text(text)
            write_json(stage / "record", {"versions": {}})
        content = json.loads((tmp_path / "record").read_text())
        assert content == {"versions": {}, "files": {"a": len(text)}}
    # Earlier versions listed no files.
    write_json(tmp_path / "record", {"versions": {}})
    with staged_folder(tmp_path, ("a", "record"), "record") as stage:
        fill(stage, "new", ("a", "record"))
    assert (tmp_path / "a").read_text() == "new a"


def test_a_foreign_folder_is_not_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    fill(tmp_path / "b", "theirs", "x")
    fill(tmp_path, "old", "a")
    with (
        pytest.raises(InputError, match=f"^{tmp_path / 'b'}: is a folder, and a file of this name"),
        staged_folder(tmp_path) as stage,
    ):
        fill(stage, "new")
    assert contents(tmp_path / "b") == {"x": "theirs x"}
    assert (tmp_path / "a").read_text() == "old a"


def test_a_relative_folder_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with staged_folder("out") as stage:
        fill(stage, "new")
    assert contents(tmp_path / "out") == {"a": "new a", "b": "new b"}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), InputError("f: no")])
@pytest.mark.parametrize("exists", [False, True])
def test_an_error_leaves_the_folder_as_it_was(exists, error, tmp_path):
    target = tmp_path / "out" if exists else tmp_path / "new" / "out"
    if exists:
        target.mkdir()
        fill(target, "old")
    with pytest.raises(type(error)), staged_folder(target, names=("a", "b")) as stage:
        fill(stage, "new")
        raise error
    if exists:
        assert contents(target) == {"a": "old a", "b": "old b"}
    else:
        assert list(tmp_path.iterdir()) == []


def test_messages_name_the_final_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nipype_quicksilver.spatial.series.GzipFile", full)
    target = tmp_path / "new" / "out"
    with (
        pytest.raises(InputError, match=f"^{target}/a.nii.gz: no space left"),
        staged_folder(target) as stage,
    ):
        images.write_image(stage / "a.nii.gz", np.ones((3, 3, 3), np.uint8), np.eye(4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("removed", ["a", "c"])
def test_replaced_and_removed_files_are_restored_on_failure(removed, tmp_path, monkeypatch):
    fill(tmp_path, "old", ("a", "c", "other"))
    record = {"files": {"a": 5, "c": 5}}
    write_json(tmp_path / "r", record)
    replace = os.replace

    def failing(source, target):
        if str(target) == str(tmp_path / "b"):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr("os.replace", failing)
    with (
        pytest.raises(QuicksilverError, match="Input/output error"),
        staged_folder(tmp_path, names=("a", "c"), record="r") as stage,
    ):
        fill(stage, "new", {"a", "b", "c", "r"} - {removed})
    assert json.loads((tmp_path / "r").read_text()) == record
    (tmp_path / "r").unlink()
    assert contents(tmp_path) == {"a": "old a", "c": "old c", "other": "old other"}


def test_parents_are_removed_if_the_folder_cannot_be_created(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.replace", failing)
    target = tmp_path / "new" / "deep" / "out"
    with (
        pytest.raises(QuicksilverError, match="out: cannot be written"),
        staged_folder(target) as stage,
    ):
        fill(stage, "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [check_output_dir, lambda path: staged_folder(path).__enter__()])
def test_unusable_folders_are_refused(call, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InputError, match="file is not a folder; choose another"):
            call(folder)
    # Permissions of folders do not apply to the superuser, as whom tests may run.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="out: not writable"):
        call(tmp_path / "out")


def test_a_usable_folder_is_not_created_by_the_check(tmp_path):
    check_output_dir(tmp_path / "new" / "out")
    check_output_dir(tmp_path)
    assert list(tmp_path.iterdir()) == []
