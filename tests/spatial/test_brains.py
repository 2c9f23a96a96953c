"""The brain of an image: its mask on any grid, or its nonzero voxels."""

import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.brains import mask_on_image, named_after, native_brain
from nipype_quicksilver.spatial.images import image_name, nifti


@pytest.fixture
def image():
    data = np.zeros((6, 6, 6), np.float32)
    data[1:5, 1:5, 1:5] = 7
    image = nifti(data, np.diag([-2.0, 2, 2, 1]))
    image.extra["path"] = "head.nii"
    return image


def named_mask(data, affine):
    mask = nifti(data.astype(np.uint8), affine)
    mask.extra["path"] = "mask.nii"
    return mask


def test_nonzero_voxels_are_the_brain(image):
    brain = native_brain(image, None)
    np.testing.assert_array_equal(brain.dataobj, np.asanyarray(image.dataobj) != 0)
    np.testing.assert_array_equal(brain.affine, image.affine)
    assert np.asanyarray(brain.dataobj).dtype == np.uint8
    assert image_name(brain) == "head.nii"


def test_masks_may_be_on_another_grid(image):
    fine = np.zeros((12, 12, 12))
    fine[2:6] = 1
    mask = named_mask(fine, from_matvec(np.diag([-1.0, 1, 1]), [0.5, -0.5, -0.5]))
    brain = native_brain(image, mask)
    expected = np.zeros((6, 6, 6), bool)
    expected[1:3] = True
    np.testing.assert_array_equal(brain.dataobj, expected)
    np.testing.assert_array_equal(mask_on_image(mask, image), expected)
    assert image_name(brain) == "mask.nii"


def test_masks_elsewhere_are_refused(image):
    message = "^mask.nii: does not overlap head.nii in space; give the mask of that image"
    far = named_mask(np.ones((6, 6, 6)), from_matvec(np.eye(3), [100, 0, 0]))
    for call in (native_brain, lambda image, mask: mask_on_image(mask, image)):
        with pytest.raises(InputError, match=message):
            call(image, far)
    corner = np.zeros((6, 6, 6))
    corner[0, 0, 0] = 1
    # On the image, but not on its nonzero voxels.
    mask = named_mask(corner, image.affine)
    assert mask_on_image(mask, image).sum() == 1
    with pytest.raises(InputError, match=message):
        native_brain(image, mask)


def test_images_are_named_after_others(image):
    mask = named_mask(np.ones((2, 2, 2)), np.eye(4))
    result = named_after(np.ones((6, 6, 6), bool), mask, grid_of=image)
    assert image_name(result) == "mask.nii"
    np.testing.assert_array_equal(result.affine, image.affine)
    assert result.get_data_dtype() == np.uint8
