"""Images whose sform and qform differ: what is written means one world, to ITK as well."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import from_matvec

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.lddmm.settings import Settings
from nipype_quicksilver.spatial.forms import distance
from nipype_quicksilver.spatial.transforms import write_affine
from tests.helpers.balls import ALONE, GRID, ball, listed

QUICK = ("--iterations", "x".join("1" * len(Settings().stages)), "--num-threads", "1")
SHIFT = from_matvec(np.eye(3), [12, 0, 0])


def forged(path, data):
    """Write an image whose qform is 12 mm away from its sform; ITK takes the qform."""
    image = nib.Nifti1Image(data, GRID.affine)
    image.set_sform(GRID.affine, 2)
    image.set_qform(SHIFT @ GRID.affine, 1)
    nib.save(image, path)
    return path


def by_itk(path):
    """Return an image as SimpleITK reads it, and its affine in RAS."""
    image = sitk.ReadImage(str(path))
    axes = np.reshape(image.GetDirection()[:9], (3, 3)) * image.GetSpacing()[:3]
    return image, np.diag([-1.0, -1, 1, 1]) @ from_matvec(axes, image.GetOrigin()[:3])


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A registration of such images, with labels and a mask, and its messages."""
    folder = tmp_path_factory.mktemp("worlds")
    moving = forged(folder / "moving.nii.gz", ball((0.55, 0.5, 0.45)))
    fixed = forged(folder / "fixed.nii.gz", ball())
    options = listed(
        {**ALONE, "--fixed": fixed, "--moving": moving, "--output-dir": folder / "out"}
    )
    for side, center in (("fixed", 0.5), ("moving", 0.55)):
        labels = (ball((center, 0.5, 0.5)) > 75).astype(np.uint8)
        options += [f"--{side}-labels", forged(folder / f"{side}_labels.nii.gz", labels)]
        options += [f"--{side}-mask", forged(folder / f"{side}_mask.nii.gz", labels | 1)]
    assert main(["register", *map(str, [*options, *QUICK, "--method", "optimize"])]) == 0
    return folder


def test_every_file_is_reported_once(registered):
    warnings = json.loads((registered / "out" / "summary.json").read_text())["warnings"]
    reported = [text.split(": ")[0] for text in warnings if "sform and qform differ" in text]
    assert len(reported) == len(set(reported)) == 6
    assert all("12 mm" in text for text in warnings if "sform and qform differ" in text)


def test_itk_sees_all_results_where_they_are(registered):
    files = list((registered / "out").glob("*.nii.gz"))
    assert len(files) > 6
    for file in files:
        affine = nib.load(file).affine
        assert distance(affine, by_itk(file)[1], GRID.shape) < 1e-3, file.name
        np.testing.assert_allclose(nib.load(file).get_qform(), affine, atol=1e-4)
        if file.name != "momentum.nii.gz":
            np.testing.assert_allclose(affine, GRID.affine, atol=1e-4)


def test_the_composite_is_right_for_itk_once_the_forms_are_equal(registered):
    composite = sitk.ReadTransform(str(registered / "out" / "composite.h5"))
    warped, _ = by_itk(registered / "out" / "warped.nii.gz")
    image = nib.load(registered / "moving.nii.gz")
    image.set_qform(image.affine)  # as the warning says
    nib.save(image, registered / "unified.nii.gz")

    def applied(name):
        moving = sitk.ReadImage(str(registered / name), sitk.sitkFloat32)
        return sitk.GetArrayFromImage(sitk.Resample(moving, warped, composite))

    expected = sitk.GetArrayFromImage(warped)
    np.testing.assert_allclose(applied("unified.nii.gz"), expected, atol=1e-2)
    assert np.abs(applied("moving.nii.gz") - expected).max() > 20


def test_apply_writes_one_world(registered, tmp_path, capsys):
    files = {"--input": registered / "moving.nii.gz", "--reference": registered / "fixed.nii.gz"}
    files |= {"--transform": write_affine(tmp_path / "a.mat", np.eye(4))}
    assert main(["apply", *map(str, listed(files)), "--output", str(tmp_path / "x.nii.gz")]) == 0
    messages = capsys.readouterr().err
    for file in (files["--input"], files["--reference"]):
        assert messages.count(f"{file}: sform and qform differ") == 1
    np.testing.assert_allclose(by_itk(tmp_path / "x.nii.gz")[1], GRID.affine, atol=1e-4)
    np.testing.assert_allclose(
        nib.load(tmp_path / "x.nii.gz").dataobj, ball((0.55, 0.5, 0.45)), atol=1e-4
    )
