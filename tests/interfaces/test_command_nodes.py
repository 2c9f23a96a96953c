"""The nodes over the command, run on a small pair."""

import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import Node
from nipype.interfaces.base import Undefined, isdefined
from nipype.pipeline.engine.nodes import NodeExecutionError

from nipype_quicksilver import interfaces
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.momentum import read_momentum
from tests.helpers.tiny_networks import save_unet

ITERATIONS = [10, 4, 1, 1]


def load(path):
    return np.asanyarray(nib.load(path).dataobj)


def registration(pair):
    return interfaces.QuicksilverRegistration(
        fixed_image=pair.fixed,
        moving_image=pair.moving,
        fixed_image_mask=pair.fixed_mask,
        moving_image_mask=pair.moving_mask,
        fixed_labels=pair.fixed_labels,
        moving_labels=pair.moving_labels,
        initial_moving_transform=pair.affine,
        brain_extraction="none",
        method="optimize",
        iterations=ITERATIONS,
        random_seed=3,
    )


@pytest.fixture(scope="module")
def registered(pair, tmp_path_factory):
    """Outputs of the whole registration, run by a Node."""
    folder = tmp_path_factory.mktemp("registered")
    node = Node(registration(pair), name="register", base_dir=folder, n_procs=1)
    return node, node.run().outputs


def test_registration_writes_everything(registered, pair):
    node, outputs = registered
    folder = Path(node.output_dir()) / "registration"
    files = {name: value for name, value in outputs.trait_get().items() if isinstance(value, str)}
    assert len(files) == 10
    assert {Path(file).parent for file in files.values()} == {folder}
    summary = json.loads(Path(outputs.summary).read_text())
    assert summary["parameters"]["seed"] == 3
    assert summary["labels"]["after"]["mean"]["dice"] > 0.5
    assert summary["inputs"]["affine"] == str(pair.affine)


