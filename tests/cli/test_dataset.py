"""Training as in the 2017 paper, from momenta to a correction network."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial import images
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum, write_momentum

KERNEL = {"alpha": 0.225, "beta": 0.0, "gamma": 0.025, "power": 2.0}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Files of two pairs of images on a grid of 24 voxels, with momenta on half of it."""
    folder = tmp_path_factory.mktemp("the pairs")
    grid = Grid((24, 24, 24), from_matvec(np.eye(3), [5, -7, 9]))
    random = np.random.default_rng(0)
    files = SimpleNamespace(fixed=[], moving=[], momenta=[], grid=grid)
    for number in range(2):
        for kind in ("fixed", "moving"):
            data = np.zeros(grid.shape, np.float32)
            data[4:20, 4:20, 4:20] = random.uniform(0.2, 1, (16,) * 3)
            path = folder / f"{kind} {number}.nii.gz"
            getattr(files, kind).append(images.write_image(path, data, grid.affine))
        data = random.normal(0, 0.01, (12, 12, 12, 3)).astype(np.float32)
        momentum = Momentum(data, grid.subsampled(2), KERNEL, 3, grid)
        files.momenta.append(write_momentum(folder / f"momentum {number}.nii.gz", momentum))
    return files


def dataset_arguments(pairs, folder, *more):
    line = ["dataset", "--quiet", "--fixed", *pairs.fixed, "--moving", *pairs.moving]
    line += ["--momenta", *pairs.momenta, "--output-dir", folder, *more]
    return [str(argument) for argument in line]


def train_arguments(dataset, folder, recipe, *more):
    line = ["train", "--quiet", "--num-threads", "1", "--momenta", dataset, "--recipe", recipe]
    return [str(argument) for argument in [*line, "--output-dir", folder, *more]]


