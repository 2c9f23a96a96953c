"""Training end to end through the shooting."""

import copy
from dataclasses import replace

import pytest
import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.prediction import Images, run_networks
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.training.end_to_end import (
    EndToEndRecipe,
    EndToEndTrainer,
    _box,
    fractions_on,
    training_loss,
)
from nipype_quicksilver.training.synthesis import Ranges, TrainingPair, TrainingScan, overlap_loss
from nipype_quicksilver.training.validation import ValidationPairs, mean_over_pairs, validate
from tests.helpers.brains import TISSUES, make_brain

RECIPE = EndToEndRecipe(iterations=20, learning_rate=3e-3, warm_up=2, low_precision=False, seed=1)
BRAINS = [make_brain(shift) for shift in (-0.8, 0.0, 0.9)]


def make_network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return ForceUNet(scales=(2, 4), widths=(4, 6), dropout=dropout)


def make_trainer(recipe=RECIPE, dropout=0.0, brains=BRAINS, **more):
    return EndToEndTrainer(make_network(dropout=dropout), brains, TISSUES, recipe, **more)


def same(first, second):
    return all(
        torch.equal(weights, second.network.state_dict()[name])
        and torch.equal(first.average[name], second.average[name])
        for name, weights in first.network.state_dict().items()
    )


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resumed_equals_uninterrupted(precise, dropout):
    recipe = replace(RECIPE, low_precision=not precise)
    whole, first = make_trainer(recipe, dropout), make_trainer(recipe, dropout)
    losses = [whole.step() for _ in range(4)]
    for _ in range(2):
        first.step()
    second = make_trainer(recipe, dropout)
    second.resume(copy.deepcopy(first.state()))
    torch.rand(3)  # random numbers drawn elsewhere do not matter
    assert [second.step() for _ in range(2)] == losses[2:]
    assert same(whole, second)


def test_seeds_differ():
    first, second = make_trainer(), make_trainer(replace(RECIPE, seed=2))
    assert first.step() != second.step()


def test_learns():
    """A few iterations improve the overlap of brains that differ by a shift."""
    ranges = Ranges(common_rotation=2, geodesic=0.5, other_contrast=0, bias=0.1)
    recipe = replace(RECIPE, iterations=40, averaging=0.9, ranges=ranges, learning_rate=5e-3)
    pairs = ValidationPairs(BRAINS, [], TISSUES, ranges, 3)
    trainer = make_trainer(recipe)
    network = trainer.network
    identity = mean_over_pairs(validate([network], pairs, recipe, identity=True))
    untrained = mean_over_pairs(validate([network], pairs, recipe))
    for _ in range(recipe.iterations):
        trainer.step()
    network.load_state_dict(trainer.average)
    trained = mean_over_pairs(validate([network], pairs, recipe))
    assert identity["energy"] == 0 and identity["smallest_jacobian"] == pytest.approx(1)
    assert trained["loss"] < untrained["loss"] < identity["loss"]
    assert trained["overlap"] > identity["overlap"]


def test_rate_rises_and_falls():
    trainer = make_trainer(replace(RECIPE, iterations=10, warm_up=4))
    rates = []
    for trainer.iteration in range(11):
        rates.append(trainer._rate() / RECIPE.learning_rate)
    assert rates[0] == pytest.approx(0.25) and rates[3] == max(rates) > 0.7
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[10] == pytest.approx(0)


def test_gradients_are_clipped():
    trainer = make_trainer(replace(RECIPE, clipping=1e-3))
    trainer.step()
    norm = torch.stack([w.grad.norm() for w in trainer.network.parameters()]).norm()
    assert trainer.norm > 1e-3 and float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_loss_of_no_deformation():
    """No deformation costs no energy; the loss is the difference of images and labels alone."""
    pairs = ValidationPairs(BRAINS, [], TISSUES, Ranges(), 1)
    pair = pairs.pair(0, 2.0, torch.device("cpu"))
    trainer = make_trainer()
    images = Images(pair.fixed, pair.moving, pair.weight, factor=2)
    state, operator = run_networks([trainer.network], images, RECIPE.kernel, RECIPE.steps)
    loss, numbers = training_loss(
        pair,
        images,
        torch.zeros_like(state),
        operator,
        trainer.network,
        RECIPE,
        TISSUES,
        torch.Generator().manual_seed(0),
    )
    assert numbers["energy"] == 0 and numbers["smallest_jacobian"] == pytest.approx(1)
    expected = numbers["dissimilarity"] + RECIPE.overlap * (1 - numbers["overlap"])
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_corrections_leave_earlier_networks_alone():
    before = make_network(seed=7)
    weights = copy.deepcopy(before.state_dict())
    trainer = make_trainer(replace(RECIPE, passes=3), before=[before])
    started = copy.deepcopy(trainer.network.state_dict())
    trainer.step()
    assert all(torch.equal(weights[name], value) for name, value in before.state_dict().items())
    assert all(value.grad is None for value in before.parameters())
    assert not all(
        torch.equal(started[name], value) for name, value in trainer.network.state_dict().items()
    )


