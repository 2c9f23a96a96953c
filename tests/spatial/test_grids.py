"""Grids, and the working grid around a brain."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.grids import (
    Grid,
    check_overlap,
    check_same_grid,
    index_box,
    working_grid,
)
from nipype_quicksilver.spatial.images import read_image, write_image

OBLIQUE = from_matvec(euler2mat(0.1, -0.2, 0.3) @ np.diag([-0.8, 1, 3]), [3, 4, 5])


def test_reference_has_the_geometry():
    grid = Grid((4, 5, 6), OBLIQUE)
    reference = grid.reference()
    assert reference.GetSize() == (4, 5, 6)
    for index in [(0, 0, 0), (3, 0, 0), (0, 4, 0), (1, 2, 5)]:
        x, y, z = reference.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose([-x, -y, z], grid.coordinates()[index], atol=1e-9)
        np.testing.assert_allclose([-x, -y, z], apply_affine(OBLIQUE, index), atol=1e-9)


def test_subsampled_voxels_are_the_means_of_their_blocks():
    grid = Grid((8, 6, 5), OBLIQUE)
    coarse = grid.subsampled(2)
    assert coarse.shape == (4, 3, 3)
    block = grid.coordinates()[2:4, 4:6, 0:2].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(coarse.coordinates()[1, 2, 0], block)
    np.testing.assert_allclose(coarse.spacing, np.array(grid.spacing) * 2)
    assert grid.subsampled(1).equals(grid)


def test_equals():
    grid = Grid((8, 6, 5), OBLIQUE)
    near, far, turned = (OBLIQUE.copy() for _ in range(3))
    near[0, 3] += 5e-4
    far[0, 3] += 2e-3
    turned[:3, 0] *= 1.001  # the same origin, but the far corner moves by 0.006 mm
    assert grid.equals(Grid((8, 6, 5), near))
    assert not grid.equals(Grid((8, 6, 5), far))
    assert grid.equals(Grid((8, 6, 5), far), tol=0.01)
    assert not grid.equals(Grid((8, 6, 5), turned))
    assert not grid.equals(Grid((8, 6, 6), OBLIQUE))


def test_invalid():
    for shape, affine in [((0, 1, 1), np.eye(4)), ((2, 2, 2), np.zeros((4, 4)))]:
        with pytest.raises(ValueError):
            Grid(shape, affine)
    with pytest.raises(ValueError):
        Grid((2, 2, 2), OBLIQUE).affine[0, 0] = 3


def test_from_file(tmp_path):
    path = write_image(tmp_path / "a b.nii", np.zeros((4, 5, 6, 2)), OBLIQUE)
    assert Grid.from_file(path).equals(Grid((4, 5, 6), OBLIQUE))


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, np.diag([-1.0, 1, 1, 1])])
@pytest.mark.parametrize(("spacing", "multiple"), [(1.0, 8), (2.0, 4)])
def test_working_grid(affine, spacing, multiple):
    mask = np.zeros((30, 40, 20), np.uint8)
    mask[5:20, 10:30, 4:12] = 1
    grid = working_grid(
        nib.Nifti1Image(mask, affine), spacing=spacing, margin_mm=6, multiple=multiple
    )
    np.testing.assert_allclose(grid.affine[:3, :3], np.eye(3) * spacing)
    assert all(n % multiple == 0 for n in grid.shape)
    brain = apply_affine(affine, np.argwhere(mask))
    first, last = grid.affine[:3, 3], grid.coordinates()[-1, -1, -1]
    # Edges of the box are half a voxel out; aligning it costs half a voxel at most.
    assert np.all(brain.min(axis=0) - (first - spacing / 2) >= 6 - spacing / 2)
    assert np.all((last + spacing / 2) - brain.max(axis=0) >= 6 - spacing / 2)
    extent = np.ptp(brain, axis=0) + 12
    assert np.all(np.array(grid.shape) * spacing < extent + (multiple + 4) * spacing + 4)


def test_working_grid_meets_the_voxels():
    mask = np.zeros((30, 40, 20), np.uint8)
    mask[5:20, 10:30, 4:12] = 1
    affine = from_matvec(np.diag([-1, 1, 1]), [10.3, 4.25, -7.7])
    grid = working_grid(nib.Nifti1Image(mask, affine))
    index = apply_affine(np.linalg.inv(affine), grid.coordinates()[0, 0, 0])
    np.testing.assert_allclose(index, np.rint(index), atol=1e-9)


def test_working_grid_of_nothing():
    with pytest.raises(InputError, match="empty"):
        working_grid(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)))


@pytest.fixture
def pair(tmp_path):
    """Two brains in large empty boxes: the boxes overlap, the brains are 40 mm apart along x."""
    data = np.zeros((60, 20, 20), np.float32)
    data[5:15, 5:15, 5:15] = 1
    shifted = from_matvec(np.diag([-1, 1, 1]), [69, 0, 0])  # its brain: x from 55 to 64
    paths = [
        write_image(tmp_path / name, data, affine)
        for name, affine in (("fixed one.nii", np.eye(4)), ("moving.nii", shifted))
    ]
    return [read_image(path) for path in paths]


def test_no_overlap(pair):
    with pytest.raises(InputError) as caught:
        check_overlap(*pair)
    message = str(caught.value)
    assert "fixed one.nii" in message and "moving.nii" in message and "\n" not in message


@pytest.mark.parametrize(("shift", "meets"), [(50, True), (42, True), (39, False), (61, False)])
def test_overlap_through_an_affine(pair, shift, meets):
    # The fixed brain's edges are at 4.5 and 14.5, the moving one's at 54.5 and 64.5.
    matrix = from_matvec(np.eye(3), [shift, 0, 0])
    if meets:
        check_overlap(*pair, matrix)
    else:
        with pytest.raises(InputError, match="does not overlap"):
            check_overlap(*pair, matrix)


def test_a_cropped_grid_keeps_its_voxels_in_place():
    grid = Grid((5, 6, 7), from_matvec(euler2mat(0.1, 0.2, 0.3) @ np.diag([-1.0, 2, 3]), [4, 5, 6]))
    inside = np.zeros(grid.shape, bool)
    inside[1:3, 2, 0] = True
    for margin, shape in ((0, (2, 1, 1)), (1, (4, 3, 2)), (9, grid.shape)):
        box = index_box(inside, margin)
        part = grid.cropped(box)
        assert part.shape == shape
        assert np.allclose(part.coordinates(), grid.coordinates()[box])


def test_distance_is_that_of_the_farthest_voxel():
    grid = Grid((8, 6, 5), OBLIQUE)
    moved = from_matvec(euler2mat(0.01, 0.02, -0.03), [0.1, 0.2, -0.3]) @ OBLIQUE
    other = Grid(grid.shape, moved)
    distances = np.linalg.norm(grid.coordinates() - other.coordinates(), axis=-1)
    assert grid.distance(other) == pytest.approx(distances.max())


def test_images_on_the_same_grid(tmp_path):
    data = np.ones((5, 6, 7), np.uint8)
    data[0] = 0

    def image(name, shift=0.0, part=slice(None)):
        affine = OBLIQUE.copy()
        affine[0, 3] += shift
        return read_image(write_image(tmp_path / name, data[part], affine))

    first = image("first.nii")
    check_same_grid(first, image("near.nii", 0.001))
    with pytest.raises(
        InputError, match=r"far.nii: not on the grid of .*first.nii \(voxels lie 0.1"
    ):
        check_same_grid(first, image("far.nii", 0.1))
    check_same_grid(first, image("far.nii", 0.1), tolerance=0.2)
    shapes = r"short.nii: .* \(shape \(4, 6, 7\) instead of \(5, 6, 7\)\); resample one of them"
    with pytest.raises(InputError, match=shapes):
        check_same_grid(first, image("short.nii", part=slice(None, 4)))
