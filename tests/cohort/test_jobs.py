"""Jobs of a cohort, and the names of their results."""

import os
from dataclasses import replace

import pytest

from nipype_quicksilver.cohort import jobs
from nipype_quicksilver.cohort.derivatives import Place
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import PAIRWISE, CohortOptions, digest, plan
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.workflows.cohort import init_cohort_wf


def test_to_a_template(cohort):
    planned = plan(cohort, CohortOptions.of("MNI152"))
    assert [job.name for job in planned] == [f"sub-0{n}_to-MNI152NLin2009aSym" for n in (1, 2, 3)]
    names = planned[0].files()
    assert names["composite_transform"] == "sub-01_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5"
    inverse = "sub-01_from-MNI152NLin2009aSym_to-T1w_mode-image_xfm.h5"
    assert names["inverse_composite_transform"] == inverse
    assert names["warped_image"] == "sub-01_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz"
    assert names["warped_labels"] == "sub-01_space-MNI152NLin2009aSym_dseg.nii.gz"
    assert len({name for job in planned for name in job.files().values()}) == 3 * len(names)


def test_two_contrasts_of_a_session_share_no_name(cohort):
    first = cohort[0]
    other = replace(first, suffix="T2w", path=first.path.with_name("sub-01_T2w.nii.gz"))
    t1w, t2w = plan([first, other], CohortOptions.of("MNI152"))
    names = [{job.name, job.report, job.record, *job.files().values()} for job in (t1w, t2w)]
    assert not names[0] & names[1]
    space = "space-MNI152NLin2009aSym"
    assert t2w.files()["warped_labels"] == f"sub-01_{space}_desc-T2w_dseg.nii.gz"
    assert t2w.files()["log_jacobian"] == f"sub-01_{space}_desc-T2wjacobian_map.nii.gz"
    assert t2w.report == "sub-01_T2w_to-MNI152NLin2009aSym.html"


def test_options_that_a_cohort_has_no_use_for():
    with pytest.raises(InputError, match="uncertainty components: a cohort keeps"):
        CohortOptions.of(samples=4, uncertainty_components=True)
    with pytest.raises(InputError, match="does not use corrections"):
        CohortOptions.of(method="predict", corrections=2)


def test_rigid_registrations(cohort, tmp_path):
    """The affine of a job has the degrees of freedom of its transform."""
    options = CohortOptions.of(PAIRWISE, transform="rigid", brain_extraction="none")
    workflow = init_cohort_wf(
        jobs=plan(cohort, options), options=options, place=Place(tmp_path), omp_nthreads=1
    )
    part = workflow.get_node("sub-02_to-sub01")
    assert part.get_node("affine_wf").get_node("align").inputs.dof == 6
    assert part.get_node("register").inputs.transform == "rigid"
    with pytest.raises(InputError, match="transform 'rigid' has no deformation and does not use"):
        CohortOptions.of(PAIRWISE, transform="rigid", samples=3)


def test_the_earlier_name_of_the_options():
    with pytest.warns(DeprecationWarning, match=r"CohortOptions\.of"):
        earlier = jobs.Settings
    assert earlier("MNI152", method="predict") == CohortOptions.of(method="predict")


def test_pairwise_is_every_pair_once(cohort):
    planned = plan(cohort, CohortOptions.of(PAIRWISE))
    assert [job.name for job in planned] == [
        "sub-02_to-sub01",
        "sub-03_to-sub01",
        "sub-03_to-sub02",
    ]
    assert [(job.moving, job.fixed) for job in planned][2] == (cohort[2], cohort[1])
    assert set(planned[2].parts) >= {"sub-02", "sub-03", "sub-03_to-sub02"}


def test_what_a_result_depends_on(cohort, tmp_path):
    network = tmp_path / "network.safetensors"
    network.write_bytes(b"1")
    options = {"method": "predict", "prediction_network": str(network)}
    settings = CohortOptions.of("MNI152", **options)
    job = plan(cohort, settings)[0]
    before = digest(job, settings)
    assert digest(plan(cohort, settings)[0], settings) == before
    for change in ({"seed": 1}, {"interpolation": "BSpline"}, {"template": str(network)}):
        assert digest(job, CohortOptions.of("MNI152", **options, **change)) != before
    assert digest(plan(cohort, settings)[1], settings) != before
    for part in ("labels", "mask", "lesion_mask"):
        other = replace(job, moving=replace(job.moving, **{part: network}))
        assert digest(other, settings) != before
    os.utime(network, (1, 1))
    after = digest(job, settings)
    assert after != before
    job.moving.path.write_bytes(b"yy")
    assert digest(job, settings) not in (before, after)


def image(path, stem, suffix="T1w"):
    return CohortImage(path, stem.removeprefix("sub-").split("_")[0], None, stem, suffix)


@pytest.mark.parametrize(
    ("fixed", "names", "refused"),
    [
        ("MNI152", [("a.nii", "sub-1"), ("b.nii.gz", "sub-1")], ("a.nii", "b.nii.gz")),
        # A space is called as the image, with letters and digits only.
        (PAIRWISE, [("a", "sub-a_run-1"), ("b", "sub-arun1"), ("c", "sub-x")], ("a", "b")),
        (PAIRWISE, [("a", "sub-1"), ("b", "sub-1"), ("c", "sub-2")], ("a", "b")),
        ("---.nii", [("a", "sub-1")], ("---.nii",)),
        # Both directions would have the same name.
        ("T1w.nii.gz", [("a", "sub-1")], ("T1w.nii.gz",)),
    ],
)
def test_registrations_that_would_write_the_same_files_are_refused(fixed, names, refused, tmp_path):
    images = [image(tmp_path / path, stem) for path, stem in names]
    with pytest.raises(InputError) as error:
        plan(images, CohortOptions.of(fixed))
    assert "\n" not in str(error.value)
    for name in refused:
        assert name in str(error.value)


@pytest.mark.parametrize("fixed", ["MNI152", PAIRWISE, "tpl-A_T1w.nii.gz"])
def test_names_that_differ_give_files_that_differ(fixed, tmp_path):
    stems = ["sub-a", "sub-ab", "sub-a_ses-b", "sub-a_run-1", "sub-a_acq-x_run-1"]
    jobs = plan([image(tmp_path / stem, stem) for stem in stems], CohortOptions.of(fixed))
    names = [name for job in jobs for name in {*job.written(), job.in_folder(job.record)}]
    masks = {name for name in names if "brain_mask" in name}  # of an image, not of a pair
    others = [name for name in names if name not in masks]
    assert len(set(others)) == len(others)
