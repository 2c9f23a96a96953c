"""The force of the similarity, against finite differences of the similarity."""

import pytest
import torch

from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.jacobians import gradient
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.similarity import LocalCorrelation
from nipype_quicksilver.networks.forces import (
    FLOOR,
    FORCE_SCALE,
    RADIUS,
    REGULARIZATION,
    MatchingForce,
    MovingImage,
    descent_directions,
)

SPACING = (2.0, 2.0, 2.0)


def smooth(seed, shape=(12, 14, 16)):
    """Return smooth random images (1, 1, X, Y, Z), float64."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((1, 1, *shape), generator=generator, dtype=torch.float64)
    return torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2) * 10 + 1


@pytest.fixture
def pair():
    weight = torch.zeros((1, 1, 12, 14, 16), dtype=torch.float64)
    weight[..., 2:-2, 2:-2, 2:-2] = 1
    return smooth(1), smooth(2), weight


def dissimilarity(image, target, weight):
    return float(LocalCorrelation(target)(image, weight).sum())


def test_force_is_the_derivative_along_a_velocity(pair):
    """``d/de D(M - e v . grad M) = -<f, v>``: the force is the direction of descent."""
    moving, target, weight = pair
    velocity = torch.cat([smooth(seed) - 1 for seed in (3, 4, 5)], dim=1)
    force = MatchingForce(moving, weight, SPACING)(target)
    slopes = gradient(moving, SPACING)[:, 0]
    change = -(velocity * slopes).sum(dim=1, keepdim=True)
    step = 1e-6
    numeric = (
        dissimilarity(moving + step * change, target, weight)
        - dissimilarity(moving - step * change, target, weight)
    ) / (2 * step)
    assert float(-(force * velocity).sum()) == pytest.approx(numeric, rel=1e-6)


def test_gradient_in_closed_form_agrees_with_automatic_differentiation(pair):
    moving, target, weight = pair
    weight = weight * torch.rand(weight.shape, generator=torch.Generator().manual_seed(6))
    image = moving.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LocalCorrelation(target)(image, weight).sum(), image)
    gradient_of_moving = LocalCorrelation(moving).gradient_wrt_fixed(target, weight)
    torch.testing.assert_close(gradient_of_moving, expected, rtol=1e-8, atol=1e-10)


def test_a_step_along_the_force_makes_images_more_similar(pair):
    moving, target, weight = pair
    force = MatchingForce(moving, weight, SPACING)(target)
    before = dissimilarity(moving, target, weight)
    velocity = 0.05 * force / force.abs().max()
    assert dissimilarity(sample(moving, -velocity, SPACING), target, weight) < before
    assert dissimilarity(sample(moving, velocity, SPACING), target, weight) > before


def test_force_does_not_depend_on_the_scale_of_intensities(pair):
    moving, target, weight = pair
    force = MatchingForce(moving, weight, SPACING)(target)
    other = MatchingForce(3 * moving, weight, SPACING)(0.5 * target + 0.2)
    torch.testing.assert_close(other, force, rtol=2e-3, atol=2e-3 * float(force.abs().max()))


def test_no_force_between_identical_images_or_without_weight(pair):
    moving, target, weight = pair
    scale = float(MatchingForce(moving, weight, SPACING)(target).abs().max())
    same = MatchingForce(moving, weight, SPACING)(moving)
    assert float(same.abs().max()) < 1e-3 * scale
    assert not MatchingForce(moving, 0 * weight, SPACING)(target).any()


def test_forces_at_all_scales_are_whitened():
    shape = (16, 16, 16)
    moving, target = smooth(1, shape).float(), smooth(2, shape).float()
    # A box that begins and ends within blocks of the velocity grid.
    weight = torch.zeros_like(moving)
    weight[..., 3:13, 1:14, 4:15] = 1
    operator = KernelOperator(Kernel(), (8, 8, 8), 4.0)
    forces = MovingImage(moving, weight, operator).forces(target, (1, 2, 4))
    assert forces.shape == (1, 9, 8, 8, 8)
    fine = MatchingForce(moving, weight, SPACING)(target)
    pooled = torch.nn.functional.avg_pool3d(fine, 2)
    torch.testing.assert_close(forces[:, :3], FORCE_SCALE * operator.apply(pooled, 0.5))
    assert not moving.requires_grad and not forces.requires_grad


def test_targets_are_independent(pair):
    """What is stored of the moving image does not depend on earlier targets."""
    moving, target, weight = pair
    force = MatchingForce(moving, weight, SPACING)
    first, second = force(target), force(moving)
    assert torch.equal(force(target), first) and not torch.equal(first, second)


def test_descent_is_that_of_the_energy_where_the_force_is_zero():
    state = smooth(1).repeat(1, 3, 1, 1, 1)
    direction = descent_directions(torch.zeros_like(state), state)
    expected = -torch.nn.functional.normalize(state, dim=1)
    torch.testing.assert_close(torch.nn.functional.normalize(direction, dim=1), expected)


def test_descent_vanishes_where_image_and_energy_are_in_balance():
    state = smooth(1).repeat(1, 3, 1, 1, 1)
    balanced = 2 * REGULARIZATION * FORCE_SCALE * state
    assert float(descent_directions(balanced, state).abs().max()) < 1e-9


def test_directions_are_normalised_except_for_noise():
    """A constant force has a root mean square of about 1 afterwards, regardless of its size."""
    inside = (slice(None),) * 2 + (slice(RADIUS, -RADIUS),) * 3
    one = torch.ones((1, 3, 12, 14, 16), dtype=torch.float64)
    zero = torch.zeros_like(one)
    for size in (0.3, 30.0):
        directions = descent_directions(torch.cat([size * one, FLOOR * one], dim=1), zero)
        strong, noise = (part[inside] for part in directions.split(3, dim=1))
        torch.testing.assert_close(strong, torch.full_like(strong, size / (size + FLOOR)))
        torch.testing.assert_close(noise, torch.full_like(noise, 0.5))
