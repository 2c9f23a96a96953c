"""Resampling agrees with an independent computation by SciPy, for every orientation."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from scipy.ndimage import map_coordinates

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import APPLY_INTERPOLATIONS, LABEL_PRESERVING
from nipype_quicksilver.spatial import resampling, transforms
from nipype_quicksilver.spatial.grids import Grid

RNG = np.random.default_rng(5)
TILT = euler2mat(0.1, -0.2, 0.3)
AFFINES = {
    "RAS": np.eye(3),
    "LAS": np.diag([-1.0, 1, 1]),
    "LIA": np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": TILT,
    "anisotropic": TILT @ np.diag([-0.8, 1, 1.7]),
}
SHAPE = (9, 10, 11)


def centred(matrix: np.ndarray, shape=SHAPE) -> np.ndarray:
    """Return the affine that has the middle of the box at the world's origin."""
    return from_matvec(matrix, -matrix @ (np.array(shape) - 1) / 2)


def by_scipy(data, affine, points, order=1, default=0.0):
    """Sample at world points; ITK's image ends half a voxel beyond the last centres."""
    index = apply_affine(np.linalg.inv(affine), points)
    inside = np.all((index >= -0.5) & (index < np.array(data.shape) - 0.5), axis=-1)
    values = map_coordinates(data, np.moveaxis(index, -1, 0), order=order, mode="nearest")
    return np.where(inside, values, default), inside


@pytest.fixture(params=AFFINES)
def image(request) -> nib.Nifti1Image:
    data = RNG.random(SHAPE).astype(np.float32) + 1
    return nib.Nifti1Image(data, centred(AFFINES[request.param]))


@pytest.mark.parametrize("target", AFFINES)
def test_linear_through_a_chain(image, target):
    grid = Grid((7, 6, 8), centred(AFFINES[target], (7, 6, 8)))
    field = RNG.normal(size=(*grid.shape, 3)).astype(np.float32)
    matrix = from_matvec(euler2mat(0.1, 0.05, 0) * 1.05, [0.3, -0.4, 0.2])
    chain = transforms.compose(
        [transforms.affine_transform(matrix), transforms.displacement_transform(field, grid)]
    )
    points = apply_affine(matrix, grid.coordinates() + field)
    expected, inside = by_scipy(image.get_fdata(), image.affine, points, default=-3)
    assert inside.mean() > 0.6 and not inside.all()
    result = resampling.resample(image, grid, chain, default_value=-3)
    assert result.shape == grid.shape and result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_own_grid_changes_nothing(image):
    for name in ("Linear", "NearestNeighbor", "BSpline"):
        result = resampling.resample(image, Grid.from_image(image), interpolation=name)
        np.testing.assert_allclose(result, image.get_fdata(), atol=1e-4)


@pytest.mark.parametrize("name", APPLY_INTERPOLATIONS)
def test_every_interpolation_runs(name):
    data = np.zeros((12, 12, 12), np.int16)
    data[3:9, 3:9, 3:9] = 100
    image = nib.Nifti1Image(data, np.eye(4))
    grid = Grid((12, 12, 12), from_matvec(np.eye(3), [0.3, 0, 0]))
    result = resampling.resample(image, grid, interpolation=name)
    label = name in LABEL_PRESERVING
    assert result.dtype == (np.int16 if label else np.float32)
    # Deep inside and far outside every method agrees, up to a sinc's ripple.
    assert abs(result[5, 5, 5] - 100) < 10 and abs(result[0, 0, 0]) < 10


