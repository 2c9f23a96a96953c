import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.spatial.grids import Grid
from tests.helpers.balls import ALONE, ball, write


@pytest.fixture
def grid():
    """A small grid away from the origin, with voxels of different sides and a flipped axis."""
    affine = np.diag([-2.0, 1.5, 1.0, 1.0])
    affine[:3, 3] = 30, -20, 5
    return Grid((12, 14, 16), affine)


@pytest.fixture
def save(tmp_path):
    """A function that saves data on a grid as NIfTI and returns the path."""

    def save(name, data, grid, *, zooms=None):
        image = nib.Nifti1Image(data, grid.affine)
        image.header.set_xyzt_units("mm", "sec")
        if zooms is not None:
            image.header.set_zooms(zooms)
        image.set_sform(grid.affine, 1)
        image.set_qform(grid.affine, 1)
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def refused(capsys, tmp_path):
    """A function that runs the command and expects one error line and no new files."""

    def refused(*arguments, message, code=2):
        from nipype_quicksilver.cli.main import main

        before = sorted(tmp_path.rglob("*"))
        assert main([str(argument) for argument in arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("quicksilver: error: ")
        assert captured.err.count("\n") == 1, captured.err
        assert message in captured.err
        assert sorted(tmp_path.rglob("*")) == before

    return refused


@pytest.fixture
def good(tmp_path):
    """Arguments of a registration that would work, by option."""
    return {
        "--fixed": write(tmp_path / "fixed.nii.gz", ball()),
        "--moving": write(tmp_path / "moving.nii.gz", ball((0.55, 0.5, 0.5))),
        "--output-dir": tmp_path / "out",
        **ALONE,
    }
