"""Interpolation on whole grids, compared with ITK's."""

import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from nipype_quicksilver.registration.warping import move_points, pull_back, pull_back_labels
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import (
    affine_transform,
    compose,
    displacement_on_grid,
    displacement_transform,
    map_points,
)


@pytest.fixture
def grids():
    """Of a field, of an image on a flipped and turned grid, and of where it is wanted."""
    turned = euler2mat(0.3, -0.2, 0.1) @ np.diag([-1.2, 0.9, 1.1])
    return (
        Grid((24, 20, 22), from_matvec(np.eye(3) * 2, [-20, -18, -20])),
        Grid((21, 23, 19), from_matvec(turned, [12, -12, -10])),
        Grid((17, 30, 25), from_matvec(np.diag([1.5, 1, -1]), [-14, -16, 11])),
    )


@pytest.fixture
def field(grids):
    """Displacements of a few millimetres, zero at the border."""
    field = np.random.default_rng(0).normal(size=(*grids[0].shape, 3)).astype(np.float32)
    for axis in range(3):
        np.moveaxis(field, axis, 0)[[0, -1]] = 0
    return field


def test_an_image_is_pulled_back_as_itk_does(grids, field):
    affine = from_matvec(euler2mat(0.1, 0.05, -0.1) * 1.05, [1, -2, 0.5])
    chain = compose([affine_transform(affine), displacement_transform(field, grids[0])])
    data = np.random.default_rng(1).uniform(1, 2, grids[1].shape).astype(np.float32)
    expected = resample(nifti(data, grids[1].affine), grids[2], chain)
    displacement = displacement_on_grid(chain, grids[2])
    warped = pull_back(data, grids[1], displacement, grids[2])
    # Where a point is outside or inside by rounding, either is right.
    assert np.isclose(warped, expected, atol=1e-4).mean() > 0.999
    assert 0.1 < (expected == 0).mean() < 0.9


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_labels_are_pulled_back_as_itk_does(grids, field, dtype):
    displacement = displacement_on_grid(displacement_transform(field, grids[0]), grids[2])
    chain = displacement_transform(displacement, grids[2])
    # Blocks, in which most cells have one label, and single voxels.
    random = np.random.default_rng(3)
    blocks = np.kron(random.integers(0, 4, (7, 8, 7)), np.ones((3, 3, 3)))
    size = tuple(slice(n) for n in grids[1].shape)
    highest = np.iinfo(dtype).max
    labels = blocks[size].astype(dtype)
    labels[random.random(grids[1].shape) < 0.1] = highest
    image = nifti(labels, grids[1].affine)
    expected = resample(image, grids[2], chain, interpolation="GenericLabel")
    warped = pull_back_labels(labels, grids[1], displacement, grids[2])
    assert warped.dtype == expected.dtype == dtype
    # Where two labels have the same weight, or a point is outside by rounding, either is right.
    assert (warped == expected).mean() > 0.999
    assert {int(label) for label in np.unique(warped)} == {0, 1, 2, 3, highest}


def test_points_are_moved_as_itk_does(grids, field):
    points = np.random.default_rng(2).uniform(-30, 30, (201, 3))
    expected = map_points(displacement_transform(field, grids[0]), points)
    np.testing.assert_allclose(move_points(points, field, grids[0]), expected, atol=1e-4)


def test_the_number_of_threads_changes_nothing(grids, field):
    points = np.random.default_rng(3).uniform(-20, 20, (1001, 3))
    before, moved = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        moved.append(move_points(points, field, grids[0]))
    torch.set_num_threads(before)
    assert np.array_equal(*moved)
