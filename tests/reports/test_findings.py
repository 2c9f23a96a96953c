"""What a report says of a result: warnings, and checks that could not be made."""

import json
import shutil
from dataclasses import replace

import pytest

from nipype_quicksilver.registration.summary import Similarity
from nipype_quicksilver.reports import write_registration_report
from nipype_quicksilver.reports.findings import changed_files, findings, unchecked
from nipype_quicksilver.reports.folder import read_summary
from nipype_quicksilver.spatial.measures import Spread
from nipype_quicksilver.spatial.records import as_json


@pytest.fixture(scope="module")
def summary(registered):
    return read_summary(registered)


@pytest.fixture
def better(summary):
    """The summary as if the network were trained: images and labels are more similar after it."""
    labels = summary.labels
    return replace(
        summary,
        labels=replace(labels, before=labels.after, after=labels.before),
        similarity=Similarity("", 0.3, 0.8),
        deformation_mm=Spread(4.0, 8, 9),
        warnings=[],
    )


def test_nothing_to_check(better):
    assert findings(better) == unchecked(better) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"similarity": Similarity("", 0.7, 0.6)}, "did not increase"),
        ({"similarity": Similarity("", 0.1, 0.2)}, "remain less similar than usual"),
        ({"inverse_consistency_mm": Spread(0.8, 2, 9)}, "0.80 mm from where"),
        ({"deformation_mm": Spread(0.1, 0.2, 0.3)}, "choose transform rigid"),
        ({"warnings": ["head.nii: upside down"]}, "head.nii: upside down"),
    ],
)
def test_findings(changes, text, better):
    (sentence,) = findings(replace(better, **changes))
    assert text in sentence


def test_a_finding_that_the_registration_warned_of_is_shown_once(better):
    doubtful = replace(better, similarity=Similarity("", 0.1, 0.2))
    (sentence,) = findings(doubtful)
    assert findings(replace(doubtful, warnings=[f"head.nii: {sentence}"])) == [
        f"head.nii: {sentence}"
    ]


def test_a_summary_of_an_earlier_version_says_what_was_not_checked(better, registered, tmp_path):
    folder = shutil.copytree(registered, tmp_path / "copy")
    (folder / "summary.json").write_text(json.dumps(as_json(replace(better, deformation_mm=None))))
    assert unchecked(read_summary(folder)) == ["need of a deformation"]
    page = write_registration_report(folder).read_text()
    assert "No warnings. Not checked: need of a deformation." in page
    assert "all checks passed" not in page


def test_files_that_changed(summary, pair):
    assert changed_files(summary) == []
    (sentence,) = changed_files(replace(summary, sha256={"fixed": "0" * 64}))
    assert sentence.startswith(f"{pair.fixed} has changed since the registration")


def test_labels_that_overlap_less_and_volumes_that_change_much(better, summary):
    logs = {**summary.jacobian.log_jacobian, "p99": 3.5}
    jacobian = replace(summary.jacobian, log_jacobian=logs)
    worse = replace(better, jacobian=jacobian, labels=summary.labels)
    overlap, volumes = findings(worse)
    assert "overlap of the labels did not increase" in overlap
    assert "more than a factor of 33" in volumes
