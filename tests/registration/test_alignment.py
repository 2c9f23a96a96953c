"""From heads to aligned brains, and what is kept of it."""

import json
import shutil
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

import nipype_quicksilver
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.lddmm.settings import Settings, Stage
from nipype_quicksilver.preprocessing import affine, brain
from nipype_quicksilver.preprocessing.external import Engine
from nipype_quicksilver.preprocessing.templates import template_file
from nipype_quicksilver.registration import alignment, frames, pipeline
from nipype_quicksilver.registration.pair import Frame, read_inputs
from nipype_quicksilver.registration.preparation import prepare
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import read_image, write_image
from nipype_quicksilver.spatial.resampling import conform
from nipype_quicksilver.spatial.transforms import map_points, read_affine, write_affine
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
    return alignment.to_aligned_brains(
        read_inputs(*files),
        **options,
        work=WorkFolder(work),
        device=torch.device("cpu"),
        clock=Clock(),
    )


def test_heads_are_registered(files, network, tmp_path):
    settings = Settings(stages=(Stage(4, 4, 1),))
    result = nipype_quicksilver.register(
        *files, method="optimize", settings=settings, template=None, device="cpu"
    )
    steps = result.summary["preprocessing"]
    assert "template" not in steps
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


def test_what_a_kept_result_was_warned_of_is_told_again(tmp_path):
    def compute():
        warnings.warn("head.nii.gz: upside down", UserWarning, stacklevel=1)
        return np.eye(4), {"how": "somehow"}

    for reused in (False, True):
        with pytest.warns(UserWarning, match=r"head.nii.gz: upside down"):
            data, facts = WorkFolder(tmp_path).kept("affine", ["parts"], compute)
        np.testing.assert_array_equal(data, np.eye(4))
        assert facts == {"how": "somehow", "reused": reused}


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
    assert alignment.affine_file(matrix, "none") == matrix
    assert read_affine(matrix)[0, 3] == SHIFT[0]
    assert alignment.affine_file("simpleitk", "deepbet") is None
    with pytest.raises(InputError, match="brain extraction 'bet' is unknown"):
        alignment.affine_file(None, "bet")


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
        "optimize": {"method": "optimize", "settings": Settings(stages=(Stage(4, 4, 1),))},
        "predict": {"method": "predict", **networks, "seed": 3},
    }

    def run(name, **changes):
        options_of_run = {**options[name], "device": "cpu", "work_dir": tmp_path, **changes}
        return nipype_quicksilver.register(pair.fixed, pair.moving, **options_of_run)

    first = {name: run(name) for name in options}
    assert not any(result.summary["momentum"]["reused"] for result in first.values())
    assert run("predict", seed=4).summary["momentum"] == {"reused": False}
    assert run("optimize", fixed_mask=pair.fixed_mask).summary["momentum"]["reused"]
    monkeypatch.setattr("nipype_quicksilver.registration.fit.find_momentum", None)
    for name, result in first.items():
        again = run(name, interpolation="NearestNeighbor")
        assert again.summary["momentum"] == {"reused": True}
        assert again.summary["similarity"] == result.summary["similarity"]
        np.testing.assert_array_equal(again.displacement, result.displacement)
    np.testing.assert_array_equal(again.uncertainty, result.uncertainty)


def test_another_card_of_the_same_weights_gives_another_momentum(pair, tiny_networks, tmp_path):
    """It tells how often a network is applied; once a momentum of the older card was taken."""
    for kind in (".safetensors", ".json"):
        shutil.copy(tiny_networks["prediction_network"].with_suffix(kind), tmp_path / f"own{kind}")
    networks, work = {"prediction_network": tmp_path / "own.safetensors"}, tmp_path / "work"
    work.mkdir()

    def reused():
        result = nipype_quicksilver.register(
            pair.fixed, pair.moving, method="predict", device="cpu", work_dir=work, **networks
        )
        return result.summary["momentum"]["reused"]

    assert [reused(), reused()] == [False, True]
    card = json.loads((tmp_path / "own.json").read_text())
    card["architecture"]["parameters"]["passes"] = 2
    (tmp_path / "own.json").write_text(json.dumps(card))
    assert not reused()


def test_images_are_compared_on_the_grid_of_a_template(pair):
    def run(**options):
        return nipype_quicksilver.register(
            pair.fixed,
            pair.moving,
            fixed_labels=pair.fixed_labels,
            moving_labels=pair.moving_labels,
            affine=pair.affine,
            method="optimize",
            settings=Settings(stages=(Stage(4, 4, 12), Stage(2, 2, 8))),
            device="cpu",
            **options,
        )

    framed = run(template=pair.moving)
    grid = working_grid(native_brain(read_image(pair.moving), None))
    assert framed.momentum.working_grid.equals(grid)
    assert framed.summary["preprocessing"]["template"]["file"] == str(pair.moving)
    assert framed.summary["sha256"]["template"] == framed.summary["sha256"]["moving"]
    dice = {when: row["mean"]["dice"] for when, row in framed.summary["labels"].items()}
    assert dice["after"] > dice["before"] + 0.03
    assert framed.summary["inverse_consistency_mm"]["mean"] < 0.1
    # A fixed image is where it is in its own frame.
    own = run(template=pair.fixed)
    assert np.array_equal(own.summary["preprocessing"]["template"]["matrix"], np.eye(4))


