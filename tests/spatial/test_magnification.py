import numpy as np
import pytest
from nibabel.affines import apply_affine

from nipype_quicksilver.spatial.images import image_name, nifti
from nipype_quicksilver.spatial.magnification import brain_volume, magnification, magnified, scaling


def cube(side, spacing):
    """Return a cube of nonzero voxels in a larger image."""
    data = np.zeros((side + 4,) * 3, np.float32)
    data[2:-2, 2:-2, 2:-2] = 1
    return nifti(data, np.diag([spacing, spacing, spacing, 1.0]))


@pytest.mark.parametrize(
    ("side", "spacing", "factor"),
    [
        (70, 1.0, 1.0),  # 343 ml: a newborn
        (60, 1.0, 1.0),  # 216 ml: a factor of 1.1 would change little
        (44, 1.0, 1.5),  # 85 ml: a macaque; 300 ml are 3.5 times as much
        (80, 0.1, 8.4),  # .5 ml: a mouse
        (30, 0.2, 10.0),  # as fine as its voxels allow
        (20, 2.0, 1.0),  # too coarse to be enlarged
    ],
)
def test_factor(side, spacing, factor):
    assert magnification(cube(side, spacing)) == factor


def test_the_mask_counts_where_there_is_one():
    """A small brain in a large head, with a mask on another grid."""
    head, brain = cube(80, 1.0), cube(40, 1.0)
    assert magnification(head) == 1
    assert magnification(head, brain) == 1.7
    assert brain_volume(head, brain) == 64_000
    empty = nifti(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    assert magnification(head, empty) == 1


def test_voxels_stay_and_points_move():
    image = cube(20, 0.3)
    image.extra["path"] = "mouse.nii.gz"
    larger = magnified(image, 4.0)
    assert image_name(larger) == "mouse.nii.gz"
    np.testing.assert_array_equal(larger.dataobj, image.dataobj)
    points = apply_affine(image.affine, np.eye(3))
    np.testing.assert_allclose(apply_affine(larger.affine, np.eye(3)), 4 * points)
    np.testing.assert_allclose(apply_affine(scaling(4.0), points), 4 * points)
    assert magnified(image, 1.0) is image
