"""The maps written to files: mutually inverse, zero at the border, with energies."""

import pytest
import torch

from nipype_quicksilver.lddmm.fields import compose
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import RIM, TOLERANCE, Maps, registration_maps
from nipype_quicksilver.lddmm.shooting import shoot
from tests.lddmm.conftest import operator_on, smooth_velocity

SPACING = 2.0


def maps_of(momentum: torch.Tensor, operator: KernelOperator, factor: int = 1) -> Maps:
    geodesic = shoot(momentum, operator, steps=3, energies=True)
    return registration_maps(geodesic, operator, factor=factor)


@pytest.mark.parametrize("factor", [1, 2])
def test_maps_vanish_at_the_border_and_are_mutually_inverse(factor: int) -> None:
    operator = operator_on(24, SPACING)
    momentum = operator.sharpen(smooth_velocity(24, SPACING, seed=6, largest=2.0))
    maps = maps_of(momentum, operator, factor)
    for field in (maps.inverse, maps.forward):
        assert float(field.abs().max()) > 1
        for axis in (2, 3, 4):
            assert not field.narrow(axis, 0, 1).any()
            assert not field.narrow(axis, 24 * factor - 1, 1).any()
    # At the voxels of the grid, Newton's method is more accurate than the interpolation between.
    residual = compose(maps.inverse, maps.forward, SPACING / factor)
    assert float(residual.norm(dim=1).max()) <= 1.001 * TOLERANCE * SPACING / factor
    assert len(maps.energies) == 4
    assert RIM == 10.0


def test_batch_equals_loop() -> None:
    operator = operator_on(16, SPACING)
    momenta = [
        operator.sharpen(smooth_velocity(16, SPACING, seed=seed, largest=1.0)) for seed in (8, 9)
    ]
    together = maps_of(torch.cat(momenta), operator, 2)
    for i, momentum in enumerate(momenta):
        alone = maps_of(momentum, operator, 2)
        assert torch.allclose(together.inverse[i : i + 1], alone.inverse, atol=1e-12)
        assert torch.allclose(together.forward[i : i + 1], alone.forward, atol=1e-12)


def test_inside_the_rim_the_map_is_that_of_the_geodesic() -> None:
    operator = operator_on(24, SPACING)
    momentum = operator.sharpen(smooth_velocity(24, SPACING, seed=7, largest=1.0))
    maps = maps_of(momentum, operator)
    shot = shoot(momentum, operator, steps=3).inverse
    inner = (slice(None), slice(None), *(slice(5, -5),) * 3)
    assert torch.equal(maps.inverse[inner], shot[inner])
