"""Affine alignment: known matrices are recovered, in any order, with any number of threads."""

import warnings

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing import affine
from nipype_quicksilver.spatial.images import nifti
from nipype_quicksilver.spatial.magnification import magnified, scaling
from nipype_quicksilver.spatial.transforms import write_affine

FAST = (8.0, 4.0)  # without the finest level, to save time
CORNERS = np.array(np.meshgrid([-65, 65], [-77, 83], [-55, 55])).reshape(3, -1).T


def matrix_of(turn, linear, shift):
    """Return a matrix of a rotation in degrees about an axis, a linear part and a shift."""
    rotation = Rotation.from_rotvec(np.radians(turn)).as_matrix()
    return from_matvec(rotation @ linear, shift)


def align(fixed, moving, *, levels=FAST, **options):
    return affine.align(fixed, moving, levels=levels, **options)


def distance(first, second):
    difference = apply_affine(first, CORNERS) - apply_affine(second, CORNERS)
    return np.linalg.norm(difference, axis=1).max()


SHEARED = np.array([[1.05, 0.04, 0], [0, 0.92, 0.05], [0.02, 0, 1.08]])
TRUTH = {
    6: matrix_of([0, 0, 12], np.eye(3), [20, -10, 15]),
    7: matrix_of([30, 0, 20], np.eye(3) * 0.85, [-30, 20, 10]),
    9: matrix_of([5, -5, 0], np.diag([1.08, 0.95, 1.0]), [5, 0, -25]),
    12: matrix_of([0, 40, 0], SHEARED, [40, 30, 0]),
}


@pytest.mark.parametrize("dof", TRUTH)
def test_known_matrix(dof, fixed, moved):
    # The finest level takes longest and is tested once.
    levels = affine.LEVELS if dof == 9 else FAST
    alignment = align(fixed, moved(TRUTH[dof]), dof=dof, levels=levels)
    # The corners of the box lie far outside the brain.
    assert distance(alignment.matrix, TRUTH[dof]) < (3.5 if dof == 12 else 1.5)
    similarity = alignment.summary.similarity
    assert similarity.after > similarity.before + 0.1
    scales = np.linalg.svd(TRUTH[dof][:3, :3], compute_uv=False)
    np.testing.assert_allclose(alignment.summary.scales, scales, atol=0.015)


def test_degrees_of_freedom_are_kept(fixed, moved):
    moving = moved(TRUTH[12])
    rigid, similar, scaled = (
        align(fixed, moving, dof=dof, levels=(8.0,)).matrix[:3, :3] for dof in (6, 7, 9)
    )
    np.testing.assert_allclose(rigid.T @ rigid, np.eye(3), atol=1e-8)
    size = np.cbrt(np.linalg.det(similar))
    assert size == pytest.approx(np.cbrt(np.linalg.det(SHEARED)), abs=0.02)
    np.testing.assert_allclose(similar.T @ similar, size**2 * np.eye(3), atol=1e-8)
    assert np.ptp(np.linalg.svd(scaled, compute_uv=False)) > 0.08


def test_exchanged_images_give_the_inverse(fixed, moved):
    moving = moved(TRUTH[9])
    forward, inverse = (align(*pair).matrix for pair in ((fixed, moving), (moving, fixed)))
    assert distance(inverse @ forward, np.eye(4)) < 1e-9  # rounding of an inverse only


@pytest.mark.parametrize("dof", [6, 7])
def test_a_small_brain_is_aligned_at_human_size(dof, fixed, moved):
    """Brains of animals differ in size from human ones only: 7 mm wide instead of 130."""
    small = 0.05
    pair = (magnified(image, small) for image in (fixed, moved(TRUTH[dof])))
    alignment = align(*pair, dof=dof)
    matrix = scaling(1 / small) @ alignment.matrix @ scaling(small)
    assert distance(matrix, TRUTH[dof]) < 4
    scales = np.linalg.svd(TRUTH[dof][:3, :3], compute_uv=False)
    np.testing.assert_allclose(alignment.summary.scales, scales, atol=0.015)
    assert alignment.summary.directions_apart_mm < 4 * small


def test_a_brain_of_another_size_is_scaled(fixed, moved):
    """The summary and the warning are about the sizes in the headers."""
    with pytest.warns(UserWarning, match="scales by 0.05"):
        alignment = align(fixed, magnified(moved(TRUTH[7]), 0.06), dof=7)
    matrix = scaling(1 / 0.06) @ alignment.matrix
    assert distance(matrix, TRUTH[7]) < 4


def test_same_bits_at_any_number_of_threads(fixed, moved):
    moving = moved(TRUTH[9])
    results = [align(fixed, moving, num_threads=n).matrix for n in (1, 2)]
    np.testing.assert_array_equal(results[0], results[1])


