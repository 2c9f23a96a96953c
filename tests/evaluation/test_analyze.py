import gzip
import os

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation.analyze import as_nifti
from nipype_quicksilver.spatial.images import read_image
from tests.helpers import trees

DATA = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.mark.parametrize("given", ["a.hdr", "a.img"])
def test_analyze_becomes_nifti(tmp_path, given):
    trees.analyze(tmp_path / "a", DATA)
    copy = as_nifti(tmp_path / given, tmp_path)
    image = read_image(copy)
    np.testing.assert_array_equal(image.dataobj, DATA)
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    np.testing.assert_allclose(image.affine @ [1.5, 2, 2.5, 1], [0, 0, 0, 1])  # the centre


def test_voxels_may_be_compressed_alone_and_swapped(tmp_path):
    header = nib.AnalyzeHeader(endianness=">")
    header.set_data_dtype(np.int16)
    image = nib.AnalyzeImage(DATA[..., None], np.diag([-2.0, 2, 2, 1]), header)
    nib.save(image, tmp_path / "a.img")
    trees.compress(tmp_path / "a.img")
    for given in ("a.hdr", "a.img.gz"):
        read = read_image(as_nifti(tmp_path / given, tmp_path))
        np.testing.assert_array_equal(read.dataobj, DATA)


def test_an_image_with_an_orientation_is_not_copied(tmp_path):
    nib.save(nib.Nifti1Image(DATA, np.eye(4)), tmp_path / "a.nii.gz")
    assert as_nifti(tmp_path / "a.nii.gz", tmp_path) == tmp_path / "a.nii.gz"


def test_nifti_without_an_orientation_gets_one(tmp_path):
    image = nib.Nifti1Image(DATA, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match="neither sform nor qform"):
        read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(as_nifti(tmp_path / "a.nii", tmp_path)).dataobj, DATA)


def test_a_nifti_pair_keeps_its_orientation(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Pair(DATA, affine), tmp_path / "a.img")
    other = tmp_path / "other.nii"
    nib.save(nib.Nifti1Image(DATA, np.eye(4)), other)
    assert np.array_equal(nib.load(as_nifti(tmp_path / "a.hdr", tmp_path, other)).affine, affine)


def test_labels_get_the_orientation_of_their_image(tmp_path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 10, 20, 30
    nib.save(nib.Nifti1Image(DATA, affine), tmp_path / "image.nii")
    trees.analyze(tmp_path / "labels", DATA)
    copy = as_nifti(tmp_path / "labels.hdr", tmp_path, tmp_path / "image.nii")
    assert np.array_equal(nib.load(copy).affine, affine)
    nib.save(nib.Nifti1Image(DATA[1:], affine), tmp_path / "smaller.nii")
    copy = as_nifti(tmp_path / "labels.hdr", tmp_path, tmp_path / "smaller.nii")
    assert not np.array_equal(nib.load(copy).affine, affine)


def test_a_copy_is_made_again_only_if_the_file_changed(tmp_path):
    (tmp_path / "copies").mkdir()
    trees.analyze(tmp_path / "a", DATA)
    for file in tmp_path.glob("a.*"):
        os.utime(file, (1, 1))
    copy = as_nifti(tmp_path / "a.hdr", tmp_path / "copies")
    os.utime(copy, (2, 2))
    assert as_nifti(tmp_path / "a.hdr", tmp_path / "copies").stat().st_mtime == 2
    os.utime(tmp_path / "a.img", (3, 3))
    assert as_nifti(tmp_path / "a.hdr", tmp_path / "copies").stat().st_mtime > 3


def test_a_copy_is_made_again_if_the_image_of_the_labels_changed(tmp_path):
    (tmp_path / "copies").mkdir()
    trees.analyze(tmp_path / "labels", DATA)
    image, affine = tmp_path / "image.nii", np.diag([2.0, 2, 2, 1])
    nib.save(nib.Nifti1Image(DATA, affine), image)
    labels = (tmp_path / "labels.hdr", tmp_path / "copies", image)
    for file in tmp_path.glob("*.*"):
        os.utime(file, (1, 1))
    os.utime(as_nifti(*labels), (2, 2))
    affine[:3, 3] = 5
    nib.save(nib.Nifti1Image(DATA, affine), image)
    assert np.array_equal(nib.load(as_nifti(*labels)).affine, affine)
    with pytest.raises(InputError, match=r"gone.nii: no such file"):
        as_nifti(*labels[:2], tmp_path / "gone.nii")


def test_half_a_pair_and_other_bytes_are_refused(tmp_path):
    trees.analyze(tmp_path / "a", DATA)
    (tmp_path / "a.img").unlink()
    with pytest.raises(
        InputError, match=r"a.hdr: a.img is not in the same folder; copy both files"
    ):
        as_nifti(tmp_path / "a.hdr", tmp_path)
    for suffix in ("hdr", "img"):
        (tmp_path / f"b.{suffix}").write_bytes(b"no image" * 50)
    with pytest.raises(InputError, match="give an intact Analyze or NIfTI file"):
        as_nifti(tmp_path / "b.hdr", tmp_path)
    trees.analyze(tmp_path / "c", np.stack([DATA, DATA], axis=-1))
    with pytest.raises(InputError, match="more than one volume"):
        as_nifti(tmp_path / "c.hdr", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        as_nifti(tmp_path / "none.hdr", tmp_path)


def test_a_header_is_not_believed_beyond_its_file(tmp_path):
    """A few bytes that are said to be 2 GB."""
    data = np.zeros((3, 4, 5), np.int16)
    nib.save(nib.Spm99AnalyzeImage(data, np.eye(4)), tmp_path / "a.img")
    header = bytearray((tmp_path / "a.hdr").read_bytes())
    header[40:48] = np.array([3, 1000, 1000, 1000], np.int16).tobytes()
    (tmp_path / "a.hdr").write_bytes(header)
    packed = gzip.compress((tmp_path / "a.img").read_bytes())
    (tmp_path / "a.img").unlink()
    (tmp_path / "a.img.gz").write_bytes(packed)
    with pytest.raises(InputError, match="not an image that can be read"):
        as_nifti(tmp_path / "a.hdr", tmp_path)
