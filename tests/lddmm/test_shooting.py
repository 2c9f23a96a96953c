"""Shooting: invariants, closed-form cases, convergence, agreement with the original scheme."""

import pytest
import torch

from nipype_quicksilver.lddmm.fields import compose
from nipype_quicksilver.lddmm.jacobians import determinant, jacobian
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.reference import shoot_by_runge_kutta
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot, transport
from tests.lddmm.conftest import operator_on, smooth_velocity

Start = tuple[torch.Tensor, KernelOperator]


def mean_length(field: torch.Tensor) -> float:
    return float(field.norm(dim=1).mean())


def test_zero_momentum_is_the_identity() -> None:
    operator = operator_on(8)
    geodesic = shoot(torch.zeros((1, 3, 8, 8, 8), dtype=torch.float64), operator, both=True)
    assert geodesic.forward is not None
    assert not geodesic.inverse.any()
    assert not geodesic.forward.any()


def test_constant_momentum_is_a_translation() -> None:
    """``K`` scales a constant by ``gamma^-power``, and a translation transports it unchanged."""
    operator = operator_on(12, kernel=Kernel(alpha=0.3, beta=0.1, gamma=0.5, power=2))
    shift = torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    momentum = (shift * 0.5**2).expand(1, 3, 12, 12, 12).contiguous()
    geodesic = shoot(momentum, operator, steps=3, both=True)
    assert geodesic.forward is not None
    assert torch.allclose(geodesic.forward, shift.expand_as(momentum), atol=1e-12)
    assert torch.allclose(geodesic.inverse, -shift.expand_as(momentum), atol=1e-12)


