"""Fields for the tests of the LDDMM engine."""

import pytest
import torch

from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel

KERNEL = Kernel(alpha=4.0, beta=0.0, gamma=1.0, power=2)
SHAPE = (9, 10, 12)
SPACING = (1.0, 2.0, 1.5)


def coordinates(shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    axes = [h * torch.arange(n, dtype=torch.float64) for n, h in zip(shape, SPACING, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def smooth_displacement(size: float, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    x, y, z = coordinates(shape)[0]
    return size * torch.stack([torch.sin(y / 4), torch.cos(z / 5), torch.sin(x / 3)])[None]


def operator_on(
    size: int, spacing: float = 1.0, kernel: Kernel = KERNEL, dtype: torch.dtype = torch.float64
) -> KernelOperator:
    return KernelOperator(kernel, (size,) * 3, spacing, dtype)


def smooth_velocity(size: int, spacing: float, *, seed: int, largest: float) -> torch.Tensor:
    """Return a sum of low frequencies on a box of ``size * spacing`` mm, the same at each size."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    waves = torch.stack([torch.sin(2 * torch.pi * x), torch.cos(2 * torch.pi * x)])
    weights = torch.randn((3, 2, 2, 2), generator=generator, dtype=torch.float64)
    field = torch.einsum("cijk,ix,jy,kz->cxyz", weights, waves, waves, waves)[None]
    return field * (largest / 3.0)


@pytest.fixture
def geodesic_start() -> tuple[torch.Tensor, KernelOperator]:
    """Return a momentum on 24^3 voxels whose velocity is up to about 3 voxels, and its kernel."""
    operator = operator_on(24)
    return operator.sharpen(smooth_velocity(24, 1.0, seed=1, largest=2.0)), operator
