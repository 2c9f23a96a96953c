"""Training end to end through the shooting."""

import copy
from dataclasses import replace

import pytest
import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.prediction import Images, run_networks
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.training.end_to_end import Recipe, Training, shares_on, training_loss
from nipype_quicksilver.training.synthesis import Pair, Ranges, Scan
from nipype_quicksilver.training.validation import Judges, mean_of, validate
from tests.helpers.brains import TISSUES, make_brain

RECIPE = Recipe(iterations=20, learning_rate=3e-3, warm_up=2, low_precision=False, seed=1)
BRAINS = [make_brain(shift) for shift in (-0.8, 0.0, 0.9)]


def make_network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return ForceUNet(scales=(2, 4), widths=(4, 6), dropout=dropout)


def make_training(recipe=RECIPE, dropout=0.0, brains=BRAINS, **more):
    return Training(make_network(dropout=dropout), brains, TISSUES, recipe, **more)


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
    whole, first = make_training(recipe, dropout), make_training(recipe, dropout)
    losses = [whole.step() for _ in range(4)]
    for _ in range(2):
        first.step()
    second = make_training(recipe, dropout)
    second.resume(copy.deepcopy(first.state()))
    torch.rand(3)  # random numbers drawn elsewhere do not matter
    assert [second.step() for _ in range(2)] == losses[2:]
    assert same(whole, second)


def test_seeds_differ():
    first, second = make_training(), make_training(replace(RECIPE, seed=2))
    assert first.step() != second.step()


def test_learns():
    """A few iterations improve the overlap of brains that are told apart by a shift."""
    calm = Ranges(common_rotation=2, geodesic=0.5, other_contrast=0, bias=0.1)
    recipe = replace(RECIPE, iterations=40, averaging=0.9, ranges=calm, learning_rate=5e-3)
    judges = Judges(BRAINS, [], TISSUES, calm, 3)
    training = make_training(recipe)
    network = training.network
    identity = mean_of(validate([network], judges, recipe, identity=True))
    untrained = mean_of(validate([network], judges, recipe))
    for _ in range(recipe.iterations):
        training.step()
    network.load_state_dict(training.average)
    trained = mean_of(validate([network], judges, recipe))
    assert identity["energy"] == 0 and identity["smallest_jacobian"] == pytest.approx(1)
    assert trained["loss"] < untrained["loss"] < identity["loss"]
    assert trained["overlap"] > identity["overlap"]


def test_validation_is_the_same_each_time_and_in_parts():
    judges = Judges(BRAINS, [], TISSUES, Ranges(), 3)
    network = make_network()
    rows = validate([network], judges, RECIPE)
    assert len(judges) == len(rows) == 3 and rows == validate([network], judges, RECIPE)
    parts = [validate([network], judges, RECIPE, rank=rank, ranks=2) for rank in range(2)]
    assert parts == [rows[::2], rows[1::2]]


def test_rate_rises_and_falls():
    training = make_training(replace(RECIPE, iterations=10, warm_up=4))
    rates = []
    for training.iteration in range(11):
        rates.append(training._rate() / RECIPE.learning_rate)
    assert rates[0] == pytest.approx(0.25) and rates[3] == max(rates) > 0.7
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[10] == pytest.approx(0)


def test_gradients_are_clipped():
    training = make_training(replace(RECIPE, clipping=1e-3))
    training.step()
    norm = torch.stack([w.grad.norm() for w in training.network.parameters()]).norm()
    assert training.norm > 1e-3 and float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_loss_of_no_deformation():
    """Nothing is paid for staying, and what the images and labels differ by is all there is."""
    judges = Judges(BRAINS, [], TISSUES, Ranges(), 1)
    pair = judges.pair(0, 2.0, torch.device("cpu"))
    training = make_training()
    images = Images(pair.fixed, pair.moving, pair.weight, factor=2)
    state, operator = run_networks([training.network], images, RECIPE.kernel, RECIPE.steps)
    loss, seen = training_loss(
        pair,
        images,
        torch.zeros_like(state),
        operator,
        training.network,
        RECIPE,
        TISSUES,
        torch.Generator().manual_seed(0),
    )
    assert seen["energy"] == 0 and seen["smallest_jacobian"] == pytest.approx(1)
    expected = seen["dissimilarity"] + RECIPE.overlap * (1 - seen["overlap"])
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_corrections_leave_earlier_networks_alone():
    before = make_network(seed=7)
    weights = copy.deepcopy(before.state_dict())
    training = make_training(replace(RECIPE, passes=3), before=[before])
    started = copy.deepcopy(training.network.state_dict())
    training.step()
    assert all(torch.equal(weights[name], value) for name, value in before.state_dict().items())
    assert all(value.grad is None for value in before.parameters())
    assert not all(
        torch.equal(started[name], value) for name, value in training.network.state_dict().items()
    )


