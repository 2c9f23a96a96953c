"""Rigid, similarity and affine registrations: the outputs of a deformable one, without a field."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

import nipype_quicksilver
from nipype_quicksilver import InputError, interfaces
from nipype_quicksilver.options import TRANSFORMS, completed
from nipype_quicksilver.registration.linear import check_model
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.spatial.transforms import map_points, read_affine, read_transform
from tests.helpers.registrations import SETTINGS, load, options_of
from tests.registration.conftest import SHIFT

LINEAR = [name for name in TRANSFORMS if name != "deformable"]


@pytest.fixture(scope="module")
def rigid(heads):
    """Two heads of one person, registered rigidly from what a scanner gives."""
    with pytest.MonkeyPatch.context() as patch:
        from nipype_quicksilver.preprocessing import brain

        def extracted(image, *_):
            data = np.asanyarray(image.dataobj)
            return brain._largest_component((data > 90) & (data < 900))

        patch.setattr(brain, "_by_deepbet", extracted)
        return nipype_quicksilver.register(*heads, transform="rigid", device="cpu")


def test_a_rigid_motion_is_recovered(rigid):
    matrix = np.array(rigid.summary.affine_matrix)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)
    points = np.array([[0.0, 0, 0], [40, -50, 30], [-40, 60, -20]])
    np.testing.assert_allclose(map_points(rigid.composite, points) - points, [SHIFT] * 3, atol=0.7)
    back = map_points(rigid.inverse_composite, map_points(rigid.composite, points))
    np.testing.assert_allclose(back, points, atol=1e-6)
    assert rigid.summary.preprocessing.affine.dof == 6
    assert rigid.summary.preprocessing.template is None


def test_a_rigid_motion_keeps_volumes(rigid):
    assert np.abs(rigid.log_jacobian).max() < 1e-4
    assert not rigid.momentum.data.any()
    summary = rigid.summary
    assert summary.energy.initial == summary.jacobian.folded == 0
    assert summary.parameters.transform == summary.options["transform"] == "rigid"
    assert summary.parameters.method is None and summary.deformation_mm is None
    assert summary.similarity.before == summary.similarity.after > 0.5


@pytest.mark.parametrize("transform", LINEAR)
def test_outputs_are_those_of_a_deformable_registration(transform, pair, tmp_path):
    """Of the command, whose affine is a file; all maps are that affine."""
    from nipype_quicksilver.cli.main import main

    words = ["register", "--fixed", pair.fixed, "--moving", pair.moving, "--quiet"]
    words += ["--brain-extraction", "none", "--transform", transform, "--output-dir", tmp_path]
    for name, file in options_of(pair).items():
        words += [f"--{name.replace('_', '-')}", file]
    assert main([*map(str, words), "--device", "cpu"]) == 0
    expected = {file for file in FILES.values() if not file.startswith("uncertainty")}
    assert {path.name for path in tmp_path.iterdir()} == expected
    shift = read_affine(pair.affine)[:3, 3]
    points = np.array([[1.0, 2, 3]])
    for file, sign in (("composite.h5", 1), ("inverse_composite.h5", -1)):
        moved = map_points(read_transform(tmp_path / file), points)
        np.testing.assert_allclose(moved - points, [sign * shift], atol=1e-9)
    field = load(tmp_path / "displacement.nii.gz").squeeze()
    np.testing.assert_allclose(field, np.broadcast_to(shift * [-1, -1, 1], field.shape), atol=1e-5)
    assert np.abs(load(tmp_path / "log_jacobian.nii.gz")).max() < 1e-4
    labels = json.loads((tmp_path / "summary.json").read_text())["labels"]
    assert labels["before"] == labels["after"]
    # The report describes what was done.
    from nipype_quicksilver.reports import write_registration_report

    page = write_registration_report(tmp_path).read_text()
    assert "No deformation was estimated" in page
    assert f"resampled once, through the {transform} transformation" in page


def test_the_node_has_the_warnings_and_outputs(pair, tmp_path):
    node = interfaces.QuicksilverRegistration(
        fixed_image=pair.fixed,
        moving_image=pair.moving,
        transform="rigid",
        brain_extraction="none",
        initial_moving_transform=pair.affine,
    )
    outputs = node.run(cwd=tmp_path).outputs
    assert outputs.warnings == json.loads(Path(outputs.summary).read_text())["warnings"]
    shape = nib.load(pair.fixed).shape
    for name in ("warped_image", "log_jacobian", "momentum", "composite_transform"):
        assert getattr(outputs, name)
    assert nib.load(outputs.warped_image).shape == shape


@pytest.mark.parametrize(
    ("transform", "scales", "fits"),
    [
        ("rigid", [1, 1, 1.0001], True),
        ("rigid", [1.1, 1.1, 1.1], False),
        ("similarity", [1.1, 1.1, 1.1], True),
        ("similarity", [1.1, 1.1, 1.0], False),
        ("affine", [1.1, 0.7, 1.0], True),
        ("deformable", [1.1, 0.7, 1.0], True),
    ],
)
def test_a_given_affine_is_of_the_requested_kind(transform, scales, fits):
    matrix = from_matvec(np.diag(scales), [1, 2, 3])
    if fits:
        check_model(matrix, transform, "a.mat")
        return
    with pytest.raises(InputError, match=rf"a\.mat: is not a {transform} transform, as it scales"):
        check_model(matrix, transform, "a.mat")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "refine"}, "transform 'rigid' has no deformation and does not use method"),
        ({"samples": 3}, "does not use samples; leave it out, or choose deformable"),
        ({"template": "MNI152"}, "does not use template"),
        ({"transform": "guess"}, "transform 'guess' is unknown; give rigid, similarity, affine"),
        (
            {"transform": "similarity", "affine": "reg_aladin"},
            "affine 'reg_aladin' does not estimate a similarity transform; choose simpleitk, or "
            "rigid, affine, deformable",
        ),
    ],
)
def test_options_without_use_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        completed({"transform": "rigid", **options})
    with pytest.raises(InputError, match=message):
        nipype_quicksilver.register("absent.nii", "absent.nii", **{"transform": "rigid", **options})


def test_settings_without_use_are_refused(pair):
    with pytest.raises(InputError, match="transform 'affine' does not use settings"):
        nipype_quicksilver.register(
            pair.fixed, pair.moving, transform="affine", settings=SETTINGS, affine=pair.affine
        )
