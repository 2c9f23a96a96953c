"""ITK reads what is written where this package places it, and a file that it does not is named."""

import itertools
import warnings

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import forms, images

AFFINE = from_matvec(np.diag([-2.0, 1.5, 1]), [10, -20, 5])
DATA = np.arange(1, 211, dtype=np.int16).reshape(5, 6, 7)
CODES = list(itertools.product((0, 1, 2, 4), repeat=2))[1:]


def moved(by=12.0):
    return from_matvec(np.eye(3), [by, 0, 0]) @ AFFINE


def turned(degrees=10.0):
    rotation = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return from_matvec(rotation, [0, 0, 0]) @ AFFINE


def sheared(by):
    shear = np.eye(4)
    shear[0, 1] = by
    return turned() @ shear


def save(path, sform, qform, codes=(2, 1), data=DATA):
    image = nib.Nifti1Image(data, AFFINE)
    image.set_qform(qform, codes[1], strip_shears=True)
    image.set_sform(sform, codes[0])
    nib.save(image, path)
    return path


def of_itk(path):
    """Return the affine that SimpleITK reads, in RAS; None if it refuses the file."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    axes = np.reshape(image.GetDirection()[:9], (3, 3)) * image.GetSpacing()[:3]
    return np.diag([-1.0, -1, 1, 1]) @ from_matvec(axes, image.GetOrigin()[:3])


FORMS = {
    "equal": (AFFINE, AFFINE),
    "moved": (AFFINE, moved()),
    "turned": (turned(), AFFINE),
    "flipped": (AFFINE, AFFINE @ np.diag([-1.0, 1, 1, 1])),
    "other voxel sizes": (AFFINE, AFFINE @ np.diag([1.05, 1.05, 1.05, 1])),
    "shear that ITK accepts": (sheared(5e-5), sheared(5e-5)),
    "shear that ITK refuses": (sheared(5e-4), sheared(5e-4)),
    "large shear": (sheared(0.1), moved()),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_itk_reads(name, tmp_path):
    for codes in CODES:
        path = save(tmp_path / "x.nii", *FORMS[name], codes)
        expected, theirs = of_itk(path), forms.itk_affine(nib.load(path).header)
        if expected is None or theirs is None:
            assert expected is theirs
        else:
            np.testing.assert_allclose(theirs, expected, atol=1e-4)


def read_with_warnings(path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        image = images.read_image(path)
        images.read_series(path)
    return image, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("codes", CODES)
def test_a_world_that_itk_sees_elsewhere_is_reported_once(codes, tmp_path):
    path = save(tmp_path / "x.nii", AFFINE, moved(), codes)
    image, messages = read_with_warnings(path)
    np.testing.assert_allclose(image.affine, AFFINE if codes[0] else moved(), atol=1e-5)
    if np.allclose(of_itk(path), image.affine, atol=1e-3):
        assert not messages
    else:
        (message,) = messages
        assert message.startswith(f"{path}: sform and qform differ: ITK and ANTs place the image")
        assert " 12 mm from " in message and "fslorient -copysform2qform" in message


def test_rounding_is_not_reported(tmp_path):
    assert read_with_warnings(save(tmp_path / "x.nii", AFFINE, moved(0.01)))[1] == []


def test_voxel_sizes_that_itk_takes_from_elsewhere_are_reported(tmp_path):
    path = save(tmp_path / "x.nii", *FORMS["other voxel sizes"], (1, 1))
    (message,) = read_with_warnings(path)[1]
    assert "ITK and ANTs place the image" in message


@pytest.mark.parametrize(("shear", "reported"), [(5e-5, False), (5e-4, True)])
def test_small_shears_that_itk_refuses_are_reported(shear, reported, tmp_path):
    path = save(tmp_path / "x.nii", sheared(shear), AFFINE, (1, 0))
    assert (of_itk(path) is None) is reported
    image, messages = read_with_warnings(path)
    assert [message.split(": ")[1] for message in messages] == reported * [
        "the voxel axes are not quite orthogonal"
    ]
    # What is written can be read.
    written = images.write_image(tmp_path / "y.nii", DATA, image.affine, like=image)
    assert forms.agree(image.affine, of_itk(written), DATA.shape)


def test_a_qform_that_is_not_valid_is_reported(tmp_path):
    path = save(tmp_path / "x.nii", AFFINE, AFFINE)
    raw = bytearray(path.read_bytes())
    raw[256:268] = np.float32([1, 1, 1]).tobytes()  # not a quaternion
    path.write_bytes(raw)
    image, (message,) = read_with_warnings(path)
    assert "the qform, which ITK and ANTs use instead of the sform, is not valid" in message
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)


def test_the_remedy_that_is_named_removes_the_warning(tmp_path):
    for sform in (AFFINE, sheared(5e-4)):
        image = nib.load(save(tmp_path / "x.nii", sform, moved()))
        image.set_qform(image.affine)
        nib.save(image, tmp_path / "y.nii")
        assert read_with_warnings(tmp_path / "y.nii")[1] == []


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore")
def test_itk_reads_what_is_written_in_the_same_world(name, tmp_path):
    for codes in CODES:
        path = save(tmp_path / "x.nii", *FORMS[name], codes)
        try:
            image = images.read_image(path)
        except InputError:  # sheared, and without qform
            continue
        written = images.write_image(tmp_path / "y.nii.gz", DATA, image.affine, like=image)
        assert forms.agree(image.affine, of_itk(written), DATA.shape)
        result = nib.load(written)
        np.testing.assert_allclose(result.affine, image.affine, atol=1e-5)
        assert forms.agree(image.affine, result.get_qform(), DATA.shape)
        forms_set = [code for code in codes if code]
        assert int(result.header["sform_code"]) in forms_set
        assert int(result.header["qform_code"]) in forms_set


def test_a_rotation_that_a_qform_cannot_hold(tmp_path):
    rotation = Rotation.from_rotvec(np.array([0.6, 0.0, 0.8]) * (np.pi - 6e-4)).as_matrix()
    data, affine = np.ones((40, 200, 200), np.uint8), from_matvec(rotation, [0, 0, 0])
    like = nib.load(save(tmp_path / "like.nii", affine, affine, (2, 2), data))
    assert not forms.agree(affine, like.get_qform(), data.shape)
    written = images.write_image(tmp_path / "x.nii", data, affine, like=like)
    assert forms.distance(affine, of_itk(written), data.shape) < 1e-3
