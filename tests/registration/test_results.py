"""A registration on disk."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
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


def test_only_files_of_an_earlier_registration_are_replaced(result, tmp_path):
    files = result.save(tmp_path / "a")
    recorded = json.loads(files["summary"].read_text())["files"]
    sizes = {path.name: path.stat().st_size for path in files["summary"].parent.iterdir()}
    assert recorded == {name: sizes[name] for name in sizes if name != "summary.json"}
    uncertainty = tmp_path / "uncertainty.nii.gz"
    uncertainty.write_text("of another program")
    with pytest.raises(InputError, match=f"^{uncertainty}: would be replaced, and no summary.json"):
        result.save(tmp_path)
    assert uncertainty.read_text() == "of another program"


def test_inputs_are_not_overwritten(result, tmp_path):
    """They may lie in the output folder under the name of an output, or be linked from there."""
    name = result.summary.inputs["moving_labels"]
    (tmp_path / "warped.nii.gz").symlink_to(name)
    with pytest.raises(InputError, match=rf"warped.nii.gz: is an input of this run \({name}\)"):
        result.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["warped.nii.gz"]
