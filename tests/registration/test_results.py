"""A registration on disk."""

from dataclasses import replace

import nibabel as nib
import numpy as np

from nipype_quicksilver.registration.results import FILES
from tests.helpers.registrations import load


def test_files_are_complete_and_on_native_grids(saved, pair):
    assert set(FILES) - set(saved) == {"uncertainty", "uncertainty_components"}
    assert {path.name for path in saved["summary"].parent.iterdir()} == {
        FILES[name] for name in saved
    }
    fixed, moving = nib.load(pair.fixed), nib.load(pair.moving)
    on_fixed = ("warped", "warped_labels", "log_jacobian", "displacement")
    for name in (*on_fixed, "inverse_warped", "inverse_displacement"):
        image, reference = nib.load(saved[name]), fixed if name in on_fixed else moving
        assert image.shape[:3] == reference.shape
        np.testing.assert_array_equal(image.affine, reference.affine)
        assert image.header["sform_code"] > 0
        assert image.header["qform_code"] > 0
    assert load(saved["warped_labels"]).dtype == load(pair.moving_labels).dtype


def test_no_file_of_an_earlier_registration_remains(result, tmp_path):
    values = np.zeros(result.warped.shape, np.float32)
    components = np.zeros((*values.shape, 3), np.float32)
    replace(result, uncertainty=values, uncertainty_components=components).save(tmp_path)
    (tmp_path / "notes.txt").touch()
    before = {path.name for path in tmp_path.iterdir()}
    result.save(tmp_path)
    removed = before - {path.name for path in tmp_path.iterdir()}
    assert removed == {"uncertainty.nii.gz", "uncertainty_components.nii.gz"}
