"""Methods of the registration that predict, through the public door, with tiny networks."""

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

import nipype_quicksilver
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import REFINEMENT_STAGES, SCHEDULES, Settings, Stage
from nipype_quicksilver.registration import pipeline
from nipype_quicksilver.registration.conformed import optimize_files, predict_files
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import write_momentum
from tests.helpers.tiny_networks import save_unet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def register(pair, tiny_networks):
    """A function that registers the pair by a method."""

    def register(method="correct", **options):
        given = {
            "fixed_mask": pair.fixed_mask,
            "moving_mask": pair.moving_mask,
            "brain_extraction": "none",
            "affine": pair.affine,
            "prediction_network": tiny_networks["prediction_network"],
            "correction_network": tiny_networks["correction_network"],
            **options,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return nipype_quicksilver.register(
            pair.fixed, pair.moving, method=method, device="cpu", **given
        )

    return register


@pytest.fixture(scope="module")
def results(register):
    """The result of each method."""
    return {
        "predict": register("predict", correction_network=None),
        "correct": register("correct"),
        "correct3": register("correct", corrections=3),
        "refine": register("refine", seed=5),
    }


@pytest.fixture(scope="module")
def opposite(pair, tmp_path_factory):
    """The moving image down to black inside its brain, and with dark and bright exchanged."""
    image, mask = nib.load(pair.moving), nib.load(pair.moving_mask)
    data, inside = np.asanyarray(image.dataobj, dtype=np.float32), np.asanyarray(mask.dataobj) > 0
    low, high = np.percentile(data[inside], (0.5, 99.5))
    values = np.clip((data - low) / (high - low), 0, 1)
    folder = tmp_path_factory.mktemp("opposite")
    return [
        images.write_image(folder / f"{name}.nii.gz", np.where(inside, each, 0), image.affine)
        for name, each in (("like", values), ("opposite", 1.01 - values))
    ]


def after(result):
    return result.summary["similarity"]["after"]


def test_each_method_brings_the_images_closer(results):
    before = results["predict"].summary["similarity"]["before"]
    predicted, corrected, again, refined = (
        after(results[name]) for name in ("predict", "correct", "correct3", "refine")
    )
    # Both go on from one correction.
    assert before + 0.05 < predicted < corrected < min(again, refined)
    for result in results.values():
        assert result.summary["jacobian"]["folded"] == 0
        assert result.summary["inverse_consistency_mm"]["mean"] < 0.05


def test_the_summary_tells_the_method(results, tiny_networks):
    files = [str(tiny_networks[f"{role}_network"]) for role in ("prediction", "correction")]
    expected = {
        "predict": (files[:1], 0, 4),
        "correct": (files, 1, 2),
        "correct3": (files, 3, 2),
        "refine": (files, 1, 2),
    }
    for name, (used, corrections, factor) in expected.items():
        summary = results[name].summary
        parameters = summary["parameters"]
        assert parameters["method"] == name.rstrip("3")
        assert parameters["networks"] == used
        assert parameters["corrections"] == corrections
        assert parameters["samples"] == 0
        assert parameters["kernel"] == Settings().kernel.as_dict()
        assert summary["velocity_grid"]["spacing"] == [factor] * 3
        assert "predict" in summary["seconds"]
        assert ("optimize" in summary["seconds"]) == (name == "refine")
        assert results[name].uncertainty is None
    assert "stages" not in results["correct"].summary["parameters"]
    refined = results["refine"].summary
    assert refined["parameters"]["seed"] == 5
    stages = [stage["iterations_at_most"] for stage in refined["stages"]]
    assert stages == [stage.iterations for stage in REFINEMENT_STAGES]
    assert json.dumps(refined, allow_nan=False)


def test_a_coarse_prediction_is_refined_on_the_finer_grid(register, tiny_networks):
    alone = register("refine", correction_network=None)
    assert alone.summary["parameters"]["networks"] == [str(tiny_networks["prediction_network"])]
    assert alone.summary["velocity_grid"]["spacing"] == [2.0] * 3
    assert after(alone) > after(register("correct", correction_network=None))


def test_a_lesion_changes_the_prediction(pair, register, results, tmp_path):
    image = nib.load(pair.fixed)
    grid = Grid.from_image(image)
    lesion = np.linalg.norm(grid.coordinates() - (6, 4, 2), axis=-1) < 4.5
    path = images.write_image(tmp_path / "lesion.nii.gz", lesion, grid.affine)
    hidden = register("correct", fixed_lesion_mask=path)
    assert hidden.summary["masks"]["fixed_lesion_mask"]["used"]
    moved = np.abs(hidden.displacement - results["correct"].displacement).max(axis=-1)
    assert moved[lesion].max() > 0.05


@pytest.fixture(scope="module")
def sampled(register, tiny_networks):
    options = {"prediction_network": tiny_networks["probabilistic"], "correction_network": None}
    return register("correct", **options, samples=3, uncertainty_components=True, seed=1)


@pytest.mark.parametrize("method", ["predict", "optimize"])
def test_opposite_contrasts_are_registered_as_like_ones(pair, opposite, tmp_path, method):
    options = {"settings": Settings(stages=(Stage(4, 4, 3),))}
    if method == "predict":
        network = save_unet(tmp_path / "net.safetensors", changes={"match_contrast": True})
        options = {"prediction_network": network}
    like, exchanged = (
        nipype_quicksilver.register(
            pair.fixed,
            moving,
            fixed_mask=pair.fixed_mask,
            moving_mask=pair.moving_mask,
            brain_extraction="none",
            affine=pair.affine,
            method=method,
            device="cpu",
            **options,
        )
        for moving in opposite
    )
    told = [each.summary["parameters"]["contrast_exchanged"] for each in (like, exchanged)]
    assert told == [None, "moving"]
    # The edges differ, where voxels of 2 mm mix brain and outside; inside the momenta are alike.
    momenta = [each.momentum.data.ravel() for each in (like, exchanged)]
    assert np.corrcoef(*momenta)[0, 1] > 0.6
    assert after(exchanged) > exchanged.summary["similarity"]["before"] + 0.02


def test_samples_give_an_uncertainty_on_the_fixed_grid(sampled, pair, tmp_path):
    files = sampled.save(tmp_path / "out")
    uncertainty, parts = (
        nib.load(files[name]) for name in ("uncertainty", "uncertainty_components")
    )
    fixed = nib.load(pair.fixed)
    assert uncertainty.shape == fixed.shape
    assert parts.shape == (*fixed.shape, 3)
    for image in (uncertainty, parts):
        np.testing.assert_array_equal(image.affine, fixed.affine)
        assert image.get_data_dtype() == np.float32
    inside = np.asanyarray(nib.load(pair.fixed_mask).dataobj) > 0
    values = np.asanyarray(uncertainty.dataobj)[inside]
    assert values.min() >= 0
    assert 1e-3 < values.mean() < 5
    total = np.sqrt(np.asanyarray(parts.dataobj).sum(axis=-1))[inside]
    np.testing.assert_allclose(values, total, atol=0.05 * values.max())  # interpolated apart
    told = sampled.summary["uncertainty_mm"]
    assert told["mean"] == pytest.approx(values.astype(float).mean(), rel=1e-4)
    assert told["max"] == pytest.approx(values.max(), rel=1e-4)
    assert sampled.summary["parameters"]["samples"] == 3
    assert 0 <= sampled.summary["parameters"]["share_of_prediction"] <= 1


def test_uncertainty_is_in_millimetres_of_the_fixed_image(sampled, pair):
    """In the frame of a template everything may be twice as large."""
    fixed, brain = nib.load(pair.fixed), nib.load(pair.fixed_mask)
    to_fixed = np.diag([0.5, 0.5, 0.5, 1])
    frame = SimpleNamespace(
        grid=Grid(fixed.shape, np.linalg.inv(to_fixed) @ fixed.affine), fixed_brain=brain
    )
    variance = np.full((*fixed.shape, 3), 3.0, np.float32)  # 3 mm there, all in all
    found = pipeline._with_uncertainty(sampled, frame, variance, to_fixed, True)
    inside = np.asanyarray(brain.dataobj) > 0
    np.testing.assert_allclose(found.uncertainty[inside], 1.5, rtol=1e-5)
    np.testing.assert_allclose(found.uncertainty_components[inside], 0.75, rtol=1e-5)


def test_nothing_of_an_earlier_registration_stays_beside_a_new_one(sampled, tmp_path):
    sampled.save(tmp_path)
    (tmp_path / "notes.txt").touch()
    before = {path.name for path in tmp_path.iterdir()}
    replace(sampled, uncertainty=None, uncertainty_components=None).save(tmp_path)
    gone = before - {path.name for path in tmp_path.iterdir()}
    assert gone == {"uncertainty.nii.gz", "uncertainty_components.nii.gz"}


def test_samples_come_from_the_seed(sampled, register, tiny_networks):
    options = {"prediction_network": tiny_networks["probabilistic"], "correction_network": None}
    again = register("correct", **options, samples=3, seed=1)
    assert np.array_equal(again.momentum.data, sampled.momentum.data)
    assert np.array_equal(again.uncertainty, sampled.uncertainty)
    assert again.uncertainty_components is None
    other = register("correct", **options, samples=3, seed=2)
    assert not np.array_equal(other.uncertainty, sampled.uncertainty)


def test_predicting_then_optimising_equals_refining(
    conformed_pair, results, tiny_networks, tmp_path
):
    pair = conformed_pair["fixed"], conformed_pair["moving"]
    masks = {name: conformed_pair[name] for name in ("fixed_mask", "moving_mask")}
    options = {"masks": masks, "device": CPU, "seed": 0}
    files = {name: tiny_networks[name] for name in ("prediction_network", "correction_network")}
    predicted = predict_files(*pair, **options, **files)
    assert predicted.variance is None
    wanted = results["correct"].momentum
    largest = np.abs(wanted.data).max()
    np.testing.assert_allclose(predicted.momentum.data, wanted.data, atol=2e-2 * largest)
    path = write_momentum(tmp_path / "momentum.nii.gz", predicted.momentum)
    refined = optimize_files(*pair, initial_momentum=path, settings=SCHEDULES["refine"], **options)
    assert refined.summary["similarity"]["after"] == pytest.approx(after(results["refine"]), 5e-3)


def test_networks_of_another_voxel_size_are_refused(
    register, conformed_pair, tiny_networks, tmp_path
):
    coarse = save_unet(tmp_path / "coarse.safetensors", changes={"spacing": 2.0})
    told = r"coarse.safetensors: was trained for voxels of 2 mm, not for the 1 mm"
    with pytest.raises(InputError, match=told):
        register("correct", prediction_network=coarse, correction_network=None)
    pair = {}
    for name in ("fixed", "moving"):
        data = np.asanyarray(nib.load(conformed_pair[name]).dataobj)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        pair[name] = images.write_image(tmp_path / f"{name}.nii.gz", data, affine)
    options = {"masks": {}, "device": CPU, "seed": 0}
    with pytest.raises(InputError, match="voxels of 1 mm, not for the 2 mm"):
        network = tiny_networks["prediction_network"]
        predict_files(*pair.values(), prediction_network=network, **options)
    assert predict_files(*pair.values(), prediction_network=coarse, **options).momentum.data.any()


def test_what_cannot_be_is_refused(register, tiny_networks, tmp_path):
    with pytest.raises(InputError, match="swap them"):
        register(
            prediction_network=tiny_networks["correction_network"],
            correction_network=tiny_networks["prediction_network"],
        )
    other = save_unet(tmp_path / "other.safetensors", changes={"steps": 5})
    with pytest.raises(InputError, match="give two networks that belong together"):
        register(correction_network=other)
    with pytest.raises(InputError, match="has no dropout"):
        register(samples=5)
    with pytest.raises(InputError, match="samples: 1 tell no spread"):
        register(samples=1)
    with pytest.raises(InputError, match="none without samples"):
        register(uncertainty_components=True)
    with pytest.raises(InputError, match=r"missing.safetensors: no such file"):
        register(prediction_network=tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match=r"no use for settings; .* take refine or optimize"):
        register(settings=Settings(similarity="mind"))
    with pytest.raises(InputError, match="has no use for prediction network"):
        register("optimize")


def test_maps_are_those_of_the_momentum(results, tmp_path):
    """What is shot later is what was registered."""
    result = results["correct"]
    path = write_momentum(tmp_path / "momentum.nii.gz", result.momentum)
    out = tmp_path / "shot"
    shot = ["shoot", "--momentum", str(path), "--output-dir", str(out), "--device", "cpu"]
    assert main([*shot, "--quiet"]) == 0
    field, grid = transforms.read_displacement(out / "displacement.nii.gz")
    whole = transforms.displacement_on_grid(result.composite, grid)
    np.testing.assert_allclose(field + np.array([3, 0, 0]), whole, atol=1e-3)