def test_bytes_are_fractions():
    exact = [brain.mul(255).round().to(torch.uint8) for brain in BRAINS]
    rounded = [brain.float() / 255 for brain in exact]
    assert torch.equal(fractions_on(exact[0], torch.device("cpu")), rounded[0])
    assert make_trainer(brains=exact).step() == make_trainer(brains=rounded).step()


def make_scan(shift, classes=None):
    brain = make_brain(shift)
    image = torch.einsum("c,cxyz->xyz", torch.tensor([0.9, 0.9, 0.2, 0.6]), brain)[None, None]
    return TrainingScan(image, (image > 0.3).float(), classes)


def test_real_images_alone_and_mixed():
    scans = [make_scan(-0.8), make_scan(0.9)]
    trainer = make_trainer(brains=[], scans=scans)
    losses = [trainer.step() for _ in range(2)]
    assert all(loss.overlap != loss.overlap for loss in losses)  # NaN: no labels
    mixed = make_trainer(scans=scans)
    known = [loss.overlap == loss.overlap for loss in (mixed.step() for _ in range(12))]
    assert {True, False} == set(known)
    labelled = [make_scan(-0.8, BRAINS[0]), make_scan(0.9, BRAINS[2])]
    loss = make_trainer(brains=[], scans=labelled).step()
    assert 0 <= loss.overlap <= 1


def test_processes_draw_different_pairs():
    first, second = (make_trainer(rank=rank, ranks=2) for rank in range(2))
    assert first.step() != second.step()
    # The second iteration of one process is not the first of another.
    assert first.step() != second.step()


def test_boxes():
    """A correction is trained in boxes of the pair; they are reproducible."""
    recipe = replace(RECIPE, crop=12, boxes=2, passes=2)
    trainers = [make_trainer(recipe, before=[make_network(seed=7)]) for _ in range(2)]
    for _ in range(3):
        first, second = (trainer.step() for trainer in trainers)
        assert first == second and 0 < first.dissimilarity < 1 and 0 <= first.overlap <= 1
    assert same(*trainers)
    whole = make_trainer(replace(recipe, crop=0), before=[make_network(seed=7)])
    assert whole.step() != trainers[0].step()


def test_every_pass_learns_and_the_last_ones_on_finer_images(monkeypatch):
    torch.manual_seed(0)
    parameters = {"image": 2, "velocity": 2, "scales": (2, 4), "widths": (4, 6)}
    network = ForceUNet(**parameters, passes=2, last_image=1)
    recipe = replace(RECIPE, factor=1, passes=3)
    size, calls = BRAINS[0].shape[1], []
    monkeypatch.setattr(
        network,
        "forward",
        lambda moving, *rest: (
            calls.append((size // moving.image.shape[2], torch.is_grad_enabled()))
            or ForceUNet.forward(network, moving, *rest)
        ),
    )
    EndToEndTrainer(network, BRAINS, TISSUES, recipe).step()
    assert calls == [(2, True), (1, True), (1, True)]


def test_a_box_at_the_edge_of_the_grid_has_something_to_compare():
    """The weight of a box is not wholly in its rim, even for brains at the edge of the grid."""
    grid = torch.zeros((1, 1, 32, 32, 32))
    operator = Images(grid, grid, grid, factor=2).operator(RECIPE.kernel, 4)
    state = torch.zeros((1, 3, *operator.shape))
    weight = grid.clone()
    weight[..., :6, :, :] = 1
    pose = torch.zeros((1, 3, 32, 32, 32))
    pair = TrainingPair(grid, grid, weight, None, None, pose, pose)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        part, _ = _box(pair, state, operator, replace(RECIPE, crop=16), generator)
        assert part.weight.any()
    weight[..., 5, :, :] = 0
    with pytest.raises(InputError, match="recipe with a larger grid"):
        _box(pair, state, operator, replace(RECIPE, crop=16), generator)


def test_overlap_in_a_box_is_that_of_its_place():
    """Identical brains overlap completely, also in a box."""
    still = Ranges(rotation=0, scaling=0, translation=0, common_rotation=20, geodesic=0)
    pairs = ValidationPairs([BRAINS[1], BRAINS[1]], [], TISSUES, still, 1)
    pair = pairs.pair(0, 2.0, torch.device("cpu"))
    images = Images(pair.fixed, pair.moving, pair.weight, factor=2)
    state, operator = run_networks([make_network()], images, RECIPE.kernel, RECIPE.steps)
    generator = torch.Generator().manual_seed(0)
    part, (momentum, box_operator) = _box(
        pair, state, operator, replace(RECIPE, crop=12), generator
    )
    assert part.fixed.shape == (1, 1, 12, 12, 12) and momentum.shape[2:] == tuple(
        box_operator.shape
    )
    identity = torch.zeros((1, 3, 12, 12, 12))
    loss = overlap_loss(part, identity, TISSUES.scored, torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(0, abs=1e-4)
