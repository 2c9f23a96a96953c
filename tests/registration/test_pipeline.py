"""What a registration does, on a pair small enough for seconds."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.spatial import images
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.measures import transform_distance
from tests.helpers.registrations import SETTINGS, load, options_of, register


def test_images_become_more_similar(result):
    similarity, labels = result.summary.similarity, result.summary.labels
    assert 0 < similarity.before < similarity.after - 0.05 < 1
    assert labels.after.mean.dice > labels.before.mean.dice
    assert result.summary.jacobian.folded == 0
    consistency = result.summary.inverse_consistency_mm
    assert consistency.mean < 0.05
    assert consistency.p99 < 0.2
    first, last = result.summary.stages[0].loss
    assert last < first


def test_summary_is_complete(saved, pair):
    summary = json.loads(saved["summary"].read_text())
    assert {"read", "prepare", "optimize", "maps", "resample", "write"} <= set(summary["seconds"])
    parts = [value for name, value in summary["seconds"].items() if name != "total"]
    assert summary["seconds"]["total"] == pytest.approx(sum(parts))
    assert {"torch", "numpy", "SimpleITK", "nibabel", "python"} <= set(summary["versions"])
    parameters = summary["parameters"]
    assert parameters["kernel"] == SETTINGS.kernel.as_dict()
    assert parameters["stages"][0] == {"image": 4, "velocity": 4, "iterations": 12}
    assert parameters["device"] == "cpu"
    assert parameters["seed"] == 0
    assert summary["inputs"]["moving"] == str(pair.moving)
    assert summary["inputs"]["fixed_lesion_mask"] is None
    mask = summary["masks"]["fixed_mask"]
    assert mask["file"] == str(pair.fixed_mask)
    assert mask["used"]
    volume = 8.0 * np.count_nonzero(load(pair.fixed_mask))
    assert mask["voxels"] == pytest.approx(volume, rel=0.15)
    assert summary["masks"]["moving_lesion_mask"] == {"file": None, "used": False, "voxels": 0}


def test_two_runs_give_the_same_bytes(pair, tmp_path):
    for name in ("first", "second"):
        register(pair.fixed, pair.moving, **options_of(pair)).save(tmp_path / name)
    for file in ("momentum.nii.gz", "warped.nii.gz", "displacement.nii.gz"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("first", "second"))
        assert first == second


def reoriented(path, codes, folder):
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(turn)
    nib.save(turned, folder / path.name)
    return folder / path.name


def test_orientation_on_disk_does_not_matter(pair, tmp_path, brain_mask):
    usual = register(pair.fixed, pair.moving, **options_of(pair))
    fixed = reoriented(pair.fixed, "LIA", tmp_path)
    moving = reoriented(pair.moving, "PSR", tmp_path)
    options = {"fixed_mask": pair.fixed_mask, "moving_mask": pair.moving_mask}
    turned = register(fixed, moving, affine=pair.affine, **options)
    assert transform_distance(usual.composite, turned.composite, brain_mask).max < 1e-3
    written = turned.save(tmp_path / "out")
    back = reoriented(written["warped"], nib.aff2axcodes(nib.load(pair.fixed).affine), tmp_path)
    np.testing.assert_allclose(load(back), usual.warped, atol=0.5)


@pytest.fixture
def lesions(pair, tmp_path):
    """Images with a bright lesion on one side each, and masks of the lesions."""
    paths = {}
    for name, center in (("fixed", (6, 4, 2)), ("moving", (-3, -4, -2))):
        image = nib.load(getattr(pair, name))
        grid = Grid.from_image(image)
        lesion = np.linalg.norm(grid.coordinates() - center, axis=-1) < 4.5
        data = np.where(lesion, 3000, load(getattr(pair, name))).astype(np.int16)
        for stem, content in ((name, data), (f"{name}_lesion", lesion)):
            path = tmp_path / f"{stem}.nii.gz"
            paths[stem] = images.write_image(path, content, grid.affine)
    return paths


def test_masked_lesions_do_not_drive_the_registration(pair, lesions, brain_mask):
    options = {"fixed_mask": pair.fixed_mask, "moving_mask": pair.moving_mask}
    options |= {"affine": pair.affine, "settings": replace(SETTINGS, similarity="ssd")}
    truth = register(pair.fixed, pair.moving, **options)
    hidden = {
        "fixed_lesion_mask": lesions["fixed_lesion"],
        "moving_lesion_mask": lesions["moving_lesion"],
    }
    without_masks = register(lesions["fixed"], lesions["moving"], **options)
    masked_out = register(lesions["fixed"], lesions["moving"], **options, **hidden)
    for name, path in hidden.items():
        mask = masked_out.summary.masks[name]
        assert mask.file == str(path)
        assert mask.used
        volume = np.prod(Grid.from_file(path).spacing) * np.count_nonzero(load(path))
        assert mask.voxels == pytest.approx(volume, rel=0.25)
    distances = [
        transform_distance(truth.composite, other.composite, brain_mask).mean
        for other in (masked_out, without_masks)
    ]
    assert distances[0] < 0.7 * distances[1]


def test_importing_the_api_does_not_import_torch():
    import subprocess
    import sys

    program = "import sys, nipype_quicksilver.registration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
