"""Brains, masks and lesions on working grids, against plain computations."""

import warnings

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import conforming
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti

RNG = np.random.default_rng(0)
SHAPE = (9, 8, 7)
TILTED = from_matvec(euler2mat(0.4, 0.5, 0.6) @ np.diag([1.0, -2, 3]), [4, 5, 6])


def some_voxels(fraction, affine=TILTED):
    """Return a mask of random voxels."""
    return nifti((RNG.random(SHAPE) < fraction).astype(np.uint8), affine)


def block(affine, width=5):
    """Return a mask that is a cube of voxels."""
    data = np.zeros((9, 9, 9), np.uint8)
    data[2 : 2 + width, 2 : 2 + width, 2 : 2 + width] = 1
    return nifti(data, affine)


def world_points(mask):
    return apply_affine(mask.affine, np.argwhere(np.asanyarray(mask.dataobj) != 0))


def test_outermost_voxels_have_the_bounding_box_of_all_voxels():
    mask = some_voxels(0.1)
    inside = np.asanyarray(mask.dataobj) != 0
    ends = apply_affine(mask.affine, conforming._outermost_voxels(inside))
    for edge in (np.min, np.max):
        np.testing.assert_array_equal(edge(ends, axis=0), edge(world_points(mask), axis=0))


def test_joint_grid_encloses_both_brains():
    fixed = block(from_matvec(np.diag([-2.0, 2, 2]), [30, 0, 0]))
    moving = block(from_matvec(euler2mat(0.2, 0, 0.1) * 3, [0, 40, 10]))
    matrix = from_matvec(euler2mat(0, 0.3, 0), [5, -6, 7])
    grid = conforming.joint_grid(fixed, moving, matrix)
    assert grid.spacing == (1, 1, 1) and not np.any(np.array(grid.shape) % 8)
    for points in (world_points(fixed), apply_affine(np.linalg.inv(matrix), world_points(moving))):
        index = apply_affine(np.linalg.inv(grid.affine), points)
        # Also the voxels' edges, and the margin of 10 mm.
        assert (index > 9).all() and (index < np.array(grid.shape) - 10).all()


def test_brains_of_absurd_size_are_refused():
    small, large = block(np.eye(4)), block(np.diag([150.0, 1, 1, 1]))
    large.extra["path"] = "large.nii"
    for pair in ((small, large), (large, small)):
        with pytest.raises(InputError, match=r"^large.nii: its nonzero voxels are \d+ mm wide"):
            conforming.joint_grid(*pair, np.eye(4))


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_fraction_outside(cut):
    brain = block(np.diag([2.0, 2, 2, 1]))
    # The grid begins in the middle of the brain along x.
    grid = Grid((32, 32, 32), from_matvec(np.eye(3), [2 * (2 + cut) - 0.5, 0, 0]))
    assert conforming.fraction_outside(brain, grid, np.eye(4)) == pytest.approx(cut / 5)
    shift = from_matvec(np.eye(3), [2.0 * cut, 0, 0])
    moved = Grid(grid.shape, np.linalg.inv(shift) @ grid.affine)
    assert conforming.fraction_outside(brain, moved, shift) == pytest.approx(cut / 5)


def test_brains_off_the_grid_are_reported():
    brain = block(np.diag([2.0, 2, 2, 1]))
    brain.extra["path"] = "brain.nii"

    def check(start):
        grid = Grid((32, 32, 32), from_matvec(np.eye(3), [start, 0, 0]))
        conforming.check_enclosed(brain, grid, np.eye(4))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(0)
    with pytest.warns(UserWarning, match=r"^brain.nii: 20% of its brain lies outside the working"):
        check(5.5)
    with pytest.raises(InputError, match=r"^brain.nii: lies outside the working grid"):
        check(100)


def test_masks_include_voxels_that_are_half_inside():
    mask = block(np.diag([2.0, 1, 1, 1]))
    grid = Grid((18, 9, 9), np.eye(4))
    inside = conforming.conform_mask(mask, grid)
    # Centres are at even x; odd voxels are half-way between two of them.
    assert np.flatnonzero(inside.any(axis=(1, 2))).tolist() == list(range(3, 14))
    shift = from_matvec(np.eye(3), [4, 0, 0])
    moved = conforming.conform_mask(mask, grid, shift)
    np.testing.assert_array_equal(moved[:-4], inside[4:])


def test_lesions():
    image, grid = block(np.eye(4), width=7), Grid((9, 9, 9), np.eye(4))
    assert conforming.conform_lesion(None, image, grid, np.eye(4)) is None
    lesion = conforming.conform_lesion(block(np.eye(4), width=2), image, grid, np.eye(4))
    np.testing.assert_array_equal(lesion, np.asanyarray(block(np.eye(4), 2).dataobj) > 0)
    far = block(from_matvec(np.eye(3), [100, 0, 0]))
    far.extra["path"] = "lesion.nii"
    with pytest.raises(InputError, match=r"^lesion.nii: does not overlap image in space"):
        conforming.conform_lesion(far, image, grid, np.eye(4))
    small = Grid((2, 2, 2), np.eye(4))
    with pytest.warns(UserWarning, match="covers no voxel of the working grid and has no effect"):
        nothing = conforming.conform_lesion(block(np.eye(4)), image, small, np.eye(4))
    assert not nothing.any()


def test_lesions_are_filled_with_the_median_of_the_rest():
    data = RNG.random(SHAPE).astype(np.float32)
    brain, lesion = RNG.random(SHAPE) < 0.7, RNG.random(SHAPE) < 0.3
    image = nifti(data, np.eye(4))
    assert conforming.fill_lesion(data, brain, None, image) is data
    filled = conforming.fill_lesion(data, brain, lesion, image)
    assert filled.dtype == np.float32
    assert (filled[brain & lesion] == np.median(data[brain & ~lesion])).all()
    np.testing.assert_array_equal(filled[~(brain & lesion)], data[~(brain & lesion)])
    with pytest.raises(InputError, match="its lesion mask covers the whole brain"):
        conforming.fill_lesion(data, brain, brain, image)


def test_weights_are_zero_in_lesions():
    assert conforming.lesion_weight(None) is None
    weight = conforming.lesion_weight(np.array([True, False]))
    assert weight.tolist() == [0, 1] and weight.dtype == np.float32
