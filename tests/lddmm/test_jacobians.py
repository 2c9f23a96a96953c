"""Jacobians, against closed forms."""

import pytest
import torch

from nipype_quicksilver.lddmm import jacobians
from tests.lddmm.conftest import SHAPE, SPACING, coordinates, smooth_displacement


def test_jacobian_of_a_linear_map_is_its_matrix() -> None:
    matrix = torch.tensor([[0.1, 0.2, 0.0], [-0.1, 0.3, 0.1], [0.0, 0.05, -0.2]]).double()
    displacement = torch.einsum("de,bexyz->bdxyz", matrix, coordinates())
    expected = matrix + torch.eye(3, dtype=torch.float64)
    jacobian = jacobians.jacobian(displacement, SPACING)
    assert torch.allclose(jacobian, expected[None, :, :, None, None, None].expand_as(jacobian))
    determinant = float(torch.linalg.det(expected))
    corners = jacobians.corner_determinants(displacement, SPACING)
    assert corners.shape == (1, 8, *(n - 1 for n in SHAPE))
    for values in (jacobians.determinant(jacobian), corners):
        assert torch.allclose(values, torch.full_like(values, determinant))


def test_corners_detect_a_fold_that_central_differences_miss() -> None:
    displacement = torch.zeros((1, 3, 8, 8, 8), dtype=torch.float64)
    displacement[0, 0, 4, 4, 4] = 1.5  # voxel 4 jumps past voxel 5 and leaves a gap behind it
    assert (jacobians.determinant(jacobians.jacobian(displacement)) > 0).all()
    corners = jacobians.corner_determinants(displacement)
    assert float(corners.min()) == pytest.approx(-0.5)
    assert int((corners <= 0).sum()) == 8  # both ends of the edge, in each of its four cells


def test_shortfall_and_its_gradient_equal_those_of_all_corners() -> None:
    displacement = (3 * smooth_displacement(1.0)).requires_grad_()
    margin = 0.6
    corners = jacobians.corner_determinants(displacement, SPACING)
    part = torch.relu(1 - corners / margin)
    expected = (part.square() / (1 + part)).sum()
    assert expected.item() > 0
    shortfall, smallest = jacobians.jacobian_shortfall(displacement, SPACING, margin)
    assert shortfall.item() == pytest.approx(expected.item())
    assert smallest.item() == corners.min().item()
    gradients = [torch.autograd.grad(v, displacement)[0] for v in (expected, shortfall)]
    assert torch.allclose(*gradients)
    zero, _ = jacobians.jacobian_shortfall(0 * displacement, SPACING, margin)
    assert zero.item() == 0
