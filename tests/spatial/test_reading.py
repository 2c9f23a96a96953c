"""Images that cannot be registered are refused in one line that names the file."""

import errno
import gzip
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.mghformat import MGHImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.files import sha256_of

RNG = np.random.default_rng(7)
GOOD = RNG.integers(1, 100, (5, 6, 7)).astype(np.float32)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1.5, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name has a space."""
    path = tmp_path / "my data"
    path.mkdir()
    return path


def save(folder: Path, data: np.ndarray, affine: np.ndarray = AFFINE, name: str = "x.nii.gz"):
    path = folder / name
    nib.save(nib.Nifti1Image(data, affine, dtype=data.dtype), path)
    return path


def refused(path: Path, *words: str, reader=images.read_image) -> None:
    """Assert that reading fails with one line that names the file, and these words."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            reader(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message  # what to do about it
    for word in words:
        assert word in message


def patch_header(path: Path, offset: int, values: np.ndarray) -> Path:
    """Overwrite bytes of an uncompressed file, so that nothing repairs the header."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(raw)
    return path


READERS = [images.read_image, images.read_labels, images.read_mask, images.read_series]


@pytest.mark.parametrize("reader", READERS)
def test_missing_file(folder, reader):
    refused(folder / "no.nii.gz", "no such file", reader=reader)


@pytest.mark.parametrize("reader", [*READERS, transforms.read_transform])
def test_file_that_may_not_be_read(folder, reader, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    # The rights of files do not bind the superuser, as whom tests may run.
    monkeypatch.setattr("nipype_quicksilver.spatial.files.open", forbidden, raising=False)
    refused(save(folder, GOOD), "cannot be read (Permission denied)", reader=reader)


def test_file_below_a_file(folder):
    refused(save(folder, GOOD) / "x.nii.gz", "no such file")


@pytest.mark.parametrize("reader", READERS)
def test_folder_instead_of_file(folder, reader):
    refused(folder, "folder", reader=reader)


@pytest.mark.parametrize("reader", [*READERS, transforms.read_transform, sha256_of])
def test_named_pipe_instead_of_file(folder, reader):
    """Opening it would wait until another program writes."""
    os.mkfifo(folder / "pipe.nii")
    refused(folder / "pipe.nii", "is a named pipe", reader=reader)
    refused(Path("/dev/null"), "a device; give an ordinary file", reader=reader)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.99])
def test_truncated_gzip(folder, reader, fraction):
    path = save(folder, GOOD)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    refused(path, reader=reader)


def test_truncated_uncompressed(folder):
    path = save(folder, GOOD, name="x.nii")
    path.write_bytes(path.read_bytes()[:-8])
    refused(path, "truncated")


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.mgz", "x.mgh", "x.txt", "x"])
def test_text_with_a_wrong_name(folder, name):
    path = folder / name
    path.write_text("subject,age\n1,20\n" * 100)
    refused(path, "give an intact NIfTI or MGH file")


def test_gzipped_text(folder):
    path = folder / "x.nii.gz"
    path.write_bytes(gzip.compress(b"not an image" * 100))
    refused(path)


def test_empty_file(folder):
    path = folder / "x.nii"
    path.touch()
    refused(path)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (1, 5, 6), (5, 6, 1, 1)])
def test_two_dimensions(folder, shape):
    refused(save(folder, GOOD.ravel()[: np.prod(shape)].reshape(shape)), "3-D")


@pytest.mark.parametrize("reader", READERS[:3])
def test_several_volumes(folder, reader):
    refused(save(folder, np.stack([GOOD, GOOD], -1)), "more than one volume", reader=reader)


def test_vector_image(folder):
    refused(save(folder, np.stack([GOOD] * 3, -1)[:, :, :, None]), "more than one volume")


@pytest.mark.parametrize("reader", READERS)
def test_colour(folder, reader):
    rgb = np.zeros((5, 6, 7), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"] = 9
    refused(save(folder, rgb), "RGB", reader=reader)


def test_complex(folder):
    refused(save(folder, GOOD.astype(np.complex64)), "complex")


def test_all_zero(folder):
    refused(save(folder, np.zeros_like(GOOD)), "zero in every voxel")


def test_all_nan(folder):
    refused(save(folder, np.full_like(GOOD, np.nan)), "NaN in every voxel")


def test_constant(folder):
    refused(save(folder, np.full_like(GOOD, 3)), "same value")


def test_constant_but_for_nan(folder):
    data = np.full_like(GOOD, 3)
    data[0, 0, 0] = np.nan
    refused(save(folder, data), "same value")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite(folder, value, reader):
    data = GOOD.copy()
    data[1, 2, 3] = value
    refused(save(folder, data), "infinite", reader=reader)


def test_too_large_for_float32(folder):
    data = GOOD.astype(float)
    data[1, 2, 3] = 1e300
    refused(save(folder, data), "infinite")


@pytest.mark.parametrize("spacing", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bad_spacing(folder, capfd, spacing, axis):
    path = save(folder, GOOD, name="x.nii")
    patch_header(path, 80 + 4 * axis, np.float32([spacing]))
    refused(path, "spacing")
    assert capfd.readouterr().err == ""  # nibabel repairs it and would report it


def test_bad_spacing_in_mgh(folder):
    path = folder / "x.mgh"
    nib.save(MGHImage(GOOD, AFFINE), path)
    patch_header(path, 30, np.array([0.0], ">f4"))
    refused(path, "spacing")


@pytest.mark.parametrize("reader", READERS)
def test_singular_affine(folder, reader):
    path = save(folder, GOOD, name="x.nii")
    patch_header(path, 280, np.float32([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]))
    refused(path, "singular", reader=reader)


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_degenerate_sform(folder, bad):
    path = save(folder, GOOD, name="x.nii")
    patch_header(path, 280, np.full(12, bad, np.float32))
    refused(path, "singular")


def test_no_world(folder):
    path = folder / "x.nii"
    nib.save(nib.Nifti1Image(GOOD, None), path)
    refused(path, "neither sform nor qform")


def test_metres(folder):
    image = nib.Nifti1Image(GOOD, AFFINE)
    image.header.set_xyzt_units("meter")
    nib.save(image, folder / "x.nii")
    refused(folder / "x.nii", "metres")


def test_analyze(folder):
    nib.save(nib.Spm99AnalyzeImage(GOOD, AFFINE), folder / "x.img")
    refused(folder / "x.img", "neither NIfTI nor MGH")


def test_sheared_sform_without_qform(folder):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.3
    image = nib.Nifti1Image(GOOD, sheared)
    image.header["qform_code"] = 0
    nib.save(image, folder / "x.nii")
    refused(folder / "x.nii", "sheared")


def test_sheared_sform_is_replaced_by_the_qform(folder):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.3
    image = nib.Nifti1Image(GOOD, AFFINE)
    image.set_sform(sheared, 1)
    image.set_qform(AFFINE, 2)
    nib.save(image, folder / "x.nii")
    with pytest.warns(UserWarning, match="sheared"):
        read = images.read_image(folder / "x.nii")
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 1), (4, 4)])
def test_forms_as_nibabel_has_them(folder, codes):
    other = AFFINE.copy()
    other[:3, 3] += 5
    image = nib.Nifti1Image(GOOD, AFFINE)
    image.set_qform(other, codes[1])
    image.set_sform(AFFINE, codes[0])
    nib.save(image, folder / "x.nii")
    read = images.read_image(folder / "x.nii")
    np.testing.assert_allclose(read.affine, AFFINE if codes[0] else other, atol=1e-5)
    assert (int(read.header["sform_code"]), int(read.header["qform_code"])) == codes


def test_some_nan_become_zero(folder):
    data = GOOD.copy()
    data[0, 0, :2] = np.nan
    path = save(folder, data)
    with pytest.warns(UserWarning, match="2 voxels are NaN"):
        read = images.read_image(path)
    expected = np.nan_to_num(data)
    np.testing.assert_array_equal(read.get_fdata(), expected)
    kept = images.read_image(path, keep_nan=True).get_fdata()
    np.testing.assert_array_equal(np.isnan(kept), np.isnan(data))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, MGHImage])
def test_formats(folder, kind):
    path = folder / ("x.mgz" if kind is MGHImage else "x.nii.gz")
    nib.save(kind(GOOD, AFFINE), path)
    read = images.read_image(path)
    assert read.get_data_dtype() == np.float32
    np.testing.assert_array_equal(read.get_fdata(), GOOD)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)
    assert images.image_name(read) == str(path)


def test_pair_of_files(folder):
    nib.save(nib.Nifti1Pair(GOOD, AFFINE), folder / "x.hdr")
    np.testing.assert_array_equal(images.read_image(folder / "x.hdr").get_fdata(), GOOD)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "u2", "i4", ">f4", "f8"])
def test_types(folder, dtype):
    path = folder / "x.nii"
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    nib.save(nib.Nifti1Image(GOOD.astype(dtype), AFFINE, header, dtype=dtype), path)
    np.testing.assert_array_equal(images.read_image(path).get_fdata(), GOOD)
    kept = images.read_series(path).get_data_dtype()
    assert kept == np.dtype(dtype).newbyteorder("=")


def test_scaled_integers(folder):
    image = nib.Nifti1Image(GOOD / 7, AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, folder / "x.nii")
    assert nib.load(folder / "x.nii").dataobj.slope != 1
    read = images.read_image(folder / "x.nii").get_fdata()
    np.testing.assert_allclose(read, GOOD / 7, atol=1e-3)


def test_one_volume_is_squeezed(folder):
    assert images.read_image(save(folder, GOOD[..., None])).shape == GOOD.shape
    assert images.read_image(save(folder, GOOD[..., None, None])).shape == GOOD.shape


def test_series_keeps_type_and_time(folder):
    image = nib.Nifti1Image(np.stack([GOOD] * 3, -1).astype("i2"), AFFINE)
    image.header.set_zooms((2, 1.5, 1, 800))
    image.header.set_xyzt_units("mm", "msec")
    nib.save(image, folder / "x.nii")
    read = images.read_series(folder / "x.nii")
    assert read.shape == (5, 6, 7, 3) and read.get_data_dtype() == np.int16
    assert read.header.get_zooms()[3] == pytest.approx(0.8)


@pytest.mark.parametrize(("top", "dtype"), [(255, "u1"), (300, "u2"), (70000, "u4")])
def test_labels_stored_as_floats(folder, top, dtype):
    data = np.zeros(GOOD.shape, np.float32)
    data[2, 3, 4] = top
    read = images.read_labels(save(folder, data))
    assert read.get_data_dtype() == np.dtype(dtype)
    assert np.asanyarray(read.dataobj)[2, 3, 4] == top


def test_labels_keep_their_integer_type(folder):
    data = GOOD.astype(np.int32)
    assert images.read_labels(save(folder, data)).get_data_dtype() == np.int32


def test_labels_must_be_whole_and_present(folder):
    refused(save(folder, GOOD + 0.5), "not integers", reader=images.read_labels)
    refused(save(folder, GOOD * 0), "zero in every voxel", reader=images.read_labels)


def test_mask(folder):
    data = np.zeros(GOOD.shape, np.float32)
    refused(save(folder, data), "empty", reader=images.read_mask)
    data[1, 1, 1], data[2, 2, 2], data[3, 3, 3] = 0.4, -2, np.nan
    mask = images.read_mask(save(folder, data))
    assert mask.get_data_dtype() == np.uint8
    assert np.argwhere(mask.get_fdata() == 1).tolist() == [[1, 1, 1], [2, 2, 2]]


def test_only_nan_in_mask(folder):
    refused(save(folder, np.full_like(GOOD, np.nan)), "NaN", reader=images.read_mask)


def test_header_of_a_reference_may_be_of_any_content(folder):
    shape, like = images.read_header(save(folder, np.zeros((5, 6, 7, 2), np.float32)))
    assert shape == (5, 6, 7)
    np.testing.assert_allclose(like.affine, AFFINE)
    with pytest.raises(InputError, match="3-D"):
        images.read_header(save(folder, GOOD[:, :, 0]))


def test_damaged_in_the_middle(folder):
    data = RNG.random((20, 20, 20)).astype(np.float32)  # noise: stored, so no code breaks
    path = save(folder, data)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    refused(path, "damaged")
