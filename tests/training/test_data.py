"""Files for training: folders, checks, and digests."""

import hashlib

import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.training.data import Data, Files, find_images, find_inputs


@pytest.fixture
def folder(tmp_path):
    for name in ("b.nii.gz", "a.mgz", ".hidden.nii", "notes.txt", "c.nii"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.nii").mkdir()
    return tmp_path


def test_images_of_folders_and_files(folder):
    images = find_images([folder], "images")
    assert [path.name for path in images] == ["a.mgz", "b.nii.gz", "c.nii"]
    assert find_images([folder / "c.nii", folder / "a.mgz"], "images") == [
        folder / "c.nii",
        folder / "a.mgz",
    ]
    assert find_images([], "images") == []


def test_images_that_are_refused(folder):
    for paths, message in (
        ([folder / "folder.nii"], "folder.nii: has no image"),
        ([folder / "d.nii"], "d.nii: no such file or folder; check the scans"),
        ([folder, folder / "c.nii"], "c.nii: is given twice among the scans"),
        ([folder / "c.nii"], "c.nii: is the only one of the scans; give at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            find_images(paths, "scans")


def test_validation_files_are_others(folder):
    data = Data(labels=[folder], validation_labels=[folder / "a.mgz", folder / "c.nii"])
    with pytest.raises(InputError, match=r"a\.mgz: is given for training and for validation"):
        find_inputs(data)


def test_digests(folder):
    data = Data(labels=[folder / "a.mgz", folder / "b.nii.gz"], tissues=folder / "notes.txt")
    digests = [digest.as_json() for digest in find_inputs(data).digests()]
    assert [item["use"] for item in digests] == ["labels", "labels", "tissues"]
    assert digests[2] == {
        "use": "tissues",
        "file": str(folder / "notes.txt"),
        "sha256": hashlib.sha256(b"notes.txt").hexdigest(),
    }
    moved = find_inputs(data).digests()[0].without_folder()
    assert moved.file == "a.mgz"


def test_items_are_split_like_files(tmp_path):
    files = Files([tmp_path / "a", tmp_path / "b"], [tmp_path / "c"])
    assert files.split([1, 2, 3]) == ([1, 2], [3])
    assert files.all == [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
