"""The checks of a result, on the figures of real registrations and through every interface."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import from_matvec

from nipype_quicksilver.preprocessing.matrices import AffineSummary, plausibility_warnings
from nipype_quicksilver.registration.judging import (
    CHECKS,
    Evidence,
    impossible_checks,
    judge,
    radius_of,
)
from nipype_quicksilver.registration.summary import Similarity
from nipype_quicksilver.spatial.jacobians import JacobianSummary
from nipype_quicksilver.spatial.measures import Spread
from tests.helpers.registrations import options_of, register


def evidence(before, after, low, high, moved, scales, volume, **changes):
    """Return evidence; log-Jacobians are relative to the affine, the volume is in ml."""
    matrix = from_matvec(np.diag(scales), [1, 2, 3])
    affine = np.log(np.prod(scales))
    logs = {"p1": low + affine, "p99": high + affine}
    return Evidence(
        similarity=Similarity("", before, after),
        jacobian=JacobianSummary(1000, 0, 0.0, 0.1, logs),
        matrix=matrix,
        inverse_consistency=Spread(0.06, 0.2, 1),
        deformation=Spread(moved, 3 * moved, 4 * moved),
        radius=radius_of(1000 * volume),
        **changes,
    )


# Real images, registered by the default method: adults, with contrast agent, a lesion, large
# ventricles, PD; a macaque. The last columns are scales and the volume of the fixed brain.
RIGHT = {
    "T1w": (0.332, 0.843, -1.07, 1.08, 3.14, (0.987, 0.903, 0.877), 1886),
    "gadolinium": (0.259, 0.723, -1.37, 1.04, 3.12, (1.004, 0.931, 0.881), 1886),
    "stroke": (0.261, 0.732, -1.40, 1.12, 3.20, (0.969, 0.936, 0.921), 1886),
    "elderly": (0.299, 0.788, -1.28, 1.23, 3.26, (0.970, 0.955, 0.865), 1886),
    "PD": (0.319, 0.664, -1.13, 1.00, 2.86, (1.003, 0.900, 0.891), 1886),
    "macaque": (0.816, 0.934, -0.57, 0.50, 0.88, (0.987, 0.983, 0.969), 109),
}
DOUBTFUL = {
    "phantom": (
        (0.047, 0.186, -1.77, 0.97, 2.44, (0.921, 0.885, 0.812), 1886),
        ["less similar than usual (local correlation 0.19", "by more than a factor of 6"],
    ),
    "one month old": (
        (0.220, 0.488, -1.37, 1.06, 2.52, (0.654, 0.601, 0.560), 1886),
        ["less similar than usual (local correlation 0.49"],
    ),
    "one person": (
        (0.481, 0.739, -1.17, 1.02, 1.97, (1.022, 1.005, 0.999), 1575),
        ["the deformation is only 2.0 mm on average; if they are of one visit, choose transform"],
    ),
}


@pytest.mark.parametrize("figures", RIGHT.values(), ids=RIGHT)
def test_right_results_have_no_findings(figures):
    assert judge(evidence(*figures)) == []
    assert impossible_checks(evidence(*figures)) == []


@pytest.mark.parametrize(("figures", "texts"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_doubtful_results_have_findings(figures, texts):
    found = judge(evidence(*figures))
    assert len(found) == len(texts)
    assert all(text in sentence for text, sentence in zip(texts, found, strict=True))


def test_affines_of_both_directions():
    """As in a head registered to a template, and in a phantom."""
    good = AffineSummary(directions_apart_mm=6.6, scales=[0.65, 0.6, 0.56], rotation_degrees=3)
    assert plausibility_warnings(good, np.diag([0.65, 0.6, 0.56, 1])) == []
    (text,) = plausibility_warnings(replace(good, directions_apart_mm=27.1), np.eye(4))
    assert "two directions differ by 27 mm; check that both images show the same part" in text


def test_small_brains_are_judged_at_the_size_at_which_they_are_compared():
    good = replace(evidence(*RIGHT["macaque"]), inverse_consistency=Spread(0.06, 0.2, 1))
    assert judge(good) == []
    (text,) = judge(replace(good, magnification=10.0))
    assert "points return 0.06 mm from where they started" in text
    apart = AffineSummary(directions_apart_mm=1.3)
    assert plausibility_warnings(apart, np.eye(4)) == []
    (text,) = plausibility_warnings(apart, np.eye(4), magnification=8.0)
    assert "two directions differ by 1.3 mm" in text


def test_images_that_are_equal_need_no_gain():
    good = evidence(*RIGHT["T1w"])
    (text,) = judge(replace(good, similarity=Similarity("", 0.7, 0.69)))
    assert "did not increase" in text
    assert judge(replace(good, similarity=Similarity("", 0.999, 0.998))) == []


def test_headers_say_nothing_about_sizes():
    """Brains that were aligned before have an affine without scales."""
    doubtful = evidence(*DOUBTFUL["one person"][0])
    assert judge(doubtful)
    assert judge(replace(doubtful, aligned_by_headers=True)) == []


def test_animals_of_one_species_are_not_taken_for_one_person():
    """Two templates of macaques, which were enlarged 1.4 times."""
    figures = (0.777, 0.924, -0.57, 0.50, 0.70, (1.007, 0.997, 0.981), 109)
    assert judge(evidence(*figures))
    assert judge(evidence(*figures, magnification=1.4)) == []


def test_an_affine_that_was_given_is_judged_as_well():
    figures = (*RIGHT["T1w"][:5], (1.0, 1.0, 0.4), 1886)
    assert judge(evidence(*figures)) == []
    (text,) = judge(evidence(*figures, affine_was_given=True))
    assert "the affine scales by 1.00, 1.00, 0.40" in text


def test_changes_of_volume_beyond_all_reason_are_one_line():
    good = evidence(*RIGHT["T1w"])
    logs = {"p1": -1.0, "p99": 1e300}
    (text,) = judge(replace(good, jacobian=replace(good.jacobian, log_jacobian=logs)))
    assert "by more than a factor of 1000 in 1%" in text


def test_folds():
    good = evidence(*RIGHT["T1w"])
    folded = replace(good.jacobian, folded=20, folded_percent=2.0)
    (text,) = judge(replace(good, jacobian=folded))
    assert text.startswith("20 voxels of the brain are folded (2.0000%)")


def test_checks_of_a_deformation_do_not_apply_without_one():
    rigid = replace(
        evidence(0.496, 0.496, 0, 0, 0, (1.0, 1.0, 1.0), 1575),
        transform="rigid",
        deformation=None,
    )
    assert judge(rigid) == impossible_checks(rigid) == []
    (text,) = judge(replace(rigid, similarity=Similarity("", 0.05, 0.05)))
    assert "less similar than usual (local correlation 0.05" in text


def test_what_was_not_measured_is_named():
    nothing = impossible_checks(Evidence())
    assert nothing == [check.name for check in CHECKS if check.needs != ("labels",)]
    assert judge(Evidence()) == []


def test_a_result_warns_and_its_summary_has_the_warnings(pair):
    """The moving image shows something else."""
    with pytest.warns(UserWarning, match="remain less similar than usual") as warned:
        result = register(pair.fixed, noise_like(pair), **options_of(pair))
    texts = [str(each.message) for each in warned]
    assert [text for text in texts if text in result.summary.warnings] == texts
    assert any(text.startswith(f"{noise_like(pair)}: the images remain") for text in texts)


def noise_like(pair):
    """Return the file of noise, mostly dark, on the grid of the moving image."""
    from nipype_quicksilver.spatial.images import read_image, write_image

    path = pair.moving.with_name("noise.nii.gz")
    if not path.exists():
        image = read_image(pair.moving)
        data = np.random.default_rng(0).exponential(1, image.shape).astype(np.float32) ** 2
        write_image(path, data, image.affine)
    return path
