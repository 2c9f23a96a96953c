"""Images of a BIDS data set or a table."""

import json

import pytest

from nipype_quicksilver.cohort.images import find_images
from nipype_quicksilver.errors import InputError


@pytest.fixture
def bids(tmp_path):
    """A data set with sessions and runs, of empty files."""
    root = tmp_path / "bids"
    names = (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii",
        "sub-02/ses-b/anat/sub-02_ses-b_T2w.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_desc-x_T1w.nii.gz",
    )
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    description = {"Name": "test", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    return root


def test_images_of_a_data_set(bids):
    images = find_images(bids)
    stems = ["sub-01", "sub-02_ses-a_run-1", "sub-02_ses-a_run-2"]
    assert [image.stem for image in images] == stems
    assert images[0].path == bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    assert [image.session for image in images] == [None, "a", "a"]
    assert [image.label for image in images] == ["sub01", "sub02sesarun1", "sub02sesarun2"]
    assert str(images[1].folder) == "sub-02/ses-a/anat"
    assert [image.stem for image in find_images(bids, suffix="T2w")] == ["sub-02_ses-b"]


@pytest.mark.parametrize("label", ["02", "sub-02"])
def test_chosen_participants(label, bids):
    assert {image.participant for image in find_images(bids, participants=[label])} == {"02"}


def test_label_maps_of_a_data_set(bids, tmp_path):
    labels = tmp_path / "labels"
    for name in ("sub-01_desc-aseg_dseg.nii.gz", "sub-01_space-MNI_dseg.nii.gz"):
        (labels / "sub-01" / "anat").mkdir(parents=True, exist_ok=True)
        (labels / "sub-01" / "anat" / name).touch()
    images = find_images(bids, participants=["01"], labels_dir=labels)
    assert images[0].labels == labels / "sub-01" / "anat" / "sub-01_desc-aseg_dseg.nii.gz"
    others = [image.labels for image in find_images(bids, labels_dir=labels)[1:]]
    assert others and not any(path.exists() for path in others)
    with pytest.raises(InputError, match="nothing: no such folder; check --labels"):
        find_images(bids, labels_dir=labels / "nothing")
    (labels / "sub-01" / "anat" / "sub-01_dseg.nii.gz").touch()
    with pytest.raises(InputError, match="keep one label map"):
        find_images(bids, participants=["01"], labels_dir=labels)


def test_images_of_a_table(tmp_path):
    for name in ("a.nii.gz", "b_T1w.nii.gz", "c_T2w.nii.gz", "mask.nii.gz", "labels.nii.gz"):
        (tmp_path / name).touch()
    table = tmp_path / "images.tsv"
    table.write_text(
        "participant_id\tsession_id\timage\tmask\tlabels\n"
        "sub-02\tses-1\tb_T1w.nii.gz\tmask.nii.gz\tn/a\n"
        "01\tn/a\ta.nii.gz\tn/a\tlabels.nii.gz\n"
        "03\t\tc_T2w.nii.gz\t\t\n"
    )
    first, second = find_images(table)
    assert (first.stem, first.path, first.session) == ("sub-01", tmp_path / "a.nii.gz", None)
    assert (first.mask, first.labels) == (None, tmp_path / "labels.nii.gz")
    assert (second.stem, second.mask) == ("sub-02_ses-1", tmp_path / "mask.nii.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column participant_id"),
        ("participant_id\timage\n", "no rows"),
        ("participant_id,image\n01,a.nii.gz\n", "no column participant_id"),
        ("participant_id\timage\n01\ta\0.nii.gz\n", "line 2: image has a null character"),
        ("participant_id\timage\n0-1\ta.nii.gz\n", "'0-1' is not letters and digits"),
        ("participant_id\timage\n01\tn/a\n", "give participant_id and image"),
    ],
)
def test_tables_that_cannot_be_used(text, message, tmp_path):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "images.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        find_images(tmp_path / "images.tsv")


def test_data_sets_that_cannot_be_used(bids, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "nothing")
    with pytest.raises(InputError, match="no T1w image of participant 07"):
        find_images(bids, participants=["01", "07"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a BIDS data set"):
        find_images(tmp_path / "empty")


def test_folders_with_names_of_images(bids):
    names = ("sub-03/anat/sub-03_T1w.nii.gz", "sub-04/ses-a/anat/sub-04_ses-a_run-1_T1w.nii")
    for name in (*names, "sub-03/anat/sub-03_T2w.nii.gz", "sub-03/anat/sub-03_T1w.nii.d"):
        (bids / name).mkdir(parents=True)
    (bids / "elsewhere").mkdir()
    (bids / "sub-05" / "anat").mkdir(parents=True)
    (bids / "sub-05" / "anat" / "sub-05_T1w.nii.gz").symlink_to(bids / "elsewhere")
    images = {image.stem: image for image in find_images(bids)}
    assert images.keys() > {"sub-01", "sub-03", "sub-04_ses-a_run-1", "sub-05"}
    assert len(images) == 6
    assert images["sub-03"].path == bids / names[0]
    image = images["sub-04_ses-a_run-1"]
    assert (image.participant, image.session, image.path) == ("04", "a", bids / names[1])


def test_a_lesion_mask_next_to_an_image(tmp_path):
    pytest.importorskip("bids")
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    for name in ("sub-01_T1w.nii.gz", "sub-01_T1w_label-lesion_roi.nii.gz"):
        (anat / name).touch()
    (image,) = find_images(tmp_path)
    assert image.lesion_mask == anat / "sub-01_T1w_label-lesion_roi.nii.gz"
    assert image.files() == [image.path, image.lesion_mask]


def test_a_lesion_mask_without_content_is_not_forgotten(tmp_path):
    pytest.importorskip("bids")
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (anat / "sub-01_T1w.nii.gz").touch()
    (anat / "sub-01_T1w_label-lesion_roi.nii.gz").symlink_to("not fetched.nii.gz")
    assert find_images(tmp_path)[0].lesion_mask.name == "sub-01_T1w_label-lesion_roi.nii.gz"


def test_a_lesion_mask_in_a_table(tmp_path):
    for name in ("a.nii.gz", "lesion.nii.gz"):
        (tmp_path / name).touch()
    table = tmp_path / "images.tsv"
    table.write_text("participant_id\timage\tlesion_mask\n01\ta.nii.gz\tlesion.nii.gz\n")
    assert find_images(table)[0].lesion_mask == tmp_path / "lesion.nii.gz"


def test_files_of_a_table_are_checked_when_they_are_used(tmp_path):
    table = tmp_path / "images.tsv"
    long = f"{'a' * 300}.nii.gz"
    table.write_text(f"participant_id\timage\tmask\n01\tno.nii.gz\tn/a\n02\t{long}\tno.nii\n")
    first, second = find_images(table)
    assert first.path == tmp_path / "no.nii.gz"
    assert second.files() == [tmp_path / long, tmp_path / "no.nii"]