def test_bytes_are_shares():
    exact = [brain.mul(255).round().to(torch.uint8) for brain in BRAINS]
    rounded = [brain.float() / 255 for brain in exact]
    assert torch.equal(shares_on(exact[0], torch.device("cpu")), rounded[0])
    assert make_training(brains=exact).step() == make_training(brains=rounded).step()


def make_scan(shift, classes=None):
    brain = make_brain(shift)
    image = torch.einsum("c,cxyz->xyz", torch.tensor([0.9, 0.9, 0.2, 0.6]), brain)[None, None]
    return Scan(image, (image > 0.3).float(), classes)


def test_real_images_alone_and_mixed():
    scans = [make_scan(-0.8), make_scan(0.9)]
    training = make_training(brains=[], scans=scans)
    losses = [training.step() for _ in range(2)]
    assert all(loss.overlap != loss.overlap for loss in losses)  # NaN: no labels
    mixed = make_training(scans=scans)
    known = [loss.overlap == loss.overlap for loss in (mixed.step() for _ in range(12))]
    assert {True, False} == set(known)
    labelled = [make_scan(-0.8, BRAINS[0]), make_scan(0.9, BRAINS[2])]
    loss = make_training(brains=[], scans=labelled).step()
    assert 0 <= loss.overlap <= 1


def test_processes_see_other_pairs():
    first, second = (make_training(rank=rank, ranks=2) for rank in range(2))
    assert first.step() != second.step()
    # The second iteration of one process is not the first of another.
    assert first.step() != second.step()


def test_boxes():
    """A correction is trained in boxes of the pair, the same ones in every run."""
    recipe = replace(RECIPE, crop=12, boxes=2, passes=2)
    trainings = [make_training(recipe, before=[make_network(seed=7)]) for _ in range(2)]
    for _ in range(3):
        first, second = (training.step() for training in trainings)
        assert first == second and 0 < first.dissimilarity < 1 and 0 <= first.overlap <= 1
    assert same(*trainings)
    whole = make_training(replace(recipe, crop=0), before=[make_network(seed=7)])
    assert whole.step() != trainings[0].step()


def test_every_pass_learns_and_the_last_ones_on_finer_images(monkeypatch):
    torch.manual_seed(0)
    parameters = {"image": 2, "velocity": 2, "scales": (2, 4), "widths": (4, 6)}
    network = ForceUNet(**parameters, passes=2, last_image=1)
    recipe = replace(RECIPE, factor=1, passes=3)
    size, seen = BRAINS[0].shape[1], []
    monkeypatch.setattr(
        network,
        "forward",
        lambda moving, *rest: (
            seen.append((size // moving.image.shape[2], torch.is_grad_enabled()))
            or ForceUNet.forward(network, moving, *rest)
        ),
    )
    Training(network, BRAINS, TISSUES, recipe).step()
    assert seen == [(2, True), (1, True), (1, True)]


def test_a_box_at_the_edge_of_the_grid_has_something_to_compare():
    """Brains that reach the grid's edge once gave boxes all of whose weight lay in their rims."""
    from nipype_quicksilver.training.end_to_end import _box

    grid = torch.zeros((1, 1, 32, 32, 32))
    operator = Images(grid, grid, grid, factor=2).operator(RECIPE.kernel, 4)
    state = torch.zeros((1, 3, *operator.shape))
    weight = grid.clone()
    weight[..., :6, :, :] = 1
    pose = torch.zeros((1, 3, 32, 32, 32))
    pair = Pair(grid, grid, weight, None, None, pose, pose)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        part, _ = _box(pair, state, operator, replace(RECIPE, crop=16), generator)
        assert part.weight.any()
    weight[..., 5, :, :] = 0
    with pytest.raises(InputError, match="take a larger grid"):
        _box(pair, state, operator, replace(RECIPE, crop=16), generator)


def test_overlap_in_a_box_is_that_of_its_place():
    """Identical brains overlap wholly also where only a box of them is looked at."""
    from nipype_quicksilver.training.end_to_end import _box
    from nipype_quicksilver.training.synthesis import overlap_loss

    still = Ranges(rotation=0, scaling=0, translation=0, common_rotation=20, geodesic=0)
    judges = Judges([BRAINS[1], BRAINS[1]], [], TISSUES, still, 1)
    pair = judges.pair(0, 2.0, torch.device("cpu"))
    images = Images(pair.fixed, pair.moving, pair.weight, factor=2)
    state, operator = run_networks([make_network()], images, RECIPE.kernel, RECIPE.steps)
    generator = torch.Generator().manual_seed(0)
    part, (begun, smaller) = _box(pair, state, operator, replace(RECIPE, crop=12), generator)
    assert part.fixed.shape == (1, 1, 12, 12, 12) and begun.shape[2:] == tuple(smaller.shape)
    nothing = torch.zeros((1, 3, 12, 12, 12))
    loss = overlap_loss(part, nothing, TISSUES.scored, torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(0, abs=1e-4)
