"""Templates of nilearn, of TemplateFlow (by a stand-in), and from files."""

import sys
from types import ModuleType, SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing.templates import (
    Template,
    find_template,
    parse_name,
    template_file,
)


@pytest.fixture
def templateflow(monkeypatch):
    """A function that sets the answer of TemplateFlow; returns the list of queries."""
    queries = []

    def templateflow(answer):
        def get(identifier, **query):
            queries.append((identifier, query))
            return answer(query)

        module = ModuleType("templateflow")
        module.api = SimpleNamespace(get=get)
        monkeypatch.setitem(sys.modules, "templateflow", module)
        return queries

    return templateflow


def test_the_template_of_nilearn_is_written_once(tmp_path):
    path = template_file("MNI152", tmp_path)
    assert path == tmp_path / "MNI152_brain.nii.gz"
    image = nib.load(path)
    assert image.header.get_zooms() == (1, 1, 1) and image.get_data_dtype() == np.float32
    assert np.mean(np.asanyarray(image.dataobj) == 0) > 0.5  # without skull
    path.write_text("kept")
    assert find_template("MNI152", tmp_path) == Template("MNI152", path)
    assert path.read_text() == "kept"


def test_files_are_templates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tpl-X_T1w.nii.gz").touch()
    assert template_file("tpl-X_T1w.nii.gz", tmp_path).name == "tpl-X_T1w.nii.gz"
    template = find_template("tpl-X_T1w.nii.gz", tmp_path)
    assert template == Template("tpl-X_T1w", tmp_path / "tpl-X_T1w.nii.gz")
    with pytest.raises(InputError, match=r"none.nii: no such file; check the path of the template"):
        find_template("none.nii", tmp_path)


def test_templates_of_templateflow(templateflow, tmp_path):
    queries = templateflow(lambda query: [f"{query['suffix']}.nii.gz", "other.nii.gz"])
    template = find_template("MNIPediatricAsym:cohort-4:res-2", tmp_path, suffix="T2w")
    assert template.name == "MNIPediatricAsym:cohort-4"
    assert (template.image.name, template.mask.name) == ("T2w.nii.gz", "mask.nii.gz")
    assert template.spec == {"res": "2"}
    common = {"extension": ".nii.gz", "resolution": "2", "cohort": "4"}
    assert queries == [
        ("MNIPediatricAsym", {"desc": None, "suffix": "T2w", **common}),
        ("MNIPediatricAsym", {"desc": "brain", "suffix": "mask", **common}),
    ]


def test_templates_without_a_mask(templateflow, tmp_path):
    templateflow(lambda query: "t1w.nii.gz" if query["suffix"] == "T1w" else [])
    assert find_template("X", tmp_path).mask is None


def test_unknown_templates_are_refused(templateflow, tmp_path, monkeypatch):
    templateflow(lambda query: [])
    with pytest.raises(InputError, match="template 'X': TemplateFlow has no T1w of it"):
        find_template("X", tmp_path)
    monkeypatch.setitem(sys.modules, "templateflow", None)
    with pytest.raises(InputError, match=r"only MNI152 is included; give a file, or install"):
        find_template("X", tmp_path)


@pytest.mark.parametrize("name", ["", ":res-1", "X:", "X:res", "X:-1", "X:res-"])
def test_malformed_names_are_refused(name):
    with pytest.raises(InputError, match="give NAME or NAME:key-value"):
        parse_name(name)
