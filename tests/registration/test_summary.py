"""The summary of a registration, as JSON and back."""

import json
from dataclasses import replace

import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.records import as_json, from_json
from tests.helpers.summaries import summary_content

REMEDY = "give the folder of a registration"


def read(content):
    return from_json(RegistrationSummary, content, "summary.json", REMEDY)


def test_a_registration_gives_back_its_summary(registered):
    """A registration with labels, samples and a template's absence, as the command wrote it."""
    content = json.loads((registered / "summary.json").read_text())
    summary = read(content)
    assert as_json(summary) == content
    assert summary.labels.after.mean.dice == content["labels"]["after"]["mean"]["dice"]
    assert summary.uncertainty_mm.max == content["uncertainty_mm"]["max"]
    assert summary.command.split()[:2] == ["quicksilver", "register"]
    assert summary.parameters.samples == 2 and summary.parameters.stages is None


def test_an_optimisation_gives_back_its_summary(result):
    content = json.loads(json.dumps(as_json(result.summary), allow_nan=False))
    assert read(content) == result.summary
    assert "command" not in content and "networks" not in content["parameters"]
    assert content["parameters"]["stages"][0]["image"] == 4


def test_optional_parts_are_left_out():
    content = summary_content()
    summary = read(content)
    assert as_json(summary) == content
    assert summary.labels is None and summary.momentum is None
    with_command = as_json(replace(summary, command="quicksilver register"))
    assert with_command == {**content, "command": "quicksilver register"}


def test_the_keys_of_version_0_1():
    summary = read(summary_content())
    with pytest.warns(DeprecationWarning, match="use summary.similarity instead"):
        assert summary["similarity"] == summary_content()["similarity"]


def test_keys_of_later_versions_are_ignored():
    content = summary_content()
    content["mood"] = "good"
    content["similarity"]["measured_by"] = "hand"
    assert as_json(read(content)) == summary_content()


NONE = {"dice": None, "jaccard": None, "target_overlap": None}
LABELS = {
    "labels": {"left": {**NONE, "target_mm3": 1.0, "source_mm3": 1.0}},
    "mean": NONE,
    "total": NONE,
}


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("jacobian", "folded"), "many", "invalid value for type, expected int in jacobian.folded"),
        (("jacobian", "folded"), 0.5, "in jacobian.folded"),
        (("similarity", "before"), None, "in similarity.before"),
        (("similarity", "before"), True, "in similarity.before"),
        (("affine_matrix",), "identity", "in affine_matrix"),
        (("affine_matrix",), [["a"]], "in affine_matrix"),
        (("warnings",), 3, "in warnings"),
        (("masks",), {"fixed_mask": {}}, "required field missing in masks"),
        (("parameters", "method"), 3, "in parameters.method"),
        (("parameters", "steps"), 10**9, "in parameters"),
        (("parameters", "kernel"), {"alpha": 1.0}, "in parameters"),
        (("working_grid", "spacing"), [], "in working_grid"),
        (("working_grid", "affine"), [[1.0]], "in working_grid"),
        (("versions",), {"torch": "2"}, "invalid value"),
        (("sha256",), {"networks": 3}, "invalid value"),
        (("labels",), {"before": LABELS, "after": LABELS}, "invalid value"),
    ],
)
def test_a_damaged_summary_is_one_line(path, value, problem):
    content = summary_content()
    *parents, last = path
    part = content
    for name in parents:
        part = part[name]
    part[last] = value
    with pytest.raises(InputError) as error:
        read(content)
    message = str(error.value)
    assert message.startswith("summary.json: ") and message.endswith(f"; {REMEDY}")
    assert problem in message and "\n" not in message


# Earlier versions did not write these parts.
OPTIONAL = ("options", "magnification")


@pytest.mark.parametrize("name", [name for name in summary_content() if name not in OPTIONAL])
def test_a_missing_part_is_named(name):
    content = summary_content()
    del content[name]
    with pytest.raises(InputError, match=rf"^summary.json: .*{name}.*; {REMEDY}$"):
        read(content)


@pytest.mark.parametrize("content", [[], {}, None, "text", 3])
def test_other_json_is_refused(content):
    with pytest.raises(InputError, match=rf"^summary.json: [^\n]*; {REMEDY}$"):
        read(content)
