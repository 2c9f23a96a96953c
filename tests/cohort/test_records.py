"""Records of registrations: damaged ones, and ones that name files of others."""

import json
import os
from dataclasses import replace

import pytest

from nipype_quicksilver.cohort.derivatives import Place, prepare, save
from nipype_quicksilver.cohort.records import check_same_fixed, is_complete, read_record
from nipype_quicksilver.errors import InputError


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "out", tmp_path / "data")
    prepare(place)
    return place


@pytest.fixture
def record(job, settings, place, outputs):
    """The record of derivatives that are complete."""
    return save(job, settings, place, outputs)


def change(record, **values):
    record.write_text(json.dumps({**json.loads(record.read_text()), **values}))


def test_a_file_of_the_same_size_with_other_bytes_is_not_whole(job, settings, place, record):
    for name in json.loads(record.read_text())["derivatives"]:
        file = place.output_dir / name
        whole, times = file.read_bytes(), file.stat()
        file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert not is_complete(job, settings, place.output_dir), name
        file.write_bytes(whole)
        assert is_complete(job, settings, place.output_dir)


@pytest.mark.parametrize("where", ["absolute", "above", "link", "folder of another image"])
def test_a_record_removes_no_file_of_others(where, job, settings, place, outputs, record, tmp_path):
    victim = tmp_path / "victim.txt"
    if where == "folder of another image":
        victim = place.output_dir / "sub-02" / "anat" / "victim.txt"
        victim.parent.mkdir(parents=True)
    victim.write_text("mine")
    link = record.parent / job.files()["uncertainty"]
    if where == "link":
        link.symlink_to(victim)
    name = {
        "absolute": str(victim),
        "above": "../victim.txt",
        "link": job.in_folder(link.name),
        "folder of another image": "sub-02/anat/victim.txt",
    }[where]
    change(record, derivatives={**json.loads(record.read_text())["derivatives"], name: "0" * 64})
    assert not is_complete(job, settings, place.output_dir)
    save(job, settings, place, outputs)
    assert victim.read_text() == "mine"
    assert is_complete(job, settings, place.output_dir)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"text"',
        "[" * 100_000,
        "9" * 5000,
        '{"made_from": 1, "job": {}, "derivatives": {}}',
        '{"made_from": "x", "job": [], "derivatives": {}}',
        '{"made_from": "x", "job": {}, "derivatives": []}',
        "\xff",
    ],
)
def test_damaged_records_are_written_again(text, job, settings, place, outputs, record):
    record.write_bytes(text.encode("latin-1"))
    assert read_record(record) is None
    assert not is_complete(job, settings, place.output_dir)
    save(job, settings, place, outputs)
    assert is_complete(job, settings, place.output_dir)


@pytest.mark.parametrize("value", [None, 7, [], {"a": "b"}])
@pytest.mark.parametrize("field", ["made_from", "derivatives", "job"])
def test_records_of_odd_types(field, value, job, settings, place, record):
    change(record, **{field: value})
    assert not is_complete(job, settings, place.output_dir)
    files = dict.fromkeys(job.always_written(), value)
    change(record, derivatives=files)
    assert not is_complete(job, settings, place.output_dir)


def test_a_derivative_that_is_a_named_pipe_is_not_read(job, settings, place, record):
    file = record.parent / job.files()["warped_image"]
    file.unlink()
    os.mkfifo(file)
    assert not is_complete(job, settings, place.output_dir)


def test_an_image_that_is_gone_is_not_complete(job, settings, place, record):
    job.moving.path.unlink()
    assert not is_complete(job, settings, place.output_dir)


def test_another_fixed_image_of_the_same_space_is_refused(job, settings, place, outputs):
    first, second = (
        replace(settings, fixed=str(job.moving.path.parent / n)) for n in ("a_b.nii.gz", "ab.nii")
    )
    first.fixed_file.touch()
    job = replace(job, space=first.space)
    save(job, first, place, outputs)
    check_same_fixed(job, first, place.output_dir)
    with pytest.raises(InputError, match=r"registration to a_b\.nii\.gz, and ab\.nii would give"):
        check_same_fixed(job, second, place.output_dir)
