"""From heads to aligned brains, and what is kept of it."""

import json

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage

import nipype_quicksilver
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.optimize import Settings, Stage
from nipype_quicksilver.preprocessing import affine, brain
from nipype_quicksilver.preprocessing.templates import template_file
from nipype_quicksilver.registration import heads
from nipype_quicksilver.registration.inputs import read_inputs
from nipype_quicksilver.registration.summary import Clock
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import read_image, write_image
from nipype_quicksilver.spatial.transforms import read_affine, write_affine
from tests.preprocessing.conftest import brain as brain_at

SHIFT = np.array([14.0, -9.0, 6.0])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two heads, the second further on; what is brightest in them is the scalp."""
    folder = tmp_path_factory.mktemp("heads")
    grid = Grid((40, 44, 36), from_matvec(np.eye(3) * 5, [-98, -108, -88]))
    paths = []
    for name, shift in (("fixed", 0), ("moving", SHIFT)):
        data = brain_at(grid.coordinates() - shift)
        out = ndimage.distance_transform_edt(data == 0, sampling=5)
        data = np.where((out > 10) & (out <= 20), 900, np.where((out > 0) & (out <= 10), 30, data))
        paths.append(write_image(folder / f"{name}.nii.gz", data.astype(np.float32), grid.affine))
    return paths


@pytest.fixture
def network(monkeypatch):
    """The brain of the two heads instead of a network's answer."""

    def answer(image, *_):
        data = np.asanyarray(image.dataobj)
        return brain._one_piece((data > 90) & (data < 900))

    monkeypatch.setattr(brain, "_by_deepbet", answer)


def ready(files, work=None, **options):
    options = {"brain_extraction": "deepbet", "affine": "simpleitk", **options}
    return heads.to_aligned_brains(
        read_inputs(*files),
        **options,
        work=WorkFolder(work),
        device=torch.device("cpu"),
        clock=Clock(),
    )


def test_heads_are_registered(files, network, tmp_path):
    settings = Settings(stages=(Stage(4, 4, 1),))
    result = nipype_quicksilver.register(*files, settings=settings, device="cpu")
    steps = result.summary["preprocessing"]
    assert steps["fixed_brain"]["how"] == steps["moving_brain"]["how"] == "deepbet"
    points = np.array([[0.0, 0, 0], [20, 30, 10]])
    there = [result.composite.TransformPoint(p) for p in (points * [-1, -1, 1]).tolist()]
    np.testing.assert_allclose(there * np.array([-1, -1, 1]) - points, [SHIFT] * 2, atol=3)
    assert {"extract", "align"} <= set(result.summary["seconds"])
    # The head is warped, the brain is compared.
    assert result.warped.max() > 890
    assert result.summary["masks"]["fixed_mask"]["voxels"] < 1.3e6


def test_intermediate_results_are_kept_and_found_again(files, network, tmp_path, monkeypatch):
    first, facts = ready(files, tmp_path)
    assert not any(part["reused"] for part in facts.values())
    names = sorted(path.name.split("_")[0] for path in tmp_path.iterdir())
    assert names == ["affine"] + ["brainmask"] * 4

    def never(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(brain, "extract", never)
        patch.setattr(affine, "align", never)
        again, facts = ready(files, tmp_path)
    assert all(part["reused"] for part in facts.values())
    np.testing.assert_array_equal(first.affine, again.affine)
    np.testing.assert_array_equal(first.fixed_mask.dataobj, again.fixed_mask.dataobj)


def test_only_what_changed_is_computed_again(files, network, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    _, _ = ready(files, work)
    image = read_image(files[1])
    data = np.asanyarray(image.dataobj) * 1.01
    other = write_image(tmp_path / "other.nii.gz", np.minimum(data, 900), image.affine)
    _, facts = ready((files[0], other), work)
    reused = {name: part["reused"] for name, part in facts.items()}
    assert reused == {"fixed_brain": True, "moving_brain": False, "affine": False}
    for path in work.glob("*.json"):
        path.write_text("{")
    _, facts = ready(files, work)
    assert not any(part["reused"] for part in facts.values())


def test_what_is_given_is_used(files, network, tmp_path):
    inputs, facts = ready(files, brain_extraction="none", affine="none")
    assert inputs.fixed_mask is None and inputs.affine is None and facts == {}
    matrix = write_affine(tmp_path / "a.mat", from_matvec(np.eye(3), SHIFT))
    assert heads.affine_file(matrix, "none") == matrix
    assert read_affine(matrix)[0, 3] == SHIFT[0]
    assert heads.affine_file("simpleitk", "deepbet") is None
    with pytest.raises(InputError, match="brain extraction 'bet' is unknown"):
        heads.affine_file(None, "bet")


def test_what_is_too_small_for_a_head_is_taken_as_it_is(pair):
    inputs, facts = ready((pair.fixed, pair.moving))
    assert inputs.fixed_mask is None and inputs.affine is None
    assert facts["affine"] == {"how": "headers"}
    assert facts["fixed_brain"]["how"] == "stripped"


def test_template_by_name(tmp_path):
    path = template_file("MNI152", tmp_path)
    image = read_image(path)
    assert path.parent == tmp_path and image.shape[0] > 150
    assert brain.extract(image).facts["how"] == "stripped"
    corner = apply_affine(image.affine, np.argwhere(np.asanyarray(image.dataobj) > 0).mean(axis=0))
    assert np.linalg.norm(corner - [0, -22, 10]) < 25
    before = path.stat().st_mtime_ns
    assert template_file("MNI152", tmp_path).stat().st_mtime_ns == before
    assert template_file("brain.nii.gz", tmp_path).name == "brain.nii.gz"


def test_summary_is_json(files, network, tmp_path):
    _, facts = ready(files, tmp_path)
    assert json.loads(json.dumps(facts))["affine"]["dof"] == 12


def test_momenta_are_kept_and_found_again(pair, tiny_networks, tmp_path, monkeypatch):
    networks = {"prediction_network": tiny_networks["probabilistic"], "samples": 2}
    options = {
        "optimize": {"settings": Settings(stages=(Stage(4, 4, 1),))},
        "predict": {"method": "predict", **networks, "seed": 3},
    }

    def run(name, **changes):
        options_of_run = {**options[name], "device": "cpu", "work_dir": tmp_path, **changes}
        return nipype_quicksilver.register(pair.fixed, pair.moving, **options_of_run)

    first = {name: run(name) for name in options}
    assert not any(result.summary["momentum"]["reused"] for result in first.values())
    assert run("predict", seed=4).summary["momentum"] == {"reused": False}
    assert run("optimize", fixed_mask=pair.fixed_mask).summary["momentum"]["reused"]
    monkeypatch.setattr("nipype_quicksilver.registration.engine.fit", None)
    for name, result in first.items():
        again = run(name, interpolation="NearestNeighbor")
        assert again.summary["momentum"] == {"reused": True}
        assert again.summary["similarity"] == result.summary["similarity"]
        np.testing.assert_array_equal(again.displacement, result.displacement)
    np.testing.assert_array_equal(again.uncertainty, result.uncertainty)