def test_registration_gives_transforms_that_apply(registered, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, outputs = registered
    for moving, fixed, files, flags, warped in (
        (
            pair.moving,
            pair.fixed,
            outputs.reverse_forward_transforms,
            outputs.reverse_forward_invert_flags,
            outputs.warped_image,
        ),
        (
            pair.fixed,
            pair.moving,
            outputs.reverse_transforms,
            outputs.reverse_invert_flags,
            outputs.inverse_warped_image,
        ),
    ):
        node = interfaces.ApplyTransforms(input_image=moving, reference_image=fixed)
        node.inputs.transforms = files
        node.inputs.invert_transform_flags = flags
        applied = node.run().outputs.output_image
        np.testing.assert_allclose(load(applied), load(warped), atol=1e-2)
    assert outputs.forward_transforms == [outputs.composite_transform]
    assert outputs.reverse_transforms == [outputs.inverse_composite_transform]


def test_registration_runs_again_only_for_other_results(registered, pair):
    node, outputs = registered
    written = Path(outputs.summary).stat().st_mtime_ns
    same = Node(registration(pair), name="register", base_dir=node.base_dir, n_procs=2)
    same.inputs.use_gpu = True
    assert Path(same.run().outputs.summary).stat().st_mtime_ns == written
    other = Node(registration(pair), name="register", base_dir=node.base_dir)
    other.inputs.interpolation = "NearestNeighbor"
    # The program does not exist any more: a run fails.
    other.interface._cmd = "nothing"
    with pytest.raises(NodeExecutionError, match=r"quicksilver: error: .*nothing"):
        other.run()


def test_registration_by_networks(pair, tiny_networks, tmp_path):
    node = interfaces.QuicksilverRegistration(
        fixed_image=pair.fixed,
        moving_image=pair.moving,
        initial_moving_transform=pair.affine,
        brain_extraction="none",
        method="correct",
        corrections=2,
        prediction_network=tiny_networks["probabilistic"],
        n_samples=2,
        uncertainty_components=True,
    )
    outputs = node.run(cwd=tmp_path).outputs
    parameters = json.loads(Path(outputs.summary).read_text())["parameters"]
    assert (parameters["method"], parameters["corrections"], parameters["samples"]) == (
        "correct",
        2,
        2,
    )
    assert load(outputs.uncertainty).max() > 0
    assert load(outputs.uncertainty_components).shape == (*load(pair.fixed).shape, 3)


@pytest.fixture
def predicting(conformed_pair, tiny_networks):
    """A node that predicts for the conformed pair."""
    return interfaces.PredictMomentum(
        fixed_image=conformed_pair["fixed"],
        moving_image=conformed_pair["moving"],
        fixed_image_mask=conformed_pair["fixed_mask"],
        prediction_network=tiny_networks["prediction_network"],
        correction_network=tiny_networks["correction_network"],
    )


def test_predict(predicting, tmp_path):
    outputs = predicting.run(cwd=tmp_path).outputs
    assert Path(outputs.momentum).name == "moving_momentum.nii.gz"
    assert np.any(read_momentum(outputs.momentum).data)
    parameters = json.loads(Path(outputs.summary).read_text())["parameters"]
    assert parameters["corrections"] == 1
    assert not isdefined(outputs.uncertainty)
    assert {path.name for path in tmp_path.iterdir()} == {
        "moving_momentum.nii.gz",
        "moving_momentum.json",
    }


def test_predict_samples(predicting, tiny_networks, tmp_path):
    predicting.inputs.prediction_network = tiny_networks["probabilistic"]
    predicting.inputs.correction_network = Undefined
    predicting.inputs.corrections = 0
    predicting.inputs.n_samples = 2
    predicting.inputs.out_uncertainty_components = "parts.nii.gz"
    outputs = predicting.run(cwd=tmp_path).outputs
    assert Path(outputs.uncertainty).name == "moving_uncertainty.nii.gz"
    parts = load(outputs.uncertainty_components)
    np.testing.assert_allclose(load(outputs.uncertainty), np.sqrt(parts.sum(-1)), rtol=1e-5)


def test_predict_runs_again_for_other_weights_only(predicting, tiny_networks, tmp_path):
    inputs = predicting.inputs
    before = inputs.get_hashval()[1]
    inputs.use_gpu, inputs.num_threads = True, 2
    assert inputs.get_hashval()[1] == before
    inputs.prediction_network = save_unet(tmp_path / "other.safetensors", seed=3)
    assert inputs.get_hashval()[1] != before


@pytest.fixture(scope="module")
def momentum(pair, tmp_path_factory):
    """A momentum that the node estimates, without the scripts' folder on the PATH."""
    folder = tmp_path_factory.mktemp("momentum")
    images = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        conformed = interfaces.ConformToGrid(in_file=pair.fixed).run().outputs
        images["fixed_image"] = conformed.out_file
        images["fixed_image_mask"] = conformed.out_mask
        node = interfaces.ConformToGrid(in_file=pair.moving, affine=pair.affine)
        node.inputs.reference_image = conformed.out_file
        images["moving_image"] = node.run().outputs.out_file
        for name in ("fixed_image", "moving_image"):
            node = interfaces.NormalizeIntensity(in_file=images[name])
            images[name] = node.run().outputs.out_file
        patch.setenv("PATH", os.defpath)
        optimize = interfaces.OptimizeMomentum(**images, iterations=ITERATIONS)
        return optimize, optimize.run(cwd=folder)


def test_optimize(momentum):
    _, result = momentum
    assert result.runtime.cmdline.startswith(f"{sys.executable} -m nipype_quicksilver optimize")
    outputs = result.outputs
    assert Path(outputs.momentum).name == "moving_conformed_normalized_momentum.nii.gz"
    assert np.any(read_momentum(outputs.momentum).data)
    assert json.loads(Path(outputs.summary).read_text())


def test_optimize_refines(momentum, tmp_path):
    node, result = momentum
    refine = interfaces.OptimizeMomentum(**node.inputs.get_traitsfree())
    refine.inputs.initial_momentum = result.outputs.momentum
    refined = read_momentum(refine.run(cwd=tmp_path).outputs.momentum).data
    assert np.any(refined != read_momentum(result.outputs.momentum).data)


def test_shoot(momentum, tmp_path):
    _, result = momentum
    outputs = interfaces.ShootGeodesic(momentum=result.outputs.momentum).run(cwd=tmp_path).outputs
    forward = transforms.read_transform(outputs.displacement)
    inverse = transforms.read_transform(outputs.inverse_displacement)
    points = np.array([[2.0, 3.0, -1.0], [-5.0, 6.0, 2.0]])
    there = transforms.map_points(forward, points)
    assert np.abs(there - points).max() > 0.05
    np.testing.assert_allclose(transforms.map_points(inverse, there), points, atol=0.1)
    working = tuple(2 * n for n in load(result.outputs.momentum).shape[:3])
    assert load(outputs.log_jacobian).shape == working
    assert json.loads(Path(outputs.summary).read_text())["energy"]["initial"] > 0


def test_error_of_the_command_is_reported(tmp_path):
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_text("nothing")
    node = Node(interfaces.ShootGeodesic(momentum=damaged), name="shoot", base_dir=tmp_path)
    with pytest.raises(NodeExecutionError, match=r"quicksilver: error: .*damaged\.nii\.gz: "):
        node.run()
    # An interface that is run alone says why in its first line.
    with pytest.raises(RuntimeError, match=r"^quicksilver: error: .*damaged\.nii\.gz: "):
        interfaces.ShootGeodesic(momentum=damaged).run(cwd=tmp_path)
