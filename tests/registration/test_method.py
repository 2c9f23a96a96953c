"""Methods of the registration that predict, through `register`, with tiny networks."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

import nipype_quicksilver
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import REFINEMENT_STAGES, SCHEDULES, Settings, Stage
from nipype_quicksilver.methods import METHODS, methods_that
from nipype_quicksilver.options import completed
from nipype_quicksilver.registration.conformed import optimize_files, predict_files
from nipype_quicksilver.registration.method import choose_method, choose_settings
from nipype_quicksilver.registration.pair import ScanFiles
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import write_momentum
from nipype_quicksilver.spatial.records import as_json
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
        for name, each in (("matching", values), ("opposite", 1.01 - values))
    ]


def test_a_method_has_what_it_uses():
    chosen = {name: choose_method(completed({"method": name})) for name in METHODS}
    corrections = {name: method.corrections for name, method in chosen.items() if method.predictor}
    assert corrections == {
        name: int(traits.corrects) for name, traits in METHODS.items() if traits.predicts
    }
    assert len(chosen["correct"].predictor.files) == 2
    assert len(chosen["predict"].predictor.files) == 1
    assert chosen["refine"].settings == SCHEDULES["refine"]
    assert chosen["optimize"].settings == SCHEDULES["full"]


def test_settings_of_a_schedule_are_changed():
    assert choose_settings("full") == SCHEDULES["full"]
    stages = SCHEDULES["full"].stages
    changed = choose_settings("full", "mind", (0, *range(3, 2 + len(stages))))
    assert changed.similarity == "mind"
    assert [stage.iterations for stage in changed.stages] == [*range(3, 2 + len(stages))]
    assert [stage.image for stage in changed.stages] == [stage.image for stage in stages[1:]]
    with pytest.raises(InputError, match="one stage must have iterations"):
        choose_settings("refine", iterations=(0,))


def after(result):
    return result.summary.similarity.after


def test_each_method_brings_the_images_closer(results):
    before = results["predict"].summary.similarity.before
    predicted, corrected, again, refined = (
        after(results[name]) for name in ("predict", "correct", "correct3", "refine")
    )
    # Both continue from one correction.
    assert before + 0.05 < predicted < corrected < min(again, refined)
    for result in results.values():
        assert result.summary.jacobian.folded == 0
        assert result.summary.inverse_consistency_mm.mean < 0.05


def test_the_summary_describes_the_method(results, tiny_networks):
    files = [str(tiny_networks[f"{role}_network"]) for role in ("prediction", "correction")]
    expected = {
        "predict": (files[:1], 0, 4),
        "correct": (files, 1, 2),
        "correct3": (files, 3, 2),
        "refine": (files, 1, 2),
    }
    for name, (used, corrections, factor) in expected.items():
        summary = results[name].summary
        parameters = summary.parameters
        assert parameters.method == name.rstrip("3")
        assert parameters.networks == used
        assert parameters.corrections == corrections
        assert parameters.samples == 0
        assert parameters.kernel == Settings().kernel.as_dict()
        assert summary.velocity_grid.spacing == [factor] * 3
        assert "predict" in summary.seconds
        assert ("optimize" in summary.seconds) == (name == "refine")
        assert results[name].uncertainty is None
    assert "stages" not in as_json(results["correct"].summary)["parameters"]
    refined = results["refine"].summary
    assert refined.parameters.seed == 5
    stages = [stage.iterations_at_most for stage in refined.stages]
    assert stages == [stage.iterations for stage in REFINEMENT_STAGES]
    assert json.dumps(as_json(refined), allow_nan=False)


def test_a_coarse_prediction_is_refined_on_the_finer_grid(register, tiny_networks):
    alone = register("refine", correction_network=None)
    assert alone.summary.parameters.networks == [str(tiny_networks["prediction_network"])]
    assert alone.summary.velocity_grid.spacing == [2.0] * 3
    assert after(alone) > after(register("correct", correction_network=None))


def test_a_lesion_changes_the_prediction(pair, register, results, tmp_path):
    image = nib.load(pair.fixed)
    grid = Grid.from_image(image)
    lesion = np.linalg.norm(grid.coordinates() - (6, 4, 2), axis=-1) < 4.5
    path = images.write_image(tmp_path / "lesion.nii.gz", lesion, grid.affine)
    hidden = register("correct", fixed_lesion_mask=path)
    assert hidden.summary.masks["fixed_lesion_mask"].used
    moved = np.abs(hidden.displacement - results["correct"].displacement).max(axis=-1)
    assert moved[lesion].max() > 0.05


@pytest.fixture(scope="module")
def sampled(register, tiny_networks):
    options = {"prediction_network": tiny_networks["probabilistic"], "correction_network": None}
    return register("correct", **options, samples=3, uncertainty_components=True, seed=1)


@pytest.mark.parametrize("method", ["predict", "optimize"])
def test_opposite_contrasts_are_registered_as_matching_ones(pair, opposite, tmp_path, method):
    options = {"settings": Settings(stages=(Stage(4, 4, 3),))}
    if method == "predict":
        network = save_unet(tmp_path / "net.safetensors", changes={"match_contrast": True})
        options = {"prediction_network": network}
    matching, exchanged = (
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
    recorded = [each.summary.parameters.contrast_exchanged for each in (matching, exchanged)]
    assert recorded == [None, "moving"]
    # The edges differ, where voxels of 2 mm mix brain and outside; inside the momenta are similar.
    momenta = [each.momentum.data.ravel() for each in (matching, exchanged)]
    assert np.corrcoef(*momenta)[0, 1] > 0.6
    assert after(exchanged) > exchanged.summary.similarity.before + 0.02


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
    spread = sampled.summary.uncertainty_mm
    assert spread.mean == pytest.approx(values.astype(float).mean(), rel=1e-4)
    assert spread.max == pytest.approx(values.max(), rel=1e-4)
    assert sampled.summary.parameters.samples == 3
    assert 0 <= sampled.summary.parameters.share_of_prediction <= 1


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
    pair = [
        ScanFiles(conformed_pair[side], conformed_pair[f"{side}_mask"])
        for side in ("fixed", "moving")
    ]
    networks = {name: tiny_networks[name] for name in ("prediction_network", "correction_network")}
    predicted = predict_files(*pair, networks, device=CPU)
    assert predicted.variance is None
    wanted = results["correct"].momentum
    largest = np.abs(wanted.data).max()
    np.testing.assert_allclose(predicted.momentum.data, wanted.data, atol=2e-2 * largest)
    path = write_momentum(tmp_path / "momentum.nii.gz", predicted.momentum)
    refined = optimize_files(
        *pair, initial_momentum=path, settings=SCHEDULES["refine"], device=CPU, seed=0
    )
    assert refined.summary.similarity.after == pytest.approx(after(results["refine"]), 5e-3)


def test_networks_of_another_voxel_size_are_refused(
    register, conformed_pair, tiny_networks, tmp_path
):
    coarse = save_unet(tmp_path / "coarse.safetensors", changes={"spacing": 2.0})
    message = r"coarse.safetensors: was trained for voxels of 2 mm, not for the 1 mm"
    with pytest.raises(InputError, match=message):
        register("correct", prediction_network=coarse, correction_network=None)
    pair = []
    for name in ("fixed", "moving"):
        data = np.asanyarray(nib.load(conformed_pair[name]).dataobj)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        pair.append(ScanFiles(images.write_image(tmp_path / f"{name}.nii.gz", data, affine)))
    with pytest.raises(InputError, match="voxels of 1 mm, not for the 2 mm"):
        network = {"prediction_network": tiny_networks["prediction_network"]}
        predict_files(*pair, network, device=CPU)
    predicted = predict_files(*pair, {"prediction_network": coarse}, device=CPU)
    assert predicted.momentum.data.any()


def test_options_that_do_not_fit_are_refused(register, tiny_networks, tmp_path):
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
    with pytest.raises(InputError, match="samples 1: give at least 2"):
        register(samples=1)
    with pytest.raises(InputError, match="uncertainty components: needs samples; give both"):
        register(uncertainty_components=True)
    with pytest.raises(InputError, match=r"missing.safetensors: no such file"):
        register(prediction_network=tmp_path / "missing.safetensors")
    with pytest.raises(
        InputError, match=f"does not use settings; .* choose {methods_that('optimizes')}"
    ):
        register(settings=Settings(similarity="mind"))
    with pytest.raises(InputError, match="does not use prediction network"):
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