def test_other_contrast(fixed, moved):
    moving = moved(TRUTH[9], lambda data: np.where(data > 0, 1000 - 2 * data, 0))
    assert distance(align(fixed, moving).matrix, TRUTH[9]) < 2.0


def test_masks_hide_what_is_outside(fixed, moved):
    moving = moved(TRUTH[6])
    inside = np.asanyarray(moving.dataobj) > 0
    rest = np.random.default_rng(1).uniform(0, 800, inside.shape)
    head = nifti(np.where(inside, moving.dataobj, rest).astype(np.float32), moving.affine)
    mask = nifti(inside.astype(np.uint8), moving.affine)
    assert distance(align(fixed, head, moving_mask=mask, dof=6).matrix, TRUTH[6]) < 1.5


def test_mask_of_another_place_is_refused(fixed, moved):
    moving = moved(TRUTH[6])
    far = moving.affine.copy()
    far[0, 3] += 1000
    mask = nifti(np.ones(moving.shape, np.uint8), far)
    with pytest.raises(InputError, match="does not overlap"):
        align(fixed, moving, moving_mask=mask)


def test_start_from_a_matrix(fixed, moved):
    start = matrix_of([3, -3, 2], np.eye(3), [2, 3, -20])
    assert distance(align(fixed, moved(TRUTH[9]), initial=start, dof=9).matrix, TRUTH[9]) < 2.0
    scaled = 1.1 * TRUTH[6]
    rigid = align(fixed, moved(TRUTH[6]), initial=scaled, dof=6, levels=(8.0,)).matrix[:3, :3]
    np.testing.assert_allclose(rigid.T @ rigid, np.eye(3), atol=1e-8)


def test_images_upside_down_are_aligned_with_a_warning(fixed, moved):
    truth = matrix_of([180, 0, 0], np.eye(3), [0, 0, 0])
    with pytest.warns(UserWarning, match="rotates by 180 degrees; check the orientation"):
        alignment = align(fixed, moved(truth), dof=7)
    assert distance(alignment.matrix, truth) < 1.5


def test_good_alignments_do_not_warn(fixed, moved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        align(fixed, fixed, dof=6)


def test_images_that_cannot_be_aligned_are_refused(fixed):
    tiny = nifti(np.asanyarray(fixed.dataobj)[20:24, 20:24, 20:24], fixed.affine)
    with pytest.raises(InputError, match="too little to align; check the voxel sizes"):
        align(tiny, fixed)
    flat = nifti((np.asanyarray(fixed.dataobj) > 0).astype(np.float32), fixed.affine)
    with pytest.raises(InputError, match="no contrast in its brain"):
        align(fixed, flat)
    with pytest.raises(InputError, match="dof 8: give 6, 7, 9, 12"):
        align(fixed, fixed, dof=8)


def test_files_are_read_and_aligned(fixed, moved, saved, tmp_path):
    files = saved(fixed, "fixed.nii.gz"), saved(moved(TRUTH[6]), "moving.nii.gz")
    start = write_affine(tmp_path / "start.mat", TRUTH[6])
    aligned = affine.align_files(*files, initial=start, dof=6, num_threads=2)
    assert distance(aligned.alignment.matrix, TRUTH[6]) < 1
    assert aligned.alignment.summary.dof == 6 and aligned.alignment.summary.how is None
    np.testing.assert_array_equal(aligned.fixed.dataobj, fixed.dataobj)
    with pytest.raises(InputError, match=r"start\.mat: 'flirt' does not use an initial affine"):
        affine.align_files(*files, initial=start, by="flirt")


def test_files_are_aligned_by_an_external_tool(fixed, moved, saved, monkeypatch):
    """Masks, degrees of freedom and threads are passed on."""
    calls = {}

    def tool(name, *images, **options):
        calls.update(options, name=name, images=images)
        return TRUTH[7]

    monkeypatch.setattr(affine, "align_brains", tool)
    files = saved(fixed, "fixed.nii.gz"), saved(moved(TRUTH[7]), "moving.nii.gz")
    options = {"dof": 7, "num_threads": 2, "log_dir": "logs"}
    aligned = affine.align_files(*files, fixed_mask=files[0], by="greedy", **options)
    np.testing.assert_array_equal(aligned.alignment.matrix, TRUTH[7])
    summary = aligned.alignment.summary
    assert (summary.how, summary.dof, summary.similarity) == ("greedy", 7, None)
    np.testing.assert_allclose(summary.scales, 0.85)
    assert calls["images"] == (aligned.fixed, aligned.moving) and calls["name"] == "greedy"
    assert calls["fixed_mask"] is not None and calls["moving_mask"] is None
    assert {name: calls[name] for name in options} == options
