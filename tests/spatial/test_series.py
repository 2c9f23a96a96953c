"""Series are read and written volume by volume, whatever their type and format."""

import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.mghformat import MGHImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import LABEL_PRESERVING
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.applying import apply_to_image
from nipype_quicksilver.spatial.series import Series

AFFINE = np.diag([-2.0, 2, 2, 1])
RNG = np.random.default_rng(3)
DATA = RNG.integers(0, 200, (5, 6, 7, 4))


def save(path, data=DATA, dtype=np.int16):
    data = np.asarray(data, dtype)
    if path.suffix == ".mgz":
        nib.save(MGHImage(data, AFFINE), path)
    else:
        nib.save(nib.Nifti1Image(data, AFFINE, dtype=dtype), path)
    return path


def applied(source, output, **options):
    identity = transforms.affine_transform(np.eye(4))
    return nib.load(apply_to_image(source, source, output, identity, **options))


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.mgz", "x.img"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 1), (5, 6, 7, 4), (5, 6, 7, 4, 1)])
def test_volumes(name, shape, tmp_path):
    if name == "x.mgz" and shape[-1] == 1:
        shape = shape[: -len(shape) + 3] if len(shape) == 4 else shape[:4]  # MGH has no such axes
    data = DATA.ravel()[: np.prod(shape)].reshape(shape)
    series = Series.open(save(tmp_path / name, data))
    whole = data.reshape(series.shape)
    assert series.dtype == np.int16 and len(series) == (4 if 4 in shape else 1)
    for t, volume in enumerate(series.volumes()):
        np.testing.assert_array_equal(volume, whole[..., t] if whole.ndim == 4 else whole)
    np.testing.assert_array_equal(images.read_series(tmp_path / name).dataobj, whole)


def test_values_that_are_missing_or_infinite(tmp_path):
    data = DATA.astype(np.float32)
    data[0, 0, 0, :2], data[..., 3] = np.nan, np.nan
    with pytest.warns(UserWarning, match="212 voxels are NaN and count as 0"):
        read = images.read_series(save(tmp_path / "x.nii", data, np.float32))
    np.testing.assert_array_equal(read.dataobj, np.nan_to_num(data))
    save(tmp_path / "x.nii", np.full_like(data, np.nan), np.float32)
    with pytest.raises(InputError, match="NaN in every voxel"):
        images.read_series(tmp_path / "x.nii")
    data[1, 1, 1, 2] = np.inf
    with pytest.raises(InputError, match="infinite"):
        applied(save(tmp_path / "x.nii", data, np.float32), tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_file_is_the_one_that_is_written_at_once(suffix, tmp_path):
    like = images.read_series(save(tmp_path / "x.nii"))
    data = np.asarray(DATA, np.float32)
    whole = images.write_image(tmp_path / f"a{suffix}", data, AFFINE, like=like, time_step=0.7)
    path = tmp_path / f"b{suffix}"
    volumes = (data[..., t] for t in range(4))
    images.write_series(path, volumes, data.shape, np.float32, like=like, time_step=0.7)
    one, other = (nib.load(file) for file in (whole, path))
    assert one.header == other.header
    np.testing.assert_array_equal(one.dataobj, other.dataobj)
    if suffix == ".nii":
        assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("number", [3, 5])
def test_another_number_of_volumes_is_an_error(number, tmp_path):
    like = images.read_series(save(tmp_path / "x.nii"))
    volumes = (np.zeros((5, 6, 7)) for _ in range(number))
    with pytest.raises(ValueError, match=f"{number} volumes for a series"):
        images.write_series(
            tmp_path / "y.nii", volumes, DATA.shape, np.float32, like=like, time_step=0
        )
    assert not (tmp_path / "y.nii").exists()


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path):
    shape = (64, 64, 48)
    peaks = []
    for number in (6, 30):
        source = save(tmp_path / "x.nii.gz", np.ones((*shape, number)), np.float32)
        tracemalloc.start()
        applied(source, tmp_path / "y.nii.gz")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 4 * np.prod(shape)  # two volumes, not 24


