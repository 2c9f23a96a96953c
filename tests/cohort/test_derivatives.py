"""A set of derivatives is complete, or counts as missing."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nipype_quicksilver.cohort import derivatives
from nipype_quicksilver.cohort.derivatives import Place, prepare, save
from nipype_quicksilver.cohort.jobs import PAIRWISE, plan
from nipype_quicksilver.cohort.records import is_complete
from nipype_quicksilver.options import completed


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "out", tmp_path / "data")
    prepare(place)
    return place


def anat(place):
    return sorted((place.output_dir / "sub-01" / "anat").iterdir())


def test_saved_derivatives_are_complete(job, settings, place, outputs):
    assert not is_complete(job, settings, place.output_dir)
    record = save(job, settings, place, outputs)
    assert is_complete(job, settings, place.output_dir)
    assert not is_complete(
        job,
        replace(settings, registration=completed({**settings.registration, "seed": 2})),
        place.output_dir,
    )
    names = {path.name for path in anat(place)}
    images = {name for output, name in job.files().items() if output in outputs}
    assert names == images | {f"{name.split('.')[0]}.json" for name in images} | {record.name}
    content = json.loads(record.read_text())
    assert content["similarity"]["after"] == 0.75
    assert content["job"]["participant_id"] == "sub-01"
    job.moving.path.write_bytes(b"another image")
    assert not is_complete(job, settings, place.output_dir)


def test_sidecars_have_sources_and_parameters(job, cohort, settings, place, outputs):
    save(job, settings, place, outputs)
    sidecar = json.loads(
        (anat(place)[0].parent / job.in_space("desc-preproc_T1w.json")).read_text()
    )
    assert sidecar["Sources"] == ["bids:raw:sub-01_T1w.nii.gz"]
    assert sidecar["SpatialReference"] == "MNI152NLin2009aSym (MNI152)"
    assert sidecar["SkullStripped"] is True
    assert sidecar["Parameters"]["fixed"] == "MNI152"
    pair = plan(cohort, replace(settings, fixed=PAIRWISE))[0]
    save(pair, settings, place, outputs)
    folder = place.output_dir / pair.moving.folder
    sidecar = json.loads((folder / pair.in_space("desc-preproc_T1w.json")).read_text())
    assert sidecar["SpatialReference"] == "bids:raw:sub-01_T1w.nii.gz"


def test_the_same_voxels_give_the_same_bytes(job, settings, place, outputs, tmp_path):
    image = job.files()["warped_image"]
    stored = []
    for level in (1, 9):
        data = gzip.compress(gzip.decompress(Path(outputs["warped_image"]).read_bytes()), level)
        (tmp_path / f"{level}.nii.gz").write_bytes(data)
        changed = {**outputs, "warped_image": str(tmp_path / f"{level}.nii.gz")}
        save(job, settings, place, changed)
        stored.append((place.output_dir / job.moving.folder / image).read_bytes())
    assert stored[0] == stored[1]
    assert gzip.decompress(stored[0]) == gzip.decompress(data)


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_a_damaged_file_makes_the_set_incomplete(damage, job, settings, place, outputs):
    record = save(job, settings, place, outputs)
    for file in anat(place):
        whole = file.read_bytes()
        if damage == "remove":
            file.unlink()
        else:
            file.write_bytes(whole[:-1])
        if file != record or damage == "remove":
            assert not is_complete(job, settings, place.output_dir), file
        file.write_bytes(whole)
        assert is_complete(job, settings, place.output_dir)
    record.write_text(record.read_text()[:100])
    assert not is_complete(job, settings, place.output_dir)


def test_a_run_that_ends_early_leaves_no_complete_set(
    job, settings, place, outputs, monkeypatch, tmp_path
):
    save(job, settings, place, outputs)
    count, copied = 0, shutil.copyfile  # of the transforms, which come first

    def copy(source, target):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return copied(source, target)

    monkeypatch.setattr(derivatives.shutil, "copyfile", copy)
    with pytest.raises(KeyboardInterrupt):
        save(job, settings, place, outputs)
    monkeypatch.undo()
    assert not is_complete(job, settings, place.output_dir)
    assert not [path for path in anat(place) if path.name.startswith(".")]
    save(job, settings, place, outputs)
    assert is_complete(job, settings, place.output_dir)


def test_temporary_files_of_a_killed_run_are_removed(job, settings, place, outputs, tmp_path):
    save(job, settings, place, outputs)
    names = (".0123456789abcdef.nii.gz", ".quicksilver-host-12-0123456789abcdef.html")
    folders = (place.output_dir, anat(place)[0].parent, place.output_dir / "sub-02" / "ses-1")
    folders[-1].mkdir(parents=True)
    own = [folder / ".hidden" for folder in folders]
    folder = place.output_dir / "sub-02" / ".0123456789abcdef"
    folder.mkdir()
    left = [folder / name for folder in folders for name in names]
    for path in (*left, *own):
        path.touch()
    prepare(place)
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in (*own, folder))
    assert is_complete(job, settings, place.output_dir)


def test_files_of_an_earlier_set_that_are_not_written_again_are_removed(
    job, settings, place, outputs, monkeypatch
):
    monkeypatch.setattr(derivatives, "_is_stripped", lambda image, mask: True)
    image = outputs["warped_image"]
    save(job, settings, place, {**outputs, "uncertainty": image, "brain_mask": image})
    names = {path.name for path in anat(place)}
    save(job, settings, place, outputs)
    removed = names - {path.name for path in anat(place)}
    uncertainty = job.files()["uncertainty"]
    assert removed == {uncertainty, uncertainty.replace(".nii.gz", ".json")}
    assert is_complete(job, settings, place.output_dir)


@pytest.mark.parametrize("stem", ["sub-01_dseg", "aparc.a2009s+aseg"])
def test_a_label_table_goes_with_the_labels(stem, job, settings, place, outputs, tmp_path):
    labels = tmp_path / "data" / f"{stem}.nii.gz"
    labels.touch()
    labels.with_name("aparc.tsv").write_text("index\tname\n1\tanother\n")
    labels.with_name(f"{stem}.tsv").write_text("index\tname\n1\tbrain\n")
    job = replace(job, moving=replace(job.moving, labels=labels))
    save(job, settings, place, {**outputs, "warped_labels": outputs["warped_image"]})
    table = place.output_dir / job.moving.folder / job.in_space("dseg.tsv")
    assert table.read_text() == "index\tname\n1\tbrain\n"


def test_a_report_belongs_to_the_set(job, settings, place, outputs, tmp_path):
    (tmp_path / "report.html").write_text("<html></html>")
    save(job, settings, place, {**outputs, "report": str(tmp_path / "report.html")})
    page = place.output_dir / "sub-01_to-MNI152NLin2009aSym.html"
    assert page.read_text() == "<html></html>"
    assert is_complete(job, settings, place.output_dir)
    page.unlink()
    assert not is_complete(job, settings, place.output_dir)
