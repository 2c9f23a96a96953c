"""Prediction and correction: how networks are put one after the other."""

import pytest
import torch

from nipype_quicksilver.lddmm.fields import bounding_box, pool, sample, upsample
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.networks.prediction import (
    UNTIL_CORRECTION,
    Images,
    before_correction,
    correct,
    predict,
    repeated,
    run_networks,
)

SHAPE = (16, 16, 16)


class Recorder:
    """A network that adds a fixed momentum and remembers what it saw."""

    def __init__(self, value=0.0, image=1, velocity=2, passes=1, turns=1):
        self.image, self.velocity, self.passes, self.turns = image, velocity, passes, turns
        self.value = value
        self.seen = []

    def in_passes(self, finest=1):
        return [self] * self.passes

    def __call__(self, moving, target, state):
        self.seen.append((moving.image, target, moving.weight, state))
        generator = torch.Generator().manual_seed(3)
        return self.value * torch.randn((1, 3, *moving.operator.shape), generator=generator)


def smooth(seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((1, 1, *SHAPE), generator=generator)
    return torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)


@pytest.fixture
def images():
    weight = torch.zeros((1, 1, *SHAPE))
    weight[..., 2:-2, 2:-2, 2:-2] = 1
    return Images(smooth(0), smooth(1), weight, spacing=1.0)


def test_pooling(images):
    fixed, moving, weight, moving_weight = images.at(2)
    torch.testing.assert_close(fixed, pool(smooth(0), 2))
    torch.testing.assert_close(moving, pool(smooth(1), 2))
    assert weight.shape == (1, 1, 8, 8, 8) and (moving_weight == 1).all()
    pooled = Images(fixed, moving, weight, factor=2, spacing=1.0)
    for a, b in zip(pooled.at(4), images.at(4), strict=True):
        torch.testing.assert_close(a, b)
    assert pooled.spacing(4) == images.spacing(4) == (4.0, 4.0, 4.0)
    operators = [each.operator(Kernel(), 4) for each in (images, pooled)]
    assert [operator.shape for operator in operators] == [operators[0].shape] * 2
    assert tuple(operators[0].shape) == (4, 4, 4)


def test_prediction_sees_both_images(images):
    network = Recorder(0.1)
    operator = images.operator(Kernel(), 2)
    state = predict(network, images, operator)
    moving, target, weight, start = network.seen[0]
    assert torch.equal(moving, smooth(1)) and torch.equal(target, smooth(0))
    assert torch.equal(weight, images.at(1)[2]) and not start.any()
    assert state.shape == (1, 3, 8, 8, 8)


def test_correction_sees_the_target_carried_back(images):
    network = Recorder(0.1)
    operator = images.operator(Kernel(), 2)
    state = predict(network, images, operator)
    corrected = correct(network, images, state, operator, 3)
    torch.testing.assert_close(corrected, 2 * state)
    moving, target, weight, start = network.seen[1]
    assert torch.equal(moving, smooth(1)) and torch.equal(start, state)
    forward = shoot(operator.apply(state, -0.5), operator, steps=3, both=True).forward
    carried = [sample(each, upsample(forward, 2), 1.0) for each in (smooth(0), images.at(1)[2])]
    torch.testing.assert_close(weight, carried[1])
    # Only where it counts: around that it is not looked at.
    box = bounding_box(weight)
    torch.testing.assert_close(target[box], carried[0][box])
    assert float(target.sum()) == pytest.approx(float(target[box].sum()))
    assert float((target - smooth(0)).abs().max()) > 0.01


def test_between_shoots_what_was_seen_is_composed(images):
    """``phi o (id + K dm)`` is what a shoot gives but for the second order in the momenta."""
    operator = images.operator(Kernel(), 2)

    def missed(size):
        network = Recorder(size, turns=3)
        state = predict(network, images, operator)
        torch.testing.assert_close(correct(network, images, state, operator, 5), 4 * state)
        _, target, weight, start = network.seen[3]
        torch.testing.assert_close(start, 3 * state)
        forward = shoot(operator.apply(start, -0.5), operator, steps=5, both=True).forward
        shot = sample(smooth(0), upsample(forward, 2), 1.0)
        return float(((target - shot) * weight).norm() / ((shot - smooth(0)) * weight).norm())

    # Relative to the whole change of the image that leaves the first order.
    assert missed(0.002) / missed(0.0005) == pytest.approx(4, rel=0.1)


def test_no_momentum_carries_nothing(images):
    network = Recorder(0.0)
    state, _ = run_networks([network, network], images, Kernel(), 3)
    assert not state.any()
    _, target, weight, _ = network.seen[1]
    torch.testing.assert_close(target * weight, smooth(0) * weight)


def test_order_passes_and_grids(images):
    first, second = Recorder(0.005, image=2, velocity=4, passes=2), Recorder(0.005)
    state, operator = run_networks(repeated([first, second, second]), images, Kernel(), 3)
    assert (len(first.seen), len(second.seen)) == (2, 2)
    assert tuple(operator.shape) == (8, 8, 8) and state.shape == (1, 3, 8, 8, 8)
    # From grid to grid the velocity is kept, not the momentum.
    coarse = images.operator(Kernel(), 4)
    before, _ = run_networks(repeated([first]), images, Kernel(), 3)
    fine = operator.apply(second.seen[0][3], 0.5)
    torch.testing.assert_close(fine, upsample(coarse.apply(before, 0.5), 2), rtol=1e-3, atol=1e-4)


def test_a_prediction_that_is_corrected_stops_early(images):
    """What its last passes would find, a correction finds sooner."""
    for networks, passes in ((1, (6,)), (2, (UNTIL_CORRECTION, 2)), (3, (UNTIL_CORRECTION, 2, 1))):
        line = [Recorder(0.001, passes=6), Recorder(passes=2), Recorder()][:networks]
        run_networks(repeated(line), images, Kernel(), 3)
        assert tuple(len(network.seen) for network in line) == passes
    assert before_correction([]) == []


def test_a_start_is_corrected(images):
    network = Recorder(0.1)
    start = run_networks([network], images, Kernel(), 3)
    state, _ = run_networks([network], images, Kernel(), 3, start)
    torch.testing.assert_close(state, 2 * start[0])
    assert run_networks([], images, Kernel(), 3) is None
    assert run_networks([], images, Kernel(), 3, start) is start


@pytest.mark.parametrize("turns", [1, 2])
def test_gradient_of_a_correction_is_that_of_its_network(images, turns):
    operator = images.operator(Kernel(), 2)
    gain = torch.tensor(0.1, requires_grad=True)
    network = Recorder(gain, turns=turns)
    state = torch.full((1, 3, 8, 8, 8), 0.01, requires_grad=True)
    corrected = correct(network, images, state, operator, 3)
    corrected.sum().backward()
    assert torch.equal(state.grad, torch.ones_like(state))
    step = (corrected - state).detach() / gain.detach()
    torch.testing.assert_close(gain.grad, step.sum())
