"""Prediction and correction: networks applied one after the other."""

import pytest
import torch

from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.grids import bounding_box, pool, upsample
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.networks.prediction import (
    PASSES_BEFORE_CORRECTION,
    Images,
    correct,
    predict,
    run_networks,
    unroll_before_correction,
    unroll_networks,
)

SHAPE = (16, 16, 16)


class Recorder:
    """A network that adds a fixed momentum and records its inputs."""

    def __init__(self, value=0.0, image=1, velocity=2, passes=1, turns=1):
        self.image, self.velocity, self.passes, self.turns = image, velocity, passes, turns
        self.value = value
        self.inputs = []

    def unroll(self, finest=1):
        return [self] * self.passes

    def __call__(self, moving, target, state):
        self.inputs.append((moving.image, target, moving.weight, state))
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


def test_input_of_a_prediction(images):
    network = Recorder(0.1)
    operator = images.operator(Kernel(), 2)
    state = predict(network, images, operator)
    moving, target, weight, start = network.inputs[0]
    assert torch.equal(moving, smooth(1)) and torch.equal(target, smooth(0))
    assert torch.equal(weight, images.at(1)[2]) and not start.any()
    assert state.shape == (1, 3, 8, 8, 8)


def test_input_of_a_correction(images):
    network = Recorder(0.1)
    operator = images.operator(Kernel(), 2)
    state = predict(network, images, operator)
    corrected = correct(network, images, state, operator, 3)
    torch.testing.assert_close(corrected, 2 * state)
    moving, target, weight, start = network.inputs[1]
    assert torch.equal(moving, smooth(1)) and torch.equal(start, state)
    forward = shoot(operator.apply(state, -0.5), operator, steps=3, both=True).forward
    warped = [sample(each, upsample(forward, 2), 1.0) for each in (smooth(0), images.at(1)[2])]
    torch.testing.assert_close(weight, warped[1])
    # The target is warped only where the weight is not zero.
    box = bounding_box(weight)
    torch.testing.assert_close(target[box], warped[0][box])
    assert float(target.sum()) == pytest.approx(float(target[box].sum()))
    assert float((target - smooth(0)).abs().max()) > 0.01


def test_steps_between_shoots_are_composed(images):
    """``phi o (id + K dm)`` equals a shoot up to second order in the momenta."""
    operator = images.operator(Kernel(), 2)

    def difference(size):
        network = Recorder(size, turns=3)
        state = predict(network, images, operator)
        torch.testing.assert_close(correct(network, images, state, operator, 5), 4 * state)
        _, target, weight, start = network.inputs[3]
        torch.testing.assert_close(start, 3 * state)
        forward = shoot(operator.apply(start, -0.5), operator, steps=5, both=True).forward
        shot = sample(smooth(0), upsample(forward, 2), 1.0)
        return float(((target - shot) * weight).norm() / ((shot - smooth(0)) * weight).norm())

    # Relative to the whole change of the image, the difference is of first order.
    assert difference(0.002) / difference(0.0005) == pytest.approx(4, rel=0.1)


def test_without_momentum_the_target_is_not_warped(images):
    network = Recorder(0.0)
    state, _ = run_networks([network, network], images, Kernel(), 3)
    assert not state.any()
    _, target, weight, _ = network.inputs[1]
    torch.testing.assert_close(target * weight, smooth(0) * weight)


def test_order_passes_and_grids(images):
    first, second = Recorder(0.005, image=2, velocity=4, passes=2), Recorder(0.005)
    state, operator = run_networks(unroll_networks([first, second, second]), images, Kernel(), 3)
    assert (len(first.inputs), len(second.inputs)) == (2, 2)
    assert tuple(operator.shape) == (8, 8, 8) and state.shape == (1, 3, 8, 8, 8)
    # From grid to grid the velocity is interpolated, not the momentum.
    coarse = images.operator(Kernel(), 4)
    before, _ = run_networks(unroll_networks([first]), images, Kernel(), 3)
    fine = operator.apply(second.inputs[0][3], 0.5)
    torch.testing.assert_close(fine, upsample(coarse.apply(before, 0.5), 2), rtol=1e-3, atol=1e-4)


def test_a_prediction_that_is_corrected_stops_early(images):
    """A correction is faster than its last passes."""
    for networks, passes in (
        (1, (6,)),
        (2, (PASSES_BEFORE_CORRECTION, 2)),
        (3, (PASSES_BEFORE_CORRECTION, 2, 1)),
    ):
        line = [Recorder(0.001, passes=6), Recorder(passes=2), Recorder()][:networks]
        run_networks(unroll_networks(line), images, Kernel(), 3)
        assert tuple(len(network.inputs) for network in line) == passes
    assert unroll_before_correction([]) == []


def test_a_start_is_corrected(images):
    network = Recorder(0.1)
    start = run_networks([network], images, Kernel(), 3)
    state, _ = run_networks([network], images, Kernel(), 3, start)
    torch.testing.assert_close(state, 2 * start[0])
    assert run_networks([], images, Kernel(), 3) is None
    assert run_networks([], images, Kernel(), 3, start) is start


@pytest.mark.parametrize("turns", [1, 2])
def test_gradient_of_a_correction_equals_that_of_its_network(images, turns):
    operator = images.operator(Kernel(), 2)
    gain = torch.tensor(0.1, requires_grad=True)
    network = Recorder(gain, turns=turns)
    state = torch.full((1, 3, 8, 8, 8), 0.01, requires_grad=True)
    corrected = correct(network, images, state, operator, 3)
    corrected.sum().backward()
    assert torch.equal(state.grad, torch.ones_like(state))
    step = (corrected - state).detach() / gain.detach()
    torch.testing.assert_close(gain.grad, step.sum())