def test_the_template_is_chosen_where_it_makes_sense(files, pair):
    people, phantoms = read_inputs(*files), read_inputs(pair.fixed, pair.moving)
    given = write_affine(files[0].parent / "given.mat", np.eye(4))
    for template, way, inputs, expected in (
        ("auto", "simpleitk", people, "MNI152"),
        ("auto", Engine("greedy", lambda *_: np.eye(4)), people, "MNI152"),
        ("auto", "simpleitk", phantoms, None),
        ("auto", "none", people, None),
        ("auto", None, people, None),
        ("auto", given, people, None),
        ("MNI152", "none", phantoms, "MNI152"),
        (files[0], "none", people, files[0]),
        ("none", "simpleitk", people, None),
        (None, "simpleitk", people, None),
    ):
        assert frames.chosen_template(template, way, inputs) == expected


@pytest.fixture(scope="module")
def coarse_template(tmp_path_factory):
    """The template at 2 mm, elsewhere in the world: a human brain that is quickly aligned."""
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=2)
    data = np.asarray(image.dataobj, np.float32)
    affine = from_matvec(np.eye(3), [10, -4, 6]) @ image.affine
    return write_image(tmp_path_factory.mktemp("coarse") / "brain.nii.gz", data, affine)


def test_human_brains_are_compared_on_the_grid_of_mni152(coarse_template, tmp_path):
    # A person to himself, without iterations: it is the frame that is looked at.
    result = nipype_quicksilver.register(
        coarse_template,
        coarse_template,
        method="optimize",
        settings=Settings(stages=(Stage(8, 8, 1),)),
        device="cpu",
        work_dir=tmp_path,
    )
    facts = result.summary["preprocessing"]["template"]
    assert facts["file"] == "MNI152" and facts["used"]
    np.testing.assert_allclose(facts["matrix"], from_matvec(np.eye(3), [10, -4, 6]), atol=0.5)
    template = read_image(template_file("MNI152", tmp_path))
    grid = working_grid(native_brain(template, None))
    assert result.momentum.working_grid.equals(grid)
    assert result.summary["similarity"]["after"] > 0.99


@pytest.mark.parametrize(
    ("linear", "shift", "reason"),
    [
        (np.diag([2.0, 2, 2]), 0, r"the affine scales by 2\.00, 2\.00, 2\.00"),
        (np.eye(3), 100, r"\d+% of the fixed brain lie outside its grid"),
    ],
)
def test_brains_that_do_not_fit_the_template_stay_in_their_world(
    files, coarse_template, linear, shift, reason
):
    inputs = read_inputs(coarse_template, coarse_template)
    fixed = read_image(files[0])
    aligner = Engine("fake", lambda *_: from_matvec(linear, [0, 0, shift]))
    ways = {"brain_extraction": "none", "affine": aligner, "work": WorkFolder(None)}
    ways |= {"device": torch.device("cpu"), "clock": Clock()}
    with pytest.warns(UserWarning, match=f"does not fit the template MNI152 .{reason}") as told:
        same, facts = frames.to_frame(inputs, fixed, "MNI152", optional=True, **ways)
    assert len(told) == 1 and str(told[0].message).startswith(str(coarse_template))
    assert same is inputs and not facts["used"]
    # Who asks for a template gets it.
    framed, facts = frames.to_frame(inputs, fixed, "MNI152", optional=False, **ways)
    assert framed.frame is not None and facts["used"]


def test_transforms_lead_through_the_frame(pair):
    turn = from_matvec(Rotation.from_euler("z", 20, degrees=True).as_matrix() * 1.1, [4, -6, 2])
    inputs = read_inputs(pair.fixed, pair.moving, affine=pair.affine)
    grid = working_grid(native_brain(inputs.fixed, None), margin_mm=20)
    framed = replace(inputs, frame=Frame(grid, turn))
    prepared = prepare(framed)
    expected = conform(inputs.fixed, grid, turn)
    inside = prepared.fixed > 0
    assert np.corrcoef(prepared.fixed[inside], expected[inside])[0, 1] > 0.999
    field = np.full((*grid.shape, 3), [2.0, 0, -1], np.float32)
    maps = SimpleNamespace(inverse=field, forward=-field)
    fit = SimpleNamespace(maps=maps, momentum=SimpleNamespace(working_grid=grid))
    there, back = pipeline._transforms(fit, framed)
    points = np.array([[0.0, 0, 0], [3, 5, -2]])
    on_grid = apply_affine(np.linalg.inv(turn), points) + np.array([2, 0, -1])
    mapped = map_points(there, points)
    np.testing.assert_allclose(mapped, apply_affine(framed.affine @ turn, on_grid), atol=1e-5)
    np.testing.assert_allclose(map_points(back, mapped), points, atol=1e-5)


def test_brains_outside_the_frame_are_told(pair):
    inputs = read_inputs(pair.fixed, pair.moving)
    grid = working_grid(native_brain(inputs.fixed, None))
    for shift, expected in (
        (18, pytest.warns(UserWarning, match="of its brain lie outside")),
        (200, pytest.raises(InputError, match="lies outside the working grid")),
    ):
        frame = Frame(grid, from_matvec(np.eye(3), [shift, 0, 0]))
        with expected:
            prepare(replace(inputs, frame=frame))