@pytest.fixture(scope="module")
def patch_recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "patch.json"
    content = {
        "format": "quicksilver-recipe",
        "version": 1,
        "architecture": {"name": "patch", "parameters": {"features": 2, "patch_size": 7}},
        "training": {"iterations": 10, "batch_size": 4, "stride": 6, "learning_rate": 0.01},
        "validation": {"every": 5},
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def dataset(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "of pairs"
    assert main(dataset_arguments(pairs, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def prediction(dataset, patch_recipe, tmp_path_factory):
    """The checkpoint of a prediction network, validated on its training data."""
    folder = tmp_path_factory.mktemp("prediction")
    more = ["--validation-momenta", dataset]
    assert main(train_arguments(dataset, folder, patch_recipe, *more)) == 0
    return folder / "prediction.safetensors"


def test_dataset(dataset, pairs):
    with open(dataset / "index.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["fixed_source"] for row in rows] == [str(path) for path in pairs.fixed]
    content = json.loads((dataset / "dataset.json").read_text())
    assert (content["role"], content["velocity_factor"], content["kernel"]) == (
        "prediction",
        2,
        KERNEL,
    )
    written = read_momentum(dataset / rows[1]["momentum"])
    assert np.array_equal(written.data, read_momentum(pairs.momenta[1]).data)
    small = np.asanyarray(images.read_image(dataset / rows[1]["target"]).dataobj)
    whole = np.asanyarray(images.read_image(pairs.fixed[1]).dataobj)
    assert small[4, 5, 6] == pytest.approx(whole[8:10, 10:12, 12:14].mean(), rel=1e-6)


def test_prediction_network(prediction):
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    network, card = load_checkpoint(prediction)
    assert (card.kernel, card.steps, card.velocity_factor) == (KERNEL, 3, 2)
    assert network.patch_size == 7
    assert card.validation["after"]["loss"] > 0
    uses = {item["use"] for item in card.training["inputs"]}
    assert uses == {"momenta", "validation momenta"}


def test_correction_dataset(prediction, dataset, pairs, patch_recipe, tmp_path):
    """The target is carried back by the prediction, and the momentum is the residual."""
    import torch

    from nipype_quicksilver.lddmm.folding import remove_folds
    from nipype_quicksilver.lddmm.kernel import KernelOperator
    from nipype_quicksilver.lddmm.settings import Kernel
    from nipype_quicksilver.networks.checkpoint import load_checkpoint
    from nipype_quicksilver.networks.patches import PatchPredictor
    from nipype_quicksilver.registration.shooting import shoot_momentum

    folder = tmp_path / "left"
    assert main(dataset_arguments(pairs, folder, "--prediction", prediction)) == 0
    content = json.loads((folder / "dataset.json").read_text())
    network, card = load_checkpoint(prediction)
    assert content["before"]["sha256"] == card.sha256
    moving, target = (
        torch.from_numpy(np.array(images.read_image(dataset / f"pair-0001_{x}.nii.gz").dataobj))
        for x in ("moving", "target")
    )
    optimised = read_momentum(pairs.momenta[0])
    left = read_momentum(folder / "pair-0001_momentum.nii.gz")
    operator = KernelOperator(Kernel(**KERNEL), left.grid.shape, left.grid.spacing)
    predicted = PatchPredictor(network)(moving[None, None], target[None, None])
    state, _ = remove_folds(operator.apply(predicted, 0.5), operator, steps=3, factor=2)
    predicted = np.moveaxis(operator.apply(state, -0.5)[0].numpy(), 0, -1)
    np.testing.assert_allclose(left.data + predicted, optimised.data, atol=1e-6)

    whole = Momentum(np.ascontiguousarray(predicted), left.grid, KERNEL, 3, left.working_grid)
    forward = shoot_momentum(whole, torch.device("cpu")).forward
    from scipy.ndimage import map_coordinates

    data = np.asanyarray(images.read_image(pairs.fixed[0]).dataobj)
    points = np.indices(data.shape) + np.moveaxis(forward, -1, 0)
    carried = map_coordinates(data, points, order=1, mode="constant")
    blocks = carried.reshape(12, 2, 12, 2, 12, 2).mean(axis=(1, 3, 5))
    target = np.asanyarray(images.read_image(folder / "pair-0001_target.nii.gz").dataobj)
    np.testing.assert_allclose(target[2:10, 2:10, 2:10], blocks[2:10, 2:10, 2:10], atol=1e-4)

    run = tmp_path / "run"
    assert main(train_arguments(folder, run, patch_recipe, "--role", "correction")) == 0
    card = json.loads((run / "correction.json").read_text())
    assert card["role"] == "correction" and card["training"]["before"] == [content["before"]]


def test_what_cannot_be_put_together(pairs, prediction, trained_network, tmp_path, refused):
    folder = tmp_path / "dataset"
    few = SimpleNamespace(**{**vars(pairs), "momenta": pairs.momenta[:1]})
    refused(
        *dataset_arguments(few, folder), message="2 fixed images, 2 moving images and 1 momenta"
    )
    elsewhere = Grid(pairs.grid.shape, from_matvec(np.eye(3), [50, 0, 0]))
    momentum = read_momentum(pairs.momenta[0])
    moved = Momentum(momentum.data, elsewhere.subsampled(2), KERNEL, 3, elsewhere)
    steps = Momentum(momentum.data, momentum.grid, KERNEL, 5, pairs.grid)
    for other, message in (
        (moved, "not on the working grid"),
        (steps, "another kernel, number of"),
    ):
        path = write_momentum(tmp_path / "other.nii.gz", other)
        mixed = SimpleNamespace(**{**vars(pairs), "momenta": [pairs.momenta[0], path]})
        refused(*dataset_arguments(mixed, folder), message=message)
    mixed.momenta[0] = mixed.momenta[1]
    refused(
        *dataset_arguments(mixed, folder, "--prediction", prediction),
        message="was trained for; give",
    )
    refused(
        *dataset_arguments(pairs, folder, "--prediction", trained_network),
        message="is a force-unet network",
    )


@pytest.fixture(scope="module")
def trained_network(prediction, tmp_path_factory):
    """A checkpoint of another architecture."""
    import torch

    from nipype_quicksilver.networks.card import read_card
    from nipype_quicksilver.networks.checkpoint import build_network, save_checkpoint

    path = tmp_path_factory.mktemp("other") / "net.safetensors"
    from dataclasses import replace

    parameters = {"widths": [4, 8]}
    torch.manual_seed(0)
    network = build_network("force-unet", parameters)
    card = replace(read_card(prediction), architecture="force-unet", parameters=parameters)
    save_checkpoint(path, network, card)
    return path


def test_data_sets_that_cannot_be_trained_on(dataset, recipe, patch_recipe, tmp_path, refused):
    import shutil

    run = tmp_path / "run"
    refused(*train_arguments(dataset, run, recipe), message="momenta are for patch networks")
    refused(
        *train_arguments(dataset, run, patch_recipe, "--role", "correction"),
        message="is for a prediction network",
    )
    refused(*train_arguments(tmp_path, run, patch_recipe), message="is not a data set of momenta")
    large = tmp_path / "large.json"
    large.write_text(patch_recipe.read_text().replace('"patch_size": 7', '"patch_size": 15'))
    refused(*train_arguments(dataset, run, large), message="smaller than a patch of 15 voxels")
    broken = shutil.copytree(dataset, tmp_path / "broken")
    (broken / "pair-0001_target.nii.gz").unlink()
    refused(*train_arguments(broken, run, patch_recipe), message="pair-0001_target.nii.gz: ")
    (broken / "index.tsv").write_text("")
    refused(*train_arguments(broken, run, patch_recipe), message="lists no pairs")
