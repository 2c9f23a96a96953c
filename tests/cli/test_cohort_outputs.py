"""A cohort overwrites neither its inputs nor files that it did not write."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.cohort.derivatives import Place, prepare
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import CohortOptions, plan
from nipype_quicksilver.cohort.ownership import DESCRIPTION, check_outputs
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.workflows import init_cohort_wf
from tests.helpers.simulation import simulate

BARE = ("--brain-extraction", "none", "--affine", "none", "--method", "predict")
WARPED = "sub-01/anat/sub-01_space-f_desc-preproc_T1w.nii.gz"
MASK = "sub-01/anat/sub-01_desc-brain_mask.nii.gz"
LABELS = "sub-01/anat/sub-01_space-f_dseg.nii.gz"


def write_text(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, np.full((4, 4, 4), value, np.uint8), np.eye(4))


def run(source, out, *more):
    """Run the command on a table or a data set; return its exit code and its error."""
    return main([str(word) for word in ("cohort", source, out, "participant", *BARE, *more)])


@pytest.fixture
def content(tmp_path):
    """A function that returns the bytes of all files."""
    return lambda: {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.fixture
def table(tmp_path):
    """A function that writes a table of one image, and a fixed image."""
    write(tmp_path / "f.nii.gz")

    def table(name="images.tsv", **columns):
        columns = {"participant_id": "01", "image": write(tmp_path / "a.nii.gz"), **columns}
        lines = ("\t".join(map(str, words)) for words in (columns, columns.values()))
        return write_text(tmp_path / name, "\n".join(lines) + "\n")

    return table


@pytest.mark.parametrize(
    ("column", "name"),
    [("image", WARPED), ("mask", MASK), ("labels", LABELS), ("lesion_mask", MASK)],
)
@pytest.mark.parametrize("way", ["itself", "symlink", "hard link", "relative"])
def test_files_of_images(column, name, way, table, tmp_path, monkeypatch, refused, content):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "out" / name)
    given = tmp_path / "given.nii.gz"
    if way == "symlink":
        given.symlink_to(file)
    elif way == "hard link":
        os.link(file, given)
    else:
        given = file if way == "itself" else Path("out", "sub-01", "..", name)
    words = table(**{column: given}), tmp_path / "out", "participant", *BARE
    before = content()
    message = f"out/{name}: is an input of this run"
    refused("cohort", *words, "--fixed", tmp_path / "f.nii.gz", message=message)
    assert content() == before


@pytest.mark.parametrize("option", ["--fixed", "--template", "--correction-network"])
def test_files_of_options(option, table, tmp_path, refused, content):
    file = write(tmp_path / "out" / "sub-01/anat/sub-01_space-X_desc-preproc_T1w.nii.gz")
    fixed = [] if option == "--fixed" else ["--fixed", write(tmp_path / "X.nii.gz")]
    if option == "--fixed":
        file = file.rename(file.with_name("X.nii.gz"))
        name = "sub-01_space-X_desc-preproc_T1w.nii.gz"
        file.with_name(name).symlink_to(file)
    words = ["cohort", table(), tmp_path / "out", "participant", *BARE, *fixed, option, file]
    if option == "--correction-network":
        words[words.index("predict")] = "correct"
    before = content()
    refused(*words, message="desc-preproc_T1w.nii.gz: is an input of this run")
    assert content() == before


def test_fixed_labels_and_the_table_itself(table, tmp_path, refused):
    labels = write(tmp_path / "out" / LABELS)
    fixed = ["--fixed", tmp_path / "f.nii.gz"]
    words = [tmp_path / "out", "participant", *BARE, *fixed]
    both = table(labels=write(tmp_path / "l.nii.gz"))
    message = f"{LABELS}: is an input of this run"
    refused("cohort", both, *words, "--fixed-labels", labels, message=message)
    labels.unlink()
    itself = f"out/{LABELS.removesuffix('.nii.gz')}.tsv"
    source = table(name=itself)
    refused("cohort", source, *words, message=f"{itself}: is an input of this run")


def test_the_table_of_labels(table, tmp_path, refused):
    names = write_text(tmp_path / "out" / LABELS.replace(".nii.gz", ".tsv"), "index\tname\n")
    (tmp_path / "l.tsv").symlink_to(names)
    source = table(labels=write(tmp_path / "l.nii.gz"))
    words = [source, tmp_path / "out", "participant", *BARE, "--fixed", tmp_path / "f.nii.gz"]
    refused("cohort", *words, message="dseg.tsv: is an input of this run")


@pytest.mark.parametrize("spelling", ["link", "bids/sub-01/..", "bids/no/..", "bids/."])
def test_the_data_set_by_another_name(spelling, tmp_path, monkeypatch, refused, content):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    write_text(tmp_path / "bids" / DESCRIPTION, '{"Name": "x", "BIDSVersion": "1.8.0"}')
    (tmp_path / "link").symlink_to("bids")
    before = content()
    refused("cohort", "bids", spelling, "participant", *BARE, message="is the data set itself")
    refused("cohort", spelling, "bids", "participant", *BARE, message="bids")
    assert content() == before


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ('{"Name": "x"}', "is of a data set that nipype-quicksilver did not write"),
        ('{"GeneratedBy": [{"Name": "fMRIPrep"}, 3]}', "did not write; choose another OUT"),
        ("[1]", "did not write; choose another OUT"),
        ("{", "is not JSON"),
    ],
)
def test_another_data_set_is_refused(description, message, table, tmp_path, refused, content):
    write_text(tmp_path / "out" / DESCRIPTION, description)
    write_text(tmp_path / "out" / "README.md", "theirs")
    source, before = table(), content()
    refused("cohort", source, tmp_path / "out", "participant", *BARE, message=message)
    with pytest.raises(InputError, match=message):
        prepare(Place(tmp_path / "out"))
    assert content() == before


@pytest.mark.parametrize("name", ["README.md", WARPED, "sub-01_to-f.html", MASK])
def test_files_in_a_folder_that_is_not_of_this_package(name, table, tmp_path, refused, content):
    write_text(tmp_path / "out" / name, "theirs")
    write_text(tmp_path / "out" / "notes.txt", "of another name")
    words = [table(), tmp_path / "out", "participant", *BARE, "--fixed", tmp_path / "f.nii.gz"]
    before = content()
    refused("cohort", *words, message=f"{name}: would be overwritten (1 such files), and ")
    write_text(tmp_path / "out" / "sub-01/anat/sub-01_desc-brain_mask.json")
    refused("cohort", *words, message="(2 such files)")
    assert before.items() <= content().items()


def test_files_of_a_run_that_was_killed_are_taken(table, tmp_path, monkeypatch):
    simulate(monkeypatch)
    source, out = table(), tmp_path / "out"
    fixed = ["--fixed", tmp_path / "f.nii.gz", "--plugin", "Linear"]
    assert run(source, out, *fixed) == 0
    (record,) = out.glob("sub-01/anat/*_registration.json")
    record.unlink()  # it is written last
    (out / "README.md").unlink()
    (out / WARPED).write_bytes(b"half")
    assert run(source, out, *fixed) == 0
    assert record.exists() and (out / WARPED).read_bytes() != b"half"
    assert json.loads((out / DESCRIPTION).read_text())["GeneratedBy"][0]["Name"]


def test_a_workflow_and_identical_files(tmp_path):
    image = CohortImage(write(tmp_path / "out" / WARPED), "01", None, "sub-01", "T1w")
    options = CohortOptions.of(str(write(tmp_path / "f.nii.gz")), brain_extraction="none")
    place = Place(tmp_path / "out")
    with pytest.raises(InputError, match="is an input of this run"):
        init_cohort_wf(jobs=plan([image], options), place=place, omp_nthreads=1, options=options)
    prepare(place)
    other = CohortImage(write(tmp_path / "a.nii.gz"), "01", None, "sub-01", "T1w")
    key = write_text(tmp_path / "key", "{}")
    for name in ("sub-01_desc-brain_mask.json", "sub-01_space-f_dseg.json"):  # as in datalad
        (tmp_path / "out" / "sub-01" / "anat" / name).symlink_to(key)
    check_outputs(plan([other], options), options, place.output_dir)


def test_arguments_of_a_wrong_type(table, tmp_path, refused):
    given = write_text(tmp_path / "slurm.json", '{"template": 3}')
    words = [table(), tmp_path / "out", "participant", *BARE, "--plugin", "SLURM"]
    message = "slurm.json: template is 3; give a text"
    refused("cohort", *words, "--plugin-args", given, message=message)