def test_starts_along_the_initial_velocity(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    velocity = operator.smooth(momentum)
    geodesic = shoot(momentum, operator, steps=2, duration=1e-3, both=True)
    assert geodesic.forward is not None
    # The difference is of second order in time: 1e-6 times the acceleration, a few voxels.
    assert torch.allclose(geodesic.forward, 1e-3 * velocity, atol=1e-5)
    assert torch.allclose(geodesic.inverse, -1e-3 * velocity, atol=1e-5)


def test_maps_are_inverse_to_each_other(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    geodesic = shoot(momentum, operator, steps=10, both=True)
    assert geodesic.forward is not None
    inner = (slice(None), slice(None), *(slice(5, -5),) * 3)  # away from the clamped border
    residual = compose(geodesic.inverse, geodesic.forward)[inner]
    # The error of linear interpolation is h^2 |u''| / 8 per composition: 0.02 voxels for waves of
    # 24 voxels and an amplitude of 2; for ten steps it is below a twentieth of a voxel.
    assert mean_length(residual) < 0.05
    assert mean_length(geodesic.forward) > 1.0


def test_energy_is_conserved(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    energies = torch.cat(shoot(momentum, operator, steps=20, energies=True).energies)
    assert len(energies) == 21
    assert float((energies / energies[0] - 1).abs().max()) < 0.05


def test_a_geodesic_can_be_continued(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    whole = shoot(momentum, operator, steps=16, energies=True)
    first = shoot(momentum, operator, steps=8, duration=0.5, energies=True)
    assert first.momentum is not None
    second = shoot(first.momentum, operator, steps=8, duration=0.5, energies=True)
    joined = compose(first.inverse, second.inverse)
    inner = (slice(None), slice(None), *(slice(5, -5),) * 3)
    assert mean_length((joined - whole.inverse)[inner]) < 0.02 * mean_length(whole.inverse[inner])


def test_momentum_at_the_end_is_the_coadjoint_of_the_start(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    geodesic = shoot(momentum, operator, steps=6, energies=True)
    assert geodesic.forward is not None
    expected = transport(momentum, geodesic.forward, geodesic.inverse, operator.spacing)
    assert geodesic.momentum is not None
    assert torch.equal(geodesic.momentum, expected)


def test_time_steps_converge_at_second_order(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    momentum = 0.5 * momentum
    best = shoot(momentum, operator, steps=48).inverse
    inner = (slice(None), slice(None), *(slice(6, -6),) * 3)
    coarse, fine = (
        mean_length((shoot(momentum, operator, steps=n).inverse - best)[inner]) for n in (3, 6)
    )
    # A factor of 4 is second order, and the velocities are extrapolated at third.
    assert fine < coarse / 4


def test_more_steps_do_not_blur_the_maps(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    inner = (slice(None), slice(None), *(slice(6, -6),) * 3)
    residuals = []
    for steps in (2, 32):
        geodesic = shoot(momentum, operator, steps=steps, both=True)
        assert geodesic.forward is not None
        residuals.append(mean_length(compose(geodesic.inverse, geodesic.forward)[inner]))
    # Of two steps one is interpolated. An inverse that is interpolated at each of 32 steps, instead
    # of merging them in pairs, has a residual 1.8 times as large.
    assert residuals[1] < 1.5 * residuals[0]


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_agrees_with_the_original_scheme(spacing: float) -> None:
    """Both schemes converge to each other as the grid is refined."""
    distances = []
    for size in (16, 32):
        h = spacing * 16 / size
        operator = operator_on(size, h, Kernel(alpha=4.0 * spacing**2, gamma=1.0, power=2))
        velocity = smooth_velocity(size, h, seed=3, largest=spacing)
        momentum = operator.sharpen(velocity)
        reference = shoot_by_runge_kutta(momentum, operator, steps=10)
        fast = shoot(momentum, operator, steps=10, both=True)
        rim = size // 4
        inner = (slice(None), slice(None), *(slice(rim, -rim),) * 3)
        assert reference.forward is not None
        assert fast.forward is not None
        distances.append(
            max(
                mean_length((fast.inverse - reference.inverse)[inner]),
                mean_length((fast.forward - reference.forward)[inner]),
            )
        )
    # The original scheme interpolates its inverse at every step, a first-order error in the voxel.
    assert distances[1] < 0.5 * distances[0]
    assert distances[1] < 0.03 * spacing


def test_the_map_does_not_depend_on_the_spacing() -> None:
    maps = {}
    for size, h in ((32, 1.0), (16, 2.0)):
        operator = operator_on(size, h)
        momentum = operator.sharpen(smooth_velocity(size, h, seed=4, largest=1.5))
        maps[size] = shoot(momentum, operator, steps=8).inverse
    averaged = torch.nn.functional.avg_pool3d(maps[32], 2)
    inner = (slice(None), slice(None), *(slice(4, -4),) * 3)
    distance = mean_length((averaged - maps[16])[inner])
    assert distance < 0.1 * mean_length(averaged[inner])


def test_anisotropic_spacing_scales_with_the_axes() -> None:
    """A field along x on voxels of (2, 1, 1) mm is the same in mm as on voxels of 1 mm."""
    kernel = Kernel(alpha=4.0, gamma=1.0, power=2)
    maps = []
    for nx, hx in ((32, 1.0), (16, 2.0)):
        operator = KernelOperator(kernel, (nx, 8, 8), (hx, 1.0, 1.0), torch.float64)
        x = 2 * torch.pi * (torch.arange(nx, dtype=torch.float64) + 0.5) / nx
        velocity = torch.zeros((1, 3, nx, 8, 8), dtype=torch.float64)
        velocity[:, 0] = 1.5 * torch.sin(x)[:, None, None]
        maps.append(shoot(operator.sharpen(velocity), operator, steps=8).inverse)
    pooled = torch.nn.functional.avg_pool3d(maps[0], (2, 1, 1))
    assert float((pooled - maps[1])[:, :, 2:-2].abs().max()) < 0.1
    assert float(maps[1].abs().max()) > 1.0


def test_batch_equals_loop(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    batch = torch.cat([momentum, 0.5 * momentum, -momentum])
    together = shoot(batch, operator, steps=3).inverse
    alone = torch.cat([shoot(m[None], operator, steps=3).inverse for m in batch])
    assert torch.allclose(together, alone, atol=1e-12)


def test_single_precision_is_enough(geodesic_start: Start) -> None:
    momentum, operator = geodesic_start
    single = operator_on(24, dtype=torch.float32)
    exact = shoot(momentum, operator).inverse
    rounded = shoot(momentum.float(), single).inverse
    # Displacements of a few voxels with relative rounding errors of 6e-8 in about 20 operations.
    assert float((rounded.double() - exact).abs().max()) < 1e-4


def test_gradient_agrees_with_finite_differences() -> None:
    operator = operator_on(8)
    momentum = operator.sharpen(smooth_velocity(8, 1.0, seed=5, largest=0.8))
    weights = torch.randn((1, 3, 8, 8, 8), generator=torch.Generator().manual_seed(0)).double()

    def value(m: torch.Tensor) -> torch.Tensor:
        return (shoot(m, operator, steps=3).inverse * weights).sum()

    momentum.requires_grad_()
    (gradient,) = torch.autograd.grad(value(momentum), momentum)
    direction = torch.randn(momentum.shape, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-6
    with torch.no_grad():
        slope = (value(momentum + step * direction) - value(momentum - step * direction)) / (
            2 * step
        )
    # The map is piecewise smooth: trilinear interpolation has kinks at voxel centres, which a step
    # of 1e-6 rarely crosses.
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_the_original_scheme_inverts_large_expansions() -> None:
    """Where ``phi`` expands by a large factor, its displacement is not a contraction."""
    operator = operator_on(32, kernel=Kernel(alpha=4.0, gamma=1.0, power=2))
    index = torch.stack(
        torch.meshgrid(*[torch.arange(32, dtype=torch.float64) - 15.5] * 3, indexing="ij")
    )
    swelling = 2.2 * index * torch.exp(-(index**2).sum(0) / (2 * 4.0**2))
    geodesic = shoot_by_runge_kutta(operator.sharpen(swelling[None]), operator)
    assert geodesic.forward is not None
    assert float(determinant(jacobian(geodesic.forward)).max()) > 8
    # Where phi expands most, the inverse varies within two voxels, and each of ten interpolations
    # has an error of some hundredths of a voxel. A wrong inverse would be off by voxels.
    assert float(compose(geodesic.inverse, geodesic.forward).norm(dim=1).max()) < 0.5
    energies = torch.cat(geodesic.energies)
    assert float((energies / energies[0] - 1).abs().max()) < 0.1
