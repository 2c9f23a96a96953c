"""Intermediate results that are kept in a work folder."""

import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch

import nipype_quicksilver
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.lddmm.settings import Settings, Stage
from nipype_quicksilver.options import completed
from nipype_quicksilver.preprocessing import affine, brain
from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.registration import alignment
from nipype_quicksilver.registration.pair import ScanFiles, read_pair
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.images import read_image, write_image
from nipype_quicksilver.spatial.records import as_json


def aligned(files, folder):
    """Align two heads with a work folder; return pair and preprocessing."""
    context = alignment.Context(completed({}), WorkFolder(folder), torch.device("cpu"), Clock())
    return alignment.to_aligned_brains(read_pair(*map(ScanFiles, files)), context)


def reused(preprocessing):
    """Return whether each step was read from the work folder."""
    return {name: step["reused"] for name, step in as_json(preprocessing).items()}


def test_masks_and_affine_are_kept_and_reused(heads, network, tmp_path, monkeypatch):
    first, preprocessing = aligned(heads, tmp_path)
    assert len(reused(preprocessing)) == 3 and not any(reused(preprocessing).values())
    names = sorted(path.name.split("_")[0] for path in tmp_path.iterdir())
    assert names == ["affine"] + ["brainmask"] * 4

    def never(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(brain, "extract", never)
        patch.setattr(affine, "align", never)
        again, preprocessing = aligned(heads, tmp_path)
    assert all(reused(preprocessing).values())
    np.testing.assert_array_equal(first.affine, again.affine)
    np.testing.assert_array_equal(first.fixed.mask.dataobj, again.fixed.mask.dataobj)


def test_warnings_of_a_kept_result_are_repeated(tmp_path):
    def compute():
        warnings.warn("head.nii.gz: upside down", UserWarning, stacklevel=1)
        return np.eye(4), AffineSummary(how="somehow")

    for again in (False, True):
        with pytest.warns(UserWarning, match=r"head.nii.gz: upside down"):
            data, summary = WorkFolder(tmp_path).reuse_or_compute(
                "affine", ["parts"], compute, AffineSummary
            )
        np.testing.assert_array_equal(data, np.eye(4))
        assert summary == AffineSummary(how="somehow", reused=again)


def test_only_what_changed_is_computed_again(heads, network, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    aligned(heads, work)
    image = read_image(heads[1])
    data = np.asanyarray(image.dataobj) * 1.01
    other = write_image(tmp_path / "other.nii.gz", np.minimum(data, 900), image.affine)
    _, preprocessing = aligned((heads[0], other), work)
    expected = {"fixed_brain": True, "moving_brain": False, "affine": False}
    assert reused(preprocessing) == expected
    for path in work.glob("*.json"):
        path.write_text("{")
    _, preprocessing = aligned(heads, work)
    assert not any(reused(preprocessing).values())


@pytest.mark.parametrize("content", ['{"scales": "large"}', "[]", '{"how": 3}', "null"])
def test_a_damaged_record_is_computed_again(content, tmp_path):
    def compute():
        return np.eye(4), AffineSummary(how="somehow")

    folder = WorkFolder(tmp_path)
    folder.reuse_or_compute("affine", ["parts"], compute, AffineSummary)
    (record,) = tmp_path.glob("*.json")
    record.write_text(content)
    _, summary = folder.reuse_or_compute("affine", ["parts"], compute, AffineSummary)
    assert not summary.reused
    _, summary = folder.reuse_or_compute("affine", ["parts"], compute, AffineSummary)
    assert summary.reused


def test_nothing_is_kept_without_a_folder():
    summary = WorkFolder(None).reuse_or_compute(
        "affine", [], lambda: (np.eye(4), AffineSummary()), None
    )[1]
    assert summary.reused is None and as_json(summary) == {}


def test_momenta_are_kept_and_reused(pair, tiny_networks, tmp_path, monkeypatch):
    networks = {"prediction_network": tiny_networks["probabilistic"], "samples": 2}
    options = {
        "optimize": {"method": "optimize", "settings": Settings(stages=(Stage(4, 4, 1),))},
        "predict": {"method": "predict", **networks, "seed": 3},
    }

    def run(name, **changes):
        options_of_run = {**options[name], "device": "cpu", "work_dir": tmp_path, **changes}
        return nipype_quicksilver.register(pair.fixed, pair.moving, **options_of_run)

    first = {name: run(name) for name in options}
    assert not any(result.summary.momentum.reused for result in first.values())
    assert as_json(run("predict", seed=4).summary)["momentum"] == {"reused": False}
    assert run("optimize", fixed_mask=pair.fixed_mask).summary.momentum.reused
    monkeypatch.setattr("nipype_quicksilver.registration.work_folder.find_momentum", None)
    for name, result in first.items():
        again = run(name, interpolation="NearestNeighbor")
        assert as_json(again.summary)["momentum"] == {"reused": True}
        assert again.summary.similarity == result.summary.similarity
        np.testing.assert_array_equal(again.displacement, result.displacement)
    np.testing.assert_array_equal(again.uncertainty, result.uncertainty)


def test_another_card_of_the_same_weights_gives_another_momentum(pair, tiny_networks, tmp_path):
    """The card stores how often a network is applied; the momentum of another card is not used."""
    for kind in (".safetensors", ".json"):
        shutil.copy(tiny_networks["prediction_network"].with_suffix(kind), tmp_path / f"own{kind}")
    networks, work = {"prediction_network": tmp_path / "own.safetensors"}, tmp_path / "work"
    work.mkdir()

    def is_reused():
        result = nipype_quicksilver.register(
            pair.fixed, pair.moving, method="predict", device="cpu", work_dir=work, **networks
        )
        return result.summary.momentum.reused

    assert [is_reused(), is_reused()] == [False, True]
    card = json.loads((tmp_path / "own.json").read_text())
    card["architecture"]["parameters"]["passes"] = 2
    (tmp_path / "own.json").write_text(json.dumps(card))
    assert not is_reused()


def kept_mask(folder, value, parts=("parts",)):
    """Keep a mask of one value, or get it from the folder; return it, and whether it was reused."""
    like = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    mask = np.full((4, 5, 6), value, np.uint8)
    mask[0] = 0
    data, summary = WorkFolder(folder).reuse_or_compute(
        "mask", list(parts), lambda: (mask, BrainSummary("somehow")), BrainSummary, like
    )
    return data, summary.reused


def other_grid(files):
    write_image(files[".nii.gz"], np.ones((4, 5, 6), np.uint8), np.diag([2.0, 2, 2, 1]))


def other_shape(files):
    write_image(files[".nii.gz"], np.ones((9, 9, 9), np.uint8), np.eye(4))


def other_voxels(files):
    write_image(files[".nii.gz"], np.ones((4, 5, 6), np.uint8), np.eye(4))


def cut(files):
    files[".nii.gz"].write_bytes(files[".nii.gz"].read_bytes()[:-9])


def other_warnings(files):
    content = json.loads(files[".json"].read_text())
    files[".json"].write_text(json.dumps({**content, "warnings": 3}))


def deep(files):
    files[".json"].write_text("[" * 100_000)


@pytest.mark.parametrize(
    "damage", [other_grid, other_shape, other_voxels, cut, other_warnings, deep]
)
def test_kept_files_that_were_changed_are_computed_again(damage, tmp_path):
    assert not kept_mask(tmp_path, 1)[1]
    assert kept_mask(tmp_path, 1)[1]
    damage({"".join(path.suffixes): path for path in tmp_path.iterdir()})
    data, reused = kept_mask(tmp_path, 1)
    assert not reused and data.shape == (4, 5, 6) and not data[0].any()
    assert kept_mask(tmp_path, 1)[1]


def test_files_of_another_result_under_the_name_are_not_used(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    for folder, parts in ((first, "first"), (second, "second")):
        folder.mkdir()
        kept_mask(folder, 1, (parts,))
    for suffix in (".json", ".nii.gz"):
        (theirs,), (ours,) = second.glob(f"*{suffix}"), first.glob(f"*{suffix}")
        shutil.copy(theirs, ours)
    assert not kept_mask(first, 1, ("first",))[1]


@pytest.mark.parametrize("matrix", [np.full((4, 4), np.nan), np.zeros((4, 4)), np.eye(4)[:3]])
def test_a_kept_matrix_that_is_no_affine_is_computed_again(matrix, tmp_path):
    def keep(value):
        return WorkFolder(tmp_path).reuse_or_compute(
            "affine", ["parts"], lambda: (value, AffineSummary(how="somehow")), AffineSummary
        )

    if np.isfinite(matrix).all():
        keep(matrix)
    else:
        keep(np.eye(4))
        (record,) = tmp_path.glob("*.json")
        record.write_text(record.read_text().replace("1.0", "NaN"))
    data, summary = keep(np.eye(4))
    assert not summary.reused
    np.testing.assert_array_equal(data, np.eye(4))


def test_a_momentum_of_another_pair_under_the_name_is_computed_again(pair, tmp_path):
    def run(folder, iterations):
        settings = Settings(stages=(Stage(4, 4, iterations),))
        options = {"method": "optimize", "settings": settings, "device": "cpu"}
        folder.mkdir(exist_ok=True)
        return nipype_quicksilver.register(pair.fixed, pair.moving, work_dir=folder, **options)

    first = run(tmp_path / "1", 1)
    run(tmp_path / "2", 2)
    for suffix in (".json", ".nii.gz"):
        (theirs,) = (tmp_path / "2").glob(f"momentum*{suffix}")
        (ours,) = (tmp_path / "1").glob(f"momentum*{suffix}")
        shutil.copy(theirs, ours)
    again = run(tmp_path / "1", 1)
    assert not again.summary.momentum.reused
    np.testing.assert_array_equal(again.displacement, first.displacement)
