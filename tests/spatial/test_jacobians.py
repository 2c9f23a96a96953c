"""Jacobian determinants against closed forms and against loops over voxels."""

import itertools

import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import jacobians
from nipype_quicksilver.spatial.grids import Grid

TILT = euler2mat(0.1, -0.2, 0.3)
AFFINES = {
    "RAS": from_matvec(np.eye(3), [-3, 4, 5]),
    "LIA": from_matvec(np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), [3, 4, -5]),
    "anisotropic": from_matvec(TILT @ np.diag([-0.8, 1, 3]), [3, 4, 5]),
}
SHAPE = (37, 5, 6)


@pytest.fixture(params=AFFINES)
def grid(request, monkeypatch) -> Grid:
    monkeypatch.setattr(jacobians, "_SLAB", 100)  # slabs meet inside
    return Grid(SHAPE, AFFINES[request.param])


def test_identity_is_exactly_zero(grid):
    field = np.zeros((*SHAPE, 3), np.float32)
    assert np.all(jacobians.log_jacobian(field, grid) == 0)
    assert np.all(jacobians.minimum_jacobian(field, grid) == 1)


def test_linear_map(grid):
    """Every difference of a linear map is exact, at the border too."""
    matrix = euler2mat(0.3, 0.2, 0.1) @ np.diag([1.2, 0.7, 1.1])
    points = grid.coordinates()
    field = points @ matrix.T - points
    expected = 1.2 * 0.7 * 1.1
    np.testing.assert_allclose(jacobians.minimum_jacobian(field, grid), expected, rtol=1e-5)
    np.testing.assert_allclose(jacobians.log_jacobian(field, grid), np.log(expected), atol=1e-5)


def test_mirror_folds_everywhere(grid):
    points = grid.coordinates()
    result = jacobians.jacobian_summary(points * [-2, 0, 0], grid)
    assert result.folded == result.voxels == np.prod(SHAPE)
    assert result.folded_percent == 100
    assert result.minimum == pytest.approx(-1, abs=1e-4)
    assert result.log_jacobian["mean"] is None


def test_folds_are_counted_exactly():
    """One voxel jumps past the next: the cell between them folds, seen from both of its ends."""
    grid = Grid((9, 5, 5), np.diag([2.0, 1, 1, 1]))
    field = np.zeros((9, 5, 5, 3))
    field[4, 2, 2, 0] = 3  # mm, that is 1.5 voxels
    result = jacobians.minimum_jacobian(field, grid)
    # Along x: backward 1 + 1.5, forward 1 - 1.5; the next voxel shares that forward difference,
    # the one before only grows. Along y and z the diagonal stays 1.
    assert np.argwhere(result <= 0).tolist() == [[4, 2, 2], [5, 2, 2]]
    assert result[4, 2, 2] == pytest.approx(-0.5)
    assert jacobians.jacobian_summary(field, grid).folded == 2
    # Central differences see none of it at the voxel itself.
    assert jacobians.log_jacobian(field, grid)[4, 2, 2] == 0


def test_eight_determinants_against_loops(grid):
    """The definition, voxel by voxel, in the world's frame."""
    field = np.random.default_rng(4).normal(scale=0.4, size=(*SHAPE, 3)).astype(np.float32)
    mapped = grid.coordinates() + field
    inverse = np.linalg.inv(grid.affine[:3, :3])
    result = jacobians.minimum_jacobian(field, grid)
    for index in [(0, 0, 0), (36, 4, 5), (15, 2, 3), (16, 0, 3), (17, 2, 5), (31, 1, 1)]:
        determinants = []
        for signs in itertools.product([-1, 1], repeat=3):
            columns = []
            for axis, sign in enumerate(signs):
                other = list(index)
                other[axis] += sign
                if not 0 <= other[axis] < SHAPE[axis]:
                    sign = -sign
                    other[axis] = index[axis] + sign
                columns.append(sign * (mapped[tuple(other)] - mapped[index]))
            determinants.append(np.linalg.det(np.stack(columns, -1) @ inverse))
        assert result[index] == pytest.approx(min(determinants), abs=1e-4)


def test_summary_of_a_mask():
    grid = Grid((8, 4, 4), np.eye(4))
    x = grid.coordinates()[..., 0]
    field = np.zeros((8, 4, 4, 3))
    field[..., 0] = np.where(x > 3, x - 3, 0)  # doubles beyond the plane x = 3
    mask = np.zeros(grid.shape, np.uint8)
    mask[5:] = 1
    result = jacobians.jacobian_summary(field, grid, mask)
    assert result.voxels == 3 * 16 and result.folded == 0
    statistics = result.log_jacobian
    assert statistics["mean"] == pytest.approx(np.log(2), abs=1e-6)
    assert statistics["p1"] == statistics["p99"] == pytest.approx(np.log(2), abs=1e-6)
    assert statistics["sd"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="covers no voxel"):
        jacobians.jacobian_summary(field, grid, mask * 0)
