"""The frame of a template, in which brains are compared."""

import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec

import nipype_quicksilver
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.lddmm.settings import Settings, Stage
from nipype_quicksilver.options import completed
from nipype_quicksilver.preprocessing import affine as affine_module
from nipype_quicksilver.preprocessing.matrices import describe
from nipype_quicksilver.preprocessing.templates import template_file
from nipype_quicksilver.registration import frames
from nipype_quicksilver.registration.alignment import Context
from nipype_quicksilver.registration.pair import ScanFiles, read_pair
from nipype_quicksilver.registration.work_folder import WorkFolder
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.grids import working_grid
from nipype_quicksilver.spatial.images import read_image
from nipype_quicksilver.spatial.magnification import scaling
from nipype_quicksilver.spatial.transforms import write_affine
from tests.helpers.registrations import options_of, register


def test_images_are_compared_on_the_grid_of_a_template(pair):
    def run(**options):
        return nipype_quicksilver.register(
            pair.fixed,
            pair.moving,
            fixed_labels=pair.fixed_labels,
            moving_labels=pair.moving_labels,
            affine=pair.affine,
            method="optimize",
            settings=Settings(stages=(Stage(4, 4, 12), Stage(2, 2, 8))),
            device="cpu",
            **options,
        )

    framed = run(template=pair.moving)
    grid = working_grid(native_brain(read_image(pair.moving), None))
    assert framed.momentum.working_grid.equals(grid)
    assert framed.summary.preprocessing.template.file == str(pair.moving)
    assert framed.summary.sha256["template"] == framed.summary.sha256["moving"]
    labels = framed.summary.labels
    assert labels.after.mean.dice > labels.before.mean.dice + 0.03
    assert framed.summary.inverse_consistency_mm.mean < 0.1
    # A fixed image is not moved in its own frame.
    own = run(template=pair.fixed)
    assert np.array_equal(own.summary.preprocessing.template.matrix, np.eye(4))


def test_the_template_is_chosen_where_it_makes_sense(heads, pair):
    people = read_pair(*map(ScanFiles, heads))
    phantoms = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    given = write_affine(heads[0].parent / "given.mat", np.eye(4))
    for template, affine, images, expected in (
        ("auto", "simpleitk", people, "MNI152"),
        ("auto", "greedy", people, "MNI152"),
        ("auto", "simpleitk", phantoms, None),
        ("auto", "none", people, None),
        ("auto", None, people, None),
        ("auto", given, people, None),
        ("MNI152", "none", phantoms, "MNI152"),
        (heads[0], "none", people, heads[0]),
        ("none", "simpleitk", people, None),
        (None, "simpleitk", people, None),
    ):
        options = completed({"template": template, "affine": affine})
        assert frames.chosen_template(options, images) == expected


def test_human_brains_are_compared_on_the_grid_of_mni152(coarse_template, tmp_path):
    # A brain to itself, with one iteration: only the frame matters here.
    result = nipype_quicksilver.register(
        coarse_template,
        coarse_template,
        method="optimize",
        settings=Settings(stages=(Stage(8, 8, 1),)),
        device="cpu",
        work_dir=tmp_path,
    )
    summary = result.summary.preprocessing.template
    assert summary.file == "MNI152" and summary.used
    np.testing.assert_allclose(summary.matrix, from_matvec(np.eye(3), [10, -4, 6]), atol=0.5)
    template = read_image(template_file("MNI152", tmp_path))
    grid = working_grid(native_brain(template, None))
    assert result.momentum.working_grid.equals(grid)
    assert result.summary.similarity.after > 0.99


@pytest.mark.parametrize(
    ("linear", "shift", "reason"),
    [
        (np.diag([2.5, 2.5, 2.5]), 0, r"the affine scales by 2\.50, 2\.50, 2\.50"),
        (np.eye(3), 100, r"\d+% of the fixed brain is outside its grid"),
    ],
)
def test_brains_that_do_not_fit_the_template_stay_in_their_world(
    heads, coarse_template, linear, shift, reason, monkeypatch
):
    matrix = from_matvec(linear, [0, 0, shift])
    monkeypatch.setattr(frames, "estimate_affine", lambda *_: (matrix, describe(matrix)))
    pair = read_pair(ScanFiles(coarse_template), ScanFiles(coarse_template))
    template = read_image(heads[0])

    def to_frame(name):
        options = completed({"brain_extraction": "none", "template": name})
        context = Context(options, WorkFolder(None), torch.device("cpu"), Clock())
        return frames.to_frame(pair, template, "MNI152", context)

    with pytest.warns(UserWarning, match=f"does not fit the template MNI152 .{reason}") as warned:
        same, summary = to_frame("auto")
    assert len(warned) == 1 and str(warned[0].message).startswith(str(coarse_template))
    assert same is pair and not summary.used
    # A template that is asked for is used.
    framed, summary = to_frame("MNI152")
    assert framed.frame is not None and summary.used


def test_a_warning_that_an_optional_template_hides_is_kept_for_the_next_run(
    heads, coarse_template, monkeypatch, tmp_path
):
    """An external tool found an implausible affine, which the work folder keeps."""
    matrix = np.diag([2.5, 2.5, 2.5, 1])
    monkeypatch.setattr(affine_module, "align_brains", lambda *_, **__: matrix)
    pair = read_pair(ScanFiles(coarse_template), ScanFiles(coarse_template))
    template = read_image(heads[0])

    def to_frame(name):
        options = completed({"brain_extraction": "none", "affine": "flirt", "template": name})
        context = Context(options, WorkFolder(tmp_path), torch.device("cpu"), Clock())
        return frames.to_frame(pair, template, "MNI152", context)

    with pytest.warns(UserWarning) as warned:
        to_frame("auto")
    assert len(warned) == 1 and "does not fit the template" in str(warned[0].message)
    with pytest.warns(UserWarning) as warned:
        _, summary = to_frame("MNI152")
    assert summary.affine.reused
    assert len(warned) == 1 and "implausible for human heads" in str(warned[0].message)


def test_an_unknown_template_file_is_refused(pair):
    with pytest.raises(InputError, match=r"missing\.nii: no such file"):
        nipype_quicksilver.register(pair.fixed, pair.moving, template="missing.nii")


def test_small_brains_are_compared_at_human_size(pair, small_pair):
    """The maps are those of the same brains of human size, a tenth as large."""
    found, expected = (register(p.fixed, p.moving, **options_of(p)) for p in (small_pair, pair))
    assert (found.summary.magnification, expected.summary.magnification) == (10, 1)
    for name in ("displacement", "inverse_displacement"):
        maps = 10 * getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(*maps, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(found.warped, expected.warped, atol=0.5)
    np.testing.assert_allclose(found.log_jacobian, expected.log_jacobian, atol=2e-3)
    assert found.summary.jacobian.folded == expected.summary.jacobian.folded
    consistency = [result.summary.inverse_consistency_mm.mean for result in (found, expected)]
    assert 10 * consistency[0] == pytest.approx(consistency[1], rel=0.02)
    grids = [result.momentum.working_grid for result in (found, expected)]
    np.testing.assert_allclose(
        found.summary.to_fixed() @ grids[0].affine, scaling(0.1) @ grids[1].affine, atol=1e-4
    )


def test_a_small_template_is_enlarged_as_well(pair, small_pair):
    result = register(small_pair.fixed, small_pair.fixed, affine="none", template=small_pair.fixed)
    grid = working_grid(native_brain(read_image(pair.fixed), None))
    assert result.momentum.working_grid.equals(grid)
    assert result.summary.magnification == 10
    assert abs(result.displacement).max() < 1e-4