VALUES = {
    "uint8": (np.uint8, [1, 200, 255]),
    "int8": (np.int8, [-128, -1, 127]),
    "int16": (np.int16, [-32768, 5, 32767]),
    "uint16": (np.uint16, [1, 300, 65535]),
    "int32": (np.int32, [-(2**31), 2**24 + 1, 2**31 - 1]),
    "uint32": (np.uint32, [1, 2**24 + 1, 2**32 - 1]),
    "int64": (np.int64, [-(2**53) - 1, 2**53 + 1, 2**62 + 1]),
    "uint64": (np.uint64, [2**53 + 1, 2**63 - 1, 2**63 + 3]),
    "float32": (np.float32, [-7, 2**24, 2**25 + 4]),
    "float64": (np.float64, [-(2**40) - 1, 2**24 + 1, 2**53]),
}


def blocks(values, dtype, volumes):
    """Return a label map, or a series of them, with a block of each label."""
    data = np.zeros((24, 8, 8), dtype)
    for i, value in enumerate(values):
        data[8 * i + 1 : 8 * i + 7, 1:7, 1:7] = value
    return data if volumes == 1 else np.stack([data, data[::-1]], axis=-1)


def assert_same_labels(result, expected, interpolation):
    """Compare labels exactly; Gaussian windows round the corners of blocks."""
    read = np.asanyarray(result.dataobj)
    assert {int(v) for v in np.unique(read)} == {int(v) for v in np.unique(expected)}
    pairs = [(int(a), int(b)) for a, b in zip(read.ravel(), expected.ravel(), strict=True)]
    wrong = sum(a != b for a, b in pairs)
    assert wrong <= (0.15 * len(pairs) if interpolation == "MultiLabel" else 0)


@pytest.mark.parametrize("interpolation", LABEL_PRESERVING)
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("volumes", [1, 2])
def test_labels_keep_their_values(name, interpolation, volumes, tmp_path):
    dtype, values = VALUES[name]
    data = blocks(values, dtype, volumes)
    save(tmp_path / "x_dseg.nii", data, dtype)
    result = applied(tmp_path / "x_dseg.nii", tmp_path / "y.nii", interpolation=interpolation)
    assert_same_labels(result, data, interpolation)
    kept = result.get_data_dtype() == np.dtype(dtype)
    floats = name.startswith("float") and interpolation != "NearestNeighbor"
    assert kept if not floats else result.get_data_dtype().kind in "iu"


@pytest.mark.parametrize("interpolation", LABEL_PRESERVING)
@pytest.mark.parametrize("volumes", [1, 2])
@pytest.mark.parametrize(
    ("scaling", "stored"),
    [((1, 1000), np.uint8), ((3, -7), np.int16), ((0.1, 0), np.uint8), ((2, 2**25), np.int32)],
)
def test_scaled_labels_keep_their_values(scaling, stored, volumes, interpolation, tmp_path):
    step = 1 if scaling[0] >= 1 else 10
    data = blocks([step, 2 * step, 5 * step], stored, volumes)
    path = save(tmp_path / "x.nii", data, stored)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.float32(scaling).tobytes()
    path.write_bytes(raw)
    expected = np.rint(data.astype(float) * scaling[0] + scaling[1])
    result = applied(path, tmp_path / "y.nii", interpolation=interpolation)
    if interpolation == "NearestNeighbor":
        np.testing.assert_allclose(result.dataobj, expected, rtol=0, atol=1e-6)
    else:
        assert_same_labels(result, expected, interpolation)
    if volumes == 1:
        np.testing.assert_array_equal(images.read_labels(path).dataobj, expected)


@pytest.mark.parametrize("volumes", [1, 2])
def test_values_that_are_no_labels(volumes, tmp_path):
    data = blocks([1, 2, 3.25], np.float32, volumes)
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "x.nii")
    with pytest.raises(InputError, match=r"x.nii: some values of the input are not integers"):
        applied(tmp_path / "x.nii", tmp_path / "y.nii", interpolation="GenericLabel")
    data = blocks([1, 2, 1e17], np.float64, volumes)
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "x.nii")
    with pytest.raises(InputError, match=r"x.nii: .* beyond 2\^53, which floats do not hold"):
        applied(tmp_path / "x.nii", tmp_path / "y.nii", interpolation="MultiLabel")
    assert not (tmp_path / "y.nii").exists()
