"""The kernel: self-adjoint, with inverse and root, and the same at every spacing."""

import math

import pytest
import torch

from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel

KERNELS = [
    Kernel(),
    Kernel.original(),
    Kernel(alpha=0.5, beta=0.2, gamma=1.0, power=2),
    Kernel(alpha=0.5, beta=0.0, gamma=1.0, power=1.5),
]
SHAPE = (8, 10, 12)
SPACING = (1.0, 2.0, 1.5)


def random_field(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((2, 3, *SHAPE), generator=generator, dtype=torch.float64)


def operator_of(kernel: Kernel) -> KernelOperator:
    return KernelOperator(kernel, SHAPE, SPACING, torch.float64)


@pytest.mark.parametrize("kernel", KERNELS)
def test_is_self_adjoint_and_positive(kernel: Kernel) -> None:
    operator = operator_of(kernel)
    first, second = random_field(0), random_field(1)
    left = operator.inner(operator.smooth(first), second)
    right = operator.inner(first, operator.smooth(second))
    assert torch.allclose(left, right, rtol=1e-10)
    assert (operator.inner(first, operator.smooth(first)) > 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_sharpen_inverts_smooth_and_two_roots_give_the_kernel(kernel: Kernel) -> None:
    operator = operator_of(kernel)
    field = random_field(2)
    assert torch.allclose(operator.sharpen(operator.smooth(field)), field, atol=1e-9)
    twice = operator.apply(operator.apply(field, 0.5), 0.5)
    assert torch.allclose(twice, operator.smooth(field), atol=1e-9 * float(twice.abs().max()))


def test_inverse_is_the_finite_difference_operator() -> None:
    """``K^-1 v`` at power 1, against explicit stencils."""
    alpha, beta, gamma = 0.3, 0.2, 0.7
    operator = operator_of(Kernel(alpha, beta, gamma, 1))
    field = random_field(3)

    def shifted(values: torch.Tensor, axis: int, step: int) -> torch.Tensor:
        return values.roll(-step, dims=axis - 3)

    def second(values: torch.Tensor, axis: int) -> torch.Tensor:
        step = shifted(values, axis, 1) - 2 * values + shifted(values, axis, -1)
        return step / SPACING[axis] ** 2

    def central(values: torch.Tensor, axis: int) -> torch.Tensor:
        return (shifted(values, axis, 1) - shifted(values, axis, -1)) / (2 * SPACING[axis])

    rows = []
    for d in range(3):
        component = field[:, d]
        laplacian = sum(second(component, axis) for axis in range(3))
        grad_div = second(component, d) + sum(
            central(central(field[:, e], e), d) for e in range(3) if e != d
        )
        rows.append(-alpha * laplacian - beta * grad_div + gamma * component)
    assert torch.allclose(operator.sharpen(field), torch.stack(rows, dim=1), atol=1e-10)


def test_gain_of_a_plane_wave_is_its_closed_form() -> None:
    kernel = Kernel(alpha=0.3, beta=0.0, gamma=0.7, power=1.5)
    operator = operator_of(kernel)
    x = torch.arange(SHAPE[1], dtype=torch.float64)
    wave = torch.cos(2 * math.pi * 2 * x / SHAPE[1])[None, None, None, :, None]
    field = wave.expand(1, 3, *SHAPE).contiguous()
    symbol = 0.7 + 0.3 * (2 - 2 * math.cos(2 * math.pi * 2 / SHAPE[1])) / SPACING[1] ** 2
    assert torch.allclose(operator.smooth(field), field * symbol**-1.5, atol=1e-12)


def test_smooths_equally_at_every_spacing() -> None:
    """A wave of 32 mm has the same gain on 1 mm and on 2 mm, up to the finite differences."""
    gains = []
    for size, spacing in ((32, 1.0), (16, 2.0)):
        operator = KernelOperator(Kernel(0.5, 0.0, 0.1, 2), (size,) * 3, spacing, torch.float64)
        x = spacing * torch.arange(size, dtype=torch.float64)
        wave = torch.cos(2 * math.pi * x / 32)[None, None, :, None, None]
        field = wave.expand(1, 3, size, size, size)
        gains.append(float(operator.smooth(field)[0, 0, 0, 0, 0]))
    # The symbol's relative error is theta^2 / 12 for each grid: 1.3% at theta = pi / 8, squared
    # by the power and weighted by the Laplacian's fraction of the symbol, 16%.
    assert gains[0] == pytest.approx(gains[1], rel=2 * 0.16 * 0.013)


@pytest.mark.parametrize(
    "parameters",
    [{"gamma": 0.0}, {"alpha": -1.0}, {"beta": -1.0}, {"power": 0}, {"alpha": float("nan")}],
)
def test_rejects_invalid_parameters(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="kernel needs"):
        Kernel(**parameters)
