"""Transforms applied to image files: order, inverses, data types."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.applying import apply_to_image, join_transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image

GRID = Grid((6, 7, 8), np.diag([-1.0, 1, 1, 1]))
DOUBLE = np.diag([2.0, 2, 2, 1])
SHIFT = from_matvec(np.eye(3), [1, 0, 0])


@pytest.fixture
def files(tmp_path):
    """Files of a scaling, a translation and a displacement field of the same translation."""
    field = np.broadcast_to(np.array([1.0, 0, 0], np.float32), (*GRID.shape, 3))
    return (
        transforms.write_affine(tmp_path / "double.mat", DOUBLE),
        transforms.write_affine(tmp_path / "shift.mat", SHIFT),
        transforms.write_displacement(tmp_path / "field.nii.gz", field, GRID),
    )


def mapped(transform):
    return transforms.map_points(transform, np.array([[-2.0, 3, 4]]))[0].tolist()


def test_points_are_mapped_by_the_first_transform_first(files):
    double, shift, field = files
    assert mapped(join_transforms([double])) == [-4, 6, 8]
    assert mapped(join_transforms([shift, double])) == [-2, 6, 8]
    assert mapped(join_transforms([double, shift])) == [-3, 6, 8]
    assert mapped(join_transforms([field, double])) == [-2, 6, 8]


def test_affines_may_be_inverted(files):
    double, shift, _ = files
    assert mapped(join_transforms([double, shift], [True, False])) == [0, 1.5, 2]
    assert mapped(join_transforms([double, double], [False, True])) == [-2, 3, 4]


def test_unusable_transforms_are_refused(files, tmp_path):
    double, _, field = files
    with pytest.raises(InputError, match=r"field.nii.gz: not affine, so it cannot be inverted"):
        join_transforms([field], [True])
    (tmp_path / "text.mat").write_text("no")
    for flag in (False, True):
        with pytest.raises(InputError, match=r"text.mat: not an ITK transform"):
            join_transforms([tmp_path / "text.mat"], [flag])
    for paths, flags in (([], []), ([double], [True, False])):
        with pytest.raises(InputError, match="give one flag for each"):
            join_transforms(paths, flags)


@pytest.fixture
def labels(tmp_path):
    data = np.zeros(GRID.shape, np.int16)
    data[2:4, 3:5, 3:5] = 300
    return write_image(tmp_path / "labels.nii.gz", data, GRID.affine), data


@pytest.mark.parametrize("interpolation", ["Linear", "NearestNeighbor", "GenericLabel"])
def test_images_are_resampled_onto_the_grid_of_the_reference(interpolation, labels, tmp_path):
    source, data = labels
    reference = nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), from_matvec(np.eye(3), [-4, 2, 2]))
    reference.set_sform(reference.affine, 4)
    nib.save(reference, tmp_path / "reference.nii")
    transform = transforms.affine_transform(SHIFT)
    output = apply_to_image(
        source,
        tmp_path / "reference.nii",
        tmp_path / "out.nii.gz",
        transform,
        interpolation=interpolation,
        default_value=-1,
    )
    result = nib.load(output)
    np.testing.assert_array_equal(result.affine, reference.affine)
    assert int(result.header["sform_code"]) == 4
    assert result.get_data_dtype() == (np.float32 if interpolation == "Linear" else np.int16)
    # Voxel i of the reference is at x = i - 4, mapped to i - 3: voxel 3 - i of the source.
    expected = np.full((5, 5, 5), -1)
    expected[:4] = data[3::-1, 2:7, 2:7]
    np.testing.assert_array_equal(result.dataobj, expected)


@pytest.mark.parametrize("value", [0.5, 40000, -32769])
def test_default_values_must_fit_the_data_type(value, labels, tmp_path):
    arguments = (labels[0], labels[0], tmp_path / "out.nii", transforms.affine_transform(SHIFT))
    message = "has data type int16, which cannot hold the default value .* from -32768 to 32767"
    with pytest.raises(InputError, match=message):
        apply_to_image(*arguments, interpolation="GenericLabel", default_value=value)
    assert not (tmp_path / "out.nii").exists()
    apply_to_image(*arguments, interpolation="Linear", default_value=value)
