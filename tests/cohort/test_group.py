"""The table of all registrations."""

import csv
import json

import pytest

from nipype_quicksilver.cohort.derivatives import Place, save
from nipype_quicksilver.cohort.group import read_records, write_table
from nipype_quicksilver.cohort.jobs import plan
from nipype_quicksilver.errors import InputError


def test_a_row_for_each_registration(cohort, settings, outputs, tmp_path):
    place = Place(tmp_path / "out")
    for job in plan(cohort, settings)[:2]:
        save(job, settings, place, outputs)
    assert len(write_table(read_records(place.output_dir), place.output_dir)) == 2
    with open(place.output_dir / "group_registration.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02"]
    assert rows[0]["similarity_after"] == "0.75"
    assert rows[0]["log_jacobian_sd"] == "0.5"
    assert rows[1]["folded_voxels"] == "3"
    assert "dice_after" not in rows[0]  # no image has labels
    columns = json.loads((place.output_dir / "group_registration.json").read_text())
    assert set(columns) == set(rows[0])
    assert columns["seconds"]["Units"] == "s"
    assert columns["similarity_after"]["Median"] == 0.75


def test_an_incomplete_record(job, settings, outputs, tmp_path):
    place = Place(tmp_path / "out")
    record = save(job, settings, place, outputs)
    content = json.loads(record.read_text())
    del content["similarity"]
    record.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=f"{record}: .*similarity; run the participant level again"
    ):
        write_table(read_records(place.output_dir), place.output_dir)


def test_a_folder_without_registrations(tmp_path):
    with pytest.raises(InputError, match="run the participant level first"):
        read_records(tmp_path)
