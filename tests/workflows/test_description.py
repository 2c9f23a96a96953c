"""Paragraphs on methods, as niworkflows' hosts collect them."""

import subprocess
import sys

import pytest

from nipype_quicksilver import workflows

QUICKSILVER = "(Yang et al., 2017, https://doi.org/10.1016/j.neuroimage.2017.07.008)"


@pytest.fixture
def collected():
    """A function that returns what a host collects that contains a workflow."""
    engine = pytest.importorskip("niworkflows.engine")

    def collected(workflow):
        host = engine.Workflow(name="host")
        host.__desc__ = "First. "
        host.add_nodes([workflow])
        return host.visit_desc()

    return collected


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("init_quicksilver_wf", {}, QUICKSILVER),
        ("init_template_registration_wf", {"templates": ["MNI152"]}, "to MNI152 was performed by"),
        ("init_template_registration_wf", {"templates": ["MNI152"]}, QUICKSILVER),
        ("init_label_propagation_wf", {"fusion": "staple"}, "(Warfield et al., 2004, https://"),
        ("init_brain_extraction_wf", {}, "extracted with *deepbet*"),
        ("init_affine_wf", {}, "with *simpleitk*"),
    ],
)
def test_hosts_collect_the_paragraphs(collected, name, options, text):
    description = collected(getattr(workflows, name)(omp_nthreads=1, **options))
    assert description.startswith("First. ") and text in description
    assert "[@" not in description  # no key that the bibliography of a host may lack


def test_templates_of_templateflow_are_cited_as_in_smriprep(collected):
    workflow = workflows.init_template_registration_wf(
        omp_nthreads=1, templates=["MNI152NLin6Asym", "MNIPediatricAsym:cohort-4"]
    )
    text = collected(workflow)
    assert "to MNI152NLin6Asym of *TemplateFlow* [@templateflow; @mni152nlin6asym], " in text
    assert "MNIPediatricAsym:cohort-4 of *TemplateFlow* [@templateflow; @mnipediatricasym]" in text


def test_each_part_is_described_once(collected):
    text = collected(workflows.init_preprocessing_wf(omp_nthreads=1))
    assert text.count("Brains were extracted") == text.count("Brains were aligned") == 1


def test_niworkflows_is_not_imported():
    code = (
        "import sys; from nipype_quicksilver.workflows import init_affine_wf as init; "
        "wf = init(omp_nthreads=1); print(type(wf).__name__, 'niworkflows' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "Workflow False"
