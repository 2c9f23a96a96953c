"""Boxes of grids, pooling and upsampling."""

import pytest
import torch

from nipype_quicksilver.lddmm import grids
from tests.lddmm.conftest import SHAPE, smooth_displacement


def test_bounding_box_contains_all_weight_and_ends_at_multiples() -> None:
    weight = torch.zeros((2, 1, *SHAPE))
    weight[0, 0, 3, 4, 5] = weight[1, 0, 6, 4, 11] = 0.5
    whole = (slice(None), slice(None))
    assert grids.bounding_box(weight) == (*whole, slice(3, 7), slice(4, 5), slice(5, 12))
    expected = (*whole, slice(0, 8), slice(4, 8), slice(4, 12))
    assert grids.bounding_box(weight, 4) == expected
    assert grids.bounding_box(weight, 5)[2] == slice(0, 9)  # where the grid ends
    assert grids.bounding_box(weight, 2, margin=1)[2:] == (slice(2, 8), slice(2, 6), slice(4, 12))
    assert grids.bounding_box(0 * weight)[2:] == tuple(slice(0, n) for n in SHAPE)


def test_a_part_of_a_field_is_embedded_in_its_box() -> None:
    field = torch.rand((2, 3, *SHAPE))
    box = (slice(None), slice(None), slice(2, 6), slice(0, 4), slice(8, 12))
    embedded = grids.embed(field[box], box, SHAPE)
    assert embedded.shape == field.shape and torch.equal(embedded[box], field[box])
    assert float(embedded.sum()) == pytest.approx(float(field[box].sum()))


@pytest.mark.parametrize("start, stop", [((0, 0, 0), (18, 20, 24)), ((3, 4, 7), (4, 9, 22))])
def test_upsampling_within_a_box_equals_upsampling(start, stop) -> None:
    field = smooth_displacement(1.3)
    box = (slice(None), slice(None), *map(slice, start, stop))
    for factor in (1, 2):
        part = grids.upsample_within(field, factor, box)
        assert torch.equal(part, grids.upsample(field, factor)[box])


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_inverts_pooling_of_linear_functions(factor: int) -> None:
    x = torch.arange(8, dtype=torch.float64)[None, None, :, None, None].expand(1, 1, 8, 8, 8)
    fine = grids.upsample(grids.pool(x, factor), factor)
    inner = slice(factor, -factor)
    assert torch.allclose(fine[:, :, inner], x[:, :, inner])


def test_upsampling_agrees_with_torch() -> None:
    field = torch.rand((1, 3, 5, 6, 7), dtype=torch.float64)
    expected = torch.nn.functional.interpolate(
        field, scale_factor=4, mode="trilinear", align_corners=False
    )
    assert torch.allclose(grids.upsample(field, 4), expected)
