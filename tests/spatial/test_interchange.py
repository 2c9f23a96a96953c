"""Affines of other software, against the tools' own conventions."""

import warnings

import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import AFFINE_FORMATS
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.spatial.interchange import read_matrix
from nipype_quicksilver.spatial.transforms import write_affine

MATRIX = from_matvec(euler2mat(0.1, 0.2, -0.3) @ np.diag([1.1, 0.9, 1]), [5, -6, 7])
DATA = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
FIXED = from_matvec(np.diag([-2.0, 2, 3]), [10, -20, 30])  # radiological, as FSL expects
MOVING = from_matvec(np.diag([1.5, 1, 1]), [-4, 5, 6])  # neurological: FSL flips its first axis


@pytest.fixture
def images(tmp_path):
    """Files of the fixed and the moving image."""
    return [
        write_image(tmp_path / f"{name}.nii.gz", DATA, affine)
        for name, affine in (("fixed", FIXED), ("moving", MOVING))
    ]


def scaled_voxels(affine):
    """Return the map from FSL's coordinates to world coordinates, as its documentation has it."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    to_voxels = np.diag([*1 / spacing, 1])
    if np.linalg.det(affine[:3, :3]) > 0:
        flip = from_matvec(np.diag([-1.0, 1, 1]), [DATA.shape[0] - 1, 0, 0])
        to_voxels = flip @ to_voxels
    return affine @ to_voxels


def test_world_coordinates(tmp_path):
    np.savetxt(tmp_path / "greedy.mat", MATRIX)
    np.testing.assert_allclose(read_matrix(tmp_path / "greedy.mat", "ras"), MATRIX)


@pytest.mark.parametrize("suffix", [".mat", ".txt", ".tfm"])
def test_itk(suffix, tmp_path):
    path = write_affine(tmp_path / f"affine{suffix}", MATRIX)
    np.testing.assert_allclose(read_matrix(path, "itk"), MATRIX, atol=1e-9)


def test_flirt(tmp_path, images):
    """FLIRT's matrix maps scaled voxels of the moving image to those of the fixed image."""
    moving_to_fixed = np.linalg.inv(MATRIX)
    flirt = np.linalg.inv(scaled_voxels(FIXED)) @ moving_to_fixed @ scaled_voxels(MOVING)
    np.savetxt(tmp_path / "flirt.mat", flirt, fmt="%.12f")
    np.testing.assert_allclose(
        read_matrix(tmp_path / "flirt.mat", "fsl", *images), MATRIX, atol=1e-5
    )


@pytest.mark.parametrize(
    "content", ["", "1 2 3\n4 5 6\n", "one two\n", "0 0 0 0\n" * 4, "nan " * 4]
)
@pytest.mark.parametrize("form", AFFINE_FORMATS)
def test_rubbish_is_refused_in_one_line(form, content, tmp_path, images):
    path = tmp_path / "affine.mat"
    path.write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            read_matrix(path, form, *images)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_missing_file_and_images_are_refused(tmp_path, images):
    with pytest.raises(InputError, match="is not a matrix"):
        read_matrix(tmp_path / "none.mat", "ras")
    np.savetxt(tmp_path / "flirt.mat", MATRIX)
    with pytest.raises(InputError, match="give the fixed and the moving image"):
        read_matrix(tmp_path / "flirt.mat", "fsl", fixed=images[0])
