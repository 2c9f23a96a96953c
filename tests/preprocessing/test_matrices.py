"""Matrices of affines: square roots, means, models, plausibility."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from nipype_quicksilver.options import DOF
from nipype_quicksilver.preprocessing import matrices
from nipype_quicksilver.preprocessing.matrices import MutualInformation
from nipype_quicksilver.spatial.transforms import affine_matrix

TURN = Rotation.from_rotvec([0.3, -0.2, 0.1]).as_matrix()
MATRIX = from_matvec(TURN @ np.diag([1.1, 0.9, 1.2]), [5, -6, 7])
CENTER = np.array([10.0, 20, -30])


def test_halves_are_square_roots():
    first, second = matrices.halves(MATRIX)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first @ second, MATRIX, atol=1e-9)


def test_matrices_without_a_root_are_split_otherwise():
    mirror = np.diag([-1.0, 1, 1, 1])
    first, second = matrices.halves(mirror)
    np.testing.assert_allclose(second @ first, mirror)


def test_means():
    other = from_matvec(TURN.T, [1, 2, 3])
    mean = matrices.mean(MATRIX, other)
    np.testing.assert_allclose(matrices.mean(other, MATRIX), mean, atol=1e-9)
    inverse = matrices.mean(*(np.linalg.inv(matrix) for matrix in (MATRIX, other)))
    np.testing.assert_allclose(inverse, np.linalg.inv(mean), atol=1e-9)
    double = matrices.mean(np.eye(4), from_matvec(np.eye(3) * 4, [0, 0, 0]))
    np.testing.assert_allclose(double, np.diag([2, 2, 2, 1]), atol=1e-9)


def test_rotations_are_those_of_space():
    for rotations, number in (
        (matrices.rotations_nearby(), 125),
        (matrices.rotations_of_axes(), 24),
    ):
        assert len(rotations) == number
        for turn in rotations:
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
            assert np.linalg.det(turn) > 0


def test_models_are_near_the_matrix():
    assert set(matrices.MODELS) == set(DOF)
    linear = {}
    for dof, model in matrices.MODELS.items():
        result = affine_matrix(model(MATRIX, CENTER))
        np.testing.assert_allclose(
            apply_affine(result, CENTER), apply_affine(MATRIX, CENTER), atol=1e-6
        )
        linear[dof] = result[:3, :3]
    rotation = matrices.rotation(MATRIX)
    np.testing.assert_allclose(linear[12], MATRIX[:3, :3], atol=1e-9)
    np.testing.assert_allclose(linear[6], rotation, atol=1e-9)
    np.testing.assert_allclose(linear[7], np.cbrt(1.1 * 0.9 * 1.2) * rotation, atol=1e-9)


def test_the_summary_of_a_matrix():
    summary = matrices.describe(MATRIX)
    np.testing.assert_allclose(summary.scales, [1.2, 1.1, 0.9])
    assert summary.rotation_degrees == pytest.approx(
        np.degrees(np.linalg.norm([0.3, -0.2, 0.1])), abs=0.1
    )


@pytest.mark.parametrize(
    ("changes", "linear", "message"),
    [
        ({"similarity": MutualInformation(0.5, 0.4)}, np.eye(3), "not better than the start"),
        ({"scales": [1.0, 1.0, 0.4]}, np.diag([1, 1, 0.4]), "scales by 1.00, 1.00, 0.40, impl"),
        ({"scales": [1e-4] * 3}, np.diag([1e-4] * 3), "scales by 0.0001, 0.0001, 0.0001, impl"),
        ({"rotation_degrees": 170.0}, np.eye(3), "rotates by 170 degrees; check the orientation"),
        ({}, np.diag([-1, 1, 1]), "mirrors the image"),
    ],
)
def test_implausible_affines_are_reported(changes, linear, message):
    plausible = matrices.AffineSummary(
        similarity=MutualInformation(0.1, 0.5), scales=[1.0, 1.0, 1.0], rotation_degrees=3.0
    )
    assert matrices.plausibility_warnings(plausible, np.eye(4)) == []
    (warning,) = matrices.plausibility_warnings(replace(plausible, **changes), from_matvec(linear))
    assert message in warning
