"""Two images on one working grid, with the weights of their voxels."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.ndimage import binary_dilation

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration import preparation
from nipype_quicksilver.registration.pair import Frame, ScanFiles, paths_of, read_pair
from nipype_quicksilver.registration.preparation import prepare
from nipype_quicksilver.spatial import images
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.grids import Grid, working_grid
from tests.helpers.registrations import load

# A voxel cut into eight: the first of them lies a quarter of a voxel before its centre.
FINER = np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1.0]])


def prepared_files(fixed, moving):
    """Read two scans and bring them to the working grid."""
    return prepare(read_pair(fixed, moving), paths_of(fixed, moving))


def some_voxels(shape: tuple[int, int, int], fraction: float) -> np.ndarray:
    return np.random.default_rng(0).random(shape) < fraction


def test_the_weight_is_the_brains_dilated_and_without_the_lesion():
    fixed, moving, lesion = (some_voxels((9, 8, 7), fraction) for fraction in (0.01, 0.02, 0.3))
    weight = preparation.similarity_weight(fixed, moving, lesion)
    expected = binary_dilation(fixed | moving, iterations=preparation.DILATION) & ~lesion
    assert np.array_equal(weight, expected.astype(np.float32))


def test_masks_may_be_on_any_grid(pair, tmp_path):
    mask = images.read_mask(pair.fixed_mask)
    fine = Grid(tuple(2 * n for n in mask.shape), Grid.from_image(mask).affine @ FINER)
    data = np.repeat(np.repeat(np.repeat(np.asanyarray(mask.dataobj), 2, 0), 2, 1), 2, 2)
    path = images.write_image(tmp_path / "fine.nii.gz", data, fine.affine)
    usual = prepared_files(ScanFiles(pair.fixed, pair.fixed_mask), ScanFiles(pair.moving))
    other = prepared_files(ScanFiles(pair.fixed, path), ScanFiles(pair.moving))
    assert other.grid.equals(usual.grid)
    assert np.mean(other.weight != usual.weight) < 0.01
    assert other.masks["fixed_mask"].voxels == pytest.approx(
        usual.masks["fixed_mask"].voxels, rel=0.03
    )


def test_a_lesion_mask_off_the_working_grid_is_reported(pair, tmp_path):
    grid = Grid.from_file(pair.fixed)
    corner = np.zeros(grid.shape, np.uint8)
    small = Grid(grid.shape, grid.affine @ np.diag([0.01, 0.01, 0.01, 1]))
    corner[:2, :2, :2] = 1
    path = images.write_image(tmp_path / "speck.nii.gz", corner, small.affine)
    fixed = ScanFiles(pair.fixed, pair.fixed_mask, path)
    with pytest.warns(UserWarning, match="covers no voxel of the working grid"):
        prepared = prepared_files(fixed, ScanFiles(pair.moving))
    assert not prepared.masks["fixed_lesion_mask"].used


def test_the_working_grid_contains_both_brains(pair):
    prepared = prepared_files(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    both = [load(pair.fixed) != 0, load(pair.moving) != 0]
    for brain, path in zip(both, (pair.fixed, pair.moving), strict=True):
        points = Grid.from_file(path).coordinates()[brain]
        low = prepared.grid.affine[:3, 3]
        high = low + np.array(prepared.grid.shape) - 1
        assert np.all(points.min(axis=0) - low >= 9)
        assert np.all(high - points.max(axis=0) >= 9)
    assert prepared.grid.spacing == (1.0, 1.0, 1.0)
    assert all(n % 8 == 0 for n in prepared.grid.shape)
    assert prepared.fixed.max() <= 1.5
    assert np.percentile(prepared.fixed[prepared.fixed > 0], 99.5) == pytest.approx(1, abs=0.01)


def test_brains_outside_the_frame_are_reported(pair):
    scans = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    grid = working_grid(native_brain(scans.fixed.image, None))
    for shift, expected in (
        (18, pytest.warns(UserWarning, match="of its brain lies outside")),
        (200, pytest.raises(InputError, match="lies outside the working grid")),
    ):
        frame = Frame(grid, from_matvec(np.eye(3), [shift, 0, 0]))
        with expected:
            prepare(replace(scans, frame=frame), {})
