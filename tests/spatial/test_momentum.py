"""A momentum keeps its grids and its kernel."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum, write_momentum

WORKING = Grid((8, 16, 8), from_matvec(np.eye(3), [-70.123456789, 1 / 3, 5]))
KERNEL = {"alpha": 0.01, "beta": 0.01, "gamma": 0.001, "power": 1.0}


def example() -> Momentum:
    grid = WORKING.subsampled(2)
    data = np.random.default_rng(1).normal(size=(*grid.shape, 3)).astype(np.float32)
    return Momentum(data=data, grid=grid, kernel=KERNEL, steps=5, working_grid=WORKING)


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii"])
def test_round_trip(tmp_path, name):
    written = example()
    read = read_momentum(write_momentum(tmp_path / name, written))
    np.testing.assert_array_equal(read.data, written.data)
    # To the last bit, though a NIfTI header holds the affine in single precision.
    np.testing.assert_array_equal(read.grid.affine, written.grid.affine)
    np.testing.assert_array_equal(read.working_grid.affine, WORKING.affine)
    assert read.working_grid.shape == WORKING.shape
    assert read.kernel == KERNEL and read.steps == 5


def test_same_bytes(tmp_path):
    first = write_momentum(tmp_path / "a.nii.gz", example()).read_bytes()
    assert first == write_momentum(tmp_path / "b.nii.gz", example()).read_bytes()


def test_is_no_displacement_field(tmp_path):
    path = write_momentum(tmp_path / "m.nii.gz", example())
    with pytest.raises(InputError, match="not an ITK displacement field"):
        transforms.read_transform(path)
    field = transforms.write_displacement(tmp_path / "w.nii.gz", example().data, example().grid)
    with pytest.raises(InputError, match="is not a momentum"):
        read_momentum(field)


def test_lost_extension(tmp_path):
    path = write_momentum(tmp_path / "m.nii", example())
    image = nib.load(path)
    image.header.extensions.clear()
    nib.save(image, tmp_path / "stripped.nii")
    with pytest.raises(InputError, match="does not store a kernel and a grid"):
        read_momentum(tmp_path / "stripped.nii")


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b'"alpha"', b'"alphe"'),
        (b'"alpha": 0.01', b'"alpha": -.01'),
        (b'"alpha": 0.01', b'"alpha": NaN '),
        (b'"gamma": 0.001', b'"gamma": 0.000'),
        (b'"power": 1.0', b'"power": 0.0'),
        (b'"steps": 5', b'"steps": 0'),
        (b'"shape": [4, 8, 4]', b'"shape": [4, 4, 4]'),
        (b'"shape": [8, 16, 8]', b'"shape": [8, 16, 9]'),
        (b'"shape": [8, 16, 8]', b'"shape": [2, 16, 8]'),
    ],
)
def test_damaged_extension(tmp_path, written, damaged):
    path = write_momentum(tmp_path / "m.nii", example())
    assert path.read_bytes().count(written) == 1
    path.write_bytes(path.read_bytes().replace(written, damaged))
    with pytest.raises(InputError, match="damaged"):
        read_momentum(path)


def test_moved(tmp_path):
    image = nib.load(write_momentum(tmp_path / "m.nii", example()))
    affine = image.affine.copy()
    affine[0, 3] += 1
    image.set_sform(affine, 1)
    nib.save(image, tmp_path / "moved.nii")
    with pytest.raises(InputError, match="another grid"):
        read_momentum(tmp_path / "moved.nii")


def test_other_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_momentum(tmp_path / "no.nii")
    images.write_image(tmp_path / "i.nii", np.ones((3, 3, 3)), np.eye(4))
    with pytest.raises(InputError, match="is not a momentum"):
        read_momentum(tmp_path / "i.nii")


def test_misfits():
    with pytest.raises(ValueError):
        Momentum(np.zeros((2, 2, 2, 3), np.float32), WORKING, KERNEL, 5, WORKING)
    with pytest.raises(ValueError):
        Momentum(np.zeros((*WORKING.shape, 3), np.float32), WORKING, {"alpha": 1.0}, 5, WORKING)
