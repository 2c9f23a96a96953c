"""The paper's training as a workflow, on brains of a few thousand voxels."""

import json
from pathlib import Path

import pytest

from nipype_quicksilver.workflows import init_training_wf
from nipype_quicksilver.workflows.training import RECIPES, sample_pairs


def test_pairs_are_of_two_images_and_come_once():
    images = list("abcde")
    fixed, moving = sample_pairs(images, 12, 3)
    pairs = list(zip(fixed, moving, strict=True))
    assert len(set(pairs)) == 12 and all(a != b for a, b in pairs)
    assert sample_pairs(images, 12, 3) == (fixed, moving) != sample_pairs(images, 12, 4)
    everything = set(zip(*sample_pairs(images, 100, 0), strict=True))
    assert everything == {(a, b) for a in images for b in images if a != b}
    with pytest.raises(ValueError, match="a pair needs two images"):
        sample_pairs(["a"], 1, 0)


def test_resources():
    workflow = init_training_wf(omp_nthreads=3, use_gpu=True, seed=5)
    for name in ("optimize", "prediction_dataset", "train_prediction", "train_correction"):
        node = workflow.get_node(name)
        assert node.n_procs == 1 and node.interface.inputs.use_gpu, name
    assert workflow.get_node("train_prediction").inputs.random_seed == 5
    workflow = init_training_wf(omp_nthreads=3)
    assert workflow.get_node("train_prediction").inputs.num_threads == 3
    assert all(Path(path).is_file() for path in RECIPES.values())


def test_from_brains_to_networks(pair, tmp_path):
    from nipype_quicksilver.interfaces import ConformToGrid
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    template = ConformToGrid(in_file=pair.fixed, include_image=pair.moving)
    template = template.run(cwd=tmp_path).outputs.out_file
    recipe = tmp_path / "tiny.json"
    facts = {
        "format": "quicksilver-recipe",
        "version": 1,
        "architecture": {"name": "patch", "parameters": {"features": 1, "patch_size": 7}},
        "training": {"iterations": 2, "batch_size": 4, "stride": 7},
    }
    recipe.write_text(json.dumps(facts))
    workflow = init_training_wf(
        omp_nthreads=1, n_pairs=2, recipe=str(recipe), iterations=[1, 0, 1, 0]
    )
    workflow.base_dir = str(tmp_path / "work")
    workflow.config["execution"]["crashdump_dir"] = str(tmp_path)
    workflow.inputs.inputnode.images = [str(pair.fixed), str(pair.moving)]
    workflow.inputs.inputnode.template = template
    workflow.run()
    found = {}
    for role in ("prediction", "correction"):
        (path,) = (tmp_path / "work").rglob(f"{role}.safetensors")
        _, found[role] = load_checkpoint(path)
        assert found[role].role == role and found[role].velocity_factor == 2
    assert found["correction"].training["before"] == [
        {"file": "prediction.safetensors", "sha256": found["prediction"].sha256}
    ]