@pytest.mark.parametrize("name", ["NearestNeighbor", "GenericLabel"])
@pytest.mark.parametrize(
    ("dtype", "label"),
    [("u1", 255), ("i2", -7), ("u2", 300), ("i4", 70001), ("u4", 2**31 + 5), ("i8", 2**40 + 1)],
)
def test_labels_keep_value_and_type(name, dtype, label):
    data = np.zeros((6, 6, 6), dtype)
    data[2:5, 2:5, 2:5] = label
    image = nib.Nifti1Image(data, np.diag([-1, 1, 1, 1]), dtype=data.dtype)
    grid = Grid((6, 6, 6), from_matvec(np.diag([-1, 1, 1]), [0.3, 0, 0]))
    result = resampling.resample(image, grid, interpolation=name)
    assert result.dtype == data.dtype
    # Less than half a voxel away: every inner voxel keeps its label.
    np.testing.assert_array_equal(result[1:], data[1:])


def test_generic_label_takes_the_largest_fraction():
    data = np.zeros((4, 2, 2), np.uint16)
    data[1], data[2, 0], data[2, 1] = 7, 500, 9
    image = nib.Nifti1Image(data, np.eye(4))
    # 0.6 of the way from plane 1 to 2, in the middle of the others: 7 has .4, 500 and 9 .3 each.
    grid = Grid((1, 1, 1), from_matvec(np.eye(3), [1.6, 0.5, 0.5]))
    result = resampling.resample(image, grid, interpolation="GenericLabel")
    assert result.ravel().tolist() == [7]


def test_series_volume_by_volume(image):
    data = np.stack([image.get_fdata(), 2 * image.get_fdata()], -1).astype(np.float32)
    grid = Grid((4, 5, 6), np.eye(4))
    result = resampling.resample(nib.Nifti1Image(data, image.affine), grid)
    assert result.shape == (4, 5, 6, 2)
    np.testing.assert_allclose(result[..., 1], 2 * result[..., 0], rtol=1e-5)
    np.testing.assert_allclose(result[..., 0], resampling.resample(image, grid))


def test_refused():
    image = nib.Nifti1Image(RNG.random((3, 3, 3)), np.eye(4))
    grid = Grid.from_image(image)
    with pytest.raises(InputError, match="unknown interpolation 'Cubic'"):
        resampling.resample(image, grid, interpolation="Cubic")
    with pytest.raises(InputError, match="labels only"):
        resampling.resample(image, grid, interpolation="GenericLabel")


def test_conform_is_one_linear_resampling(image):
    grid = Grid((16, 16, 16), centred(np.eye(3) * 0.7, (16, 16, 16)))
    matrix = from_matvec(euler2mat(0.2, 0, 0.1), [1, 0, -1])
    points = apply_affine(matrix, grid.coordinates())
    expected, _ = by_scipy(image.get_fdata(), image.affine, points)
    result = resampling.conform(image, grid, matrix)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_conform_smooths_what_a_coarser_grid_cannot_hold():
    """A checkerboard of single voxels becomes its mean, not a pattern of its own."""
    data = (np.indices((40, 40, 40)).sum(axis=0) % 2).astype(np.float32)
    image = nib.Nifti1Image(data, np.diag([0.5, 0.5, 0.5, 1]))
    grid = Grid((8, 8, 8), from_matvec(np.eye(3) * 1.5, [4, 4, 4]))
    aliased = resampling.resample(image, grid)
    assert aliased.std() > 0.4
    assert resampling.conform(image, grid).std() < 0.02


def test_conform_smooths_only_the_axis_that_is_finer():
    data = RNG.random((30, 10, 10)).astype(np.float32)
    image = nib.Nifti1Image(data, np.diag([0.25, 1, 1, 1]))
    sigma = resampling._antialias_sigma(image.affine, np.eye(4))
    # Widths at half maximum add in squares: 4 voxels wanted, 1 there.
    np.testing.assert_allclose(sigma, [np.sqrt(15) / 2.354820, 0, 0], rtol=1e-5)
    turned = from_matvec(euler2mat(0.4, 0.5, 0.6) * 2)
    np.testing.assert_allclose(
        resampling._antialias_sigma(np.eye(4), turned), np.sqrt(3) / 2.354820, rtol=1e-5
    )
