"""From two heads to two aligned brains."""

import json

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec

import nipype_quicksilver
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.lddmm.settings import Settings, Stage
from nipype_quicksilver.options import completed
from nipype_quicksilver.preprocessing import affine, brain
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.preprocessing.templates import template_file
from nipype_quicksilver.registration import alignment
from nipype_quicksilver.registration.pair import ScanFiles, read_pair
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.images import read_image
from nipype_quicksilver.spatial.records import as_json
from nipype_quicksilver.spatial.transforms import read_affine, write_affine
from nipype_quicksilver.tools import ExternalTool
from tests.registration.conftest import SHIFT


def aligned(files, **options):
    """Align two heads; return pair and preprocessing."""
    context = alignment.Context(completed(options), WorkFolder(None), torch.device("cpu"), Clock())
    return alignment.to_aligned_brains(read_pair(*map(ScanFiles, files)), context)


def test_heads_are_registered(heads, network):
    settings = Settings(stages=(Stage(4, 4, 1),))
    result = nipype_quicksilver.register(
        *heads, method="optimize", settings=settings, template=None, device="cpu"
    )
    preprocessing = result.summary.preprocessing
    assert preprocessing.template is None
    assert "template" not in as_json(result.summary)["preprocessing"]
    assert preprocessing.fixed_brain.how == preprocessing.moving_brain.how == "deepbet"
    points = np.array([[0.0, 0, 0], [20, 30, 10]])
    mapped = [result.composite.TransformPoint(p) for p in (points * [-1, -1, 1]).tolist()]
    np.testing.assert_allclose(mapped * np.array([-1, -1, 1]) - points, [SHIFT] * 2, atol=3)
    assert {"extract", "align"} <= set(result.summary.seconds)
    # The head is warped, the brain is compared.
    assert result.warped.max() > 890
    assert result.summary.masks["fixed_mask"].voxels < 1.3e6


def test_given_masks_and_affines_are_used(heads, network, tmp_path):
    pair, preprocessing = aligned(heads, brain_extraction="none", affine="none")
    assert pair.fixed.mask is None and pair.affine is None and as_json(preprocessing) == {}
    matrix = write_affine(tmp_path / "a.mat", from_matvec(np.eye(3), SHIFT))
    assert alignment.affine_file(matrix) == matrix
    assert read_affine(matrix)[0, 3] == SHIFT[0]
    assert alignment.affine_file("simpleitk") is None
    assert alignment.affine_file("none") is None
    with pytest.raises(InputError, match="brain extraction 'guess' is unknown"):
        nipype_quicksilver.register(*heads, brain_extraction="guess")


def test_external_tools_are_known_by_name(heads, network, monkeypatch):
    monkeypatch.setattr(ExternalTool, "command", lambda _: None)
    with pytest.raises(InputError, match="'bet': bet is not on the PATH; install FSL"):
        nipype_quicksilver.register(*heads, brain_extraction="bet")
    with pytest.raises(InputError, match="'greedy': greedy is not on the PATH, and"):
        nipype_quicksilver.register(*heads, affine="greedy")
    seen = {}

    def extract_mask(name, image, **_):
        seen["brain_extraction"] = name
        data = np.asanyarray(image.dataobj)
        return (data > 90) & (data < 900)

    def align_brains(name, fixed, moving, **_):
        seen["affine"] = name
        # Tools see brains, not heads.
        assert max(np.asanyarray(image.dataobj).max() for image in (fixed, moving)) < 900
        return from_matvec(np.eye(3), SHIFT)

    monkeypatch.setattr(brain, "extract_mask", extract_mask)
    monkeypatch.setattr(affine, "align_brains", align_brains)
    pair, preprocessing = aligned(heads, brain_extraction="bet", affine="greedy")
    assert seen == {"brain_extraction": "bet", "affine": "greedy"}
    assert preprocessing.fixed_brain.how == "bet" and preprocessing.affine.how == "greedy"
    np.testing.assert_array_equal(pair.affine[:3, 3], SHIFT)


def test_images_too_small_for_a_head_are_left_as_they_are(pair):
    small, preprocessing = aligned((pair.fixed, pair.moving))
    assert small.fixed.mask is None and small.affine is None
    assert preprocessing.affine == AffineSummary(how="headers")
    assert as_json(preprocessing)["affine"] == {"how": "headers"}
    assert preprocessing.fixed_brain.how == "stripped"


def test_template_by_name(tmp_path):
    path = template_file("MNI152", tmp_path)
    image = read_image(path)
    assert path.parent == tmp_path and image.shape[0] > 150
    assert brain.extract(image).summary.how == "stripped"
    corner = apply_affine(image.affine, np.argwhere(np.asanyarray(image.dataobj) > 0).mean(axis=0))
    assert np.linalg.norm(corner - [0, -22, 10]) < 25
    before = path.stat().st_mtime_ns
    assert template_file("MNI152", tmp_path).stat().st_mtime_ns == before
    assert template_file("brain.nii.gz", tmp_path).name == "brain.nii.gz"


def test_the_preprocessing_is_json(heads, network):
    _, preprocessing = aligned(heads)
    assert json.loads(json.dumps(as_json(preprocessing)))["affine"]["dof"] == 12
