"""Templates of nilearn, of TemplateFlow (with files of its own names), and from files."""

import sys
from types import SimpleNamespace

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

#: Names as in TemplateFlow, where not all templates have resolutions, T2w images and masks.
NAMES = (
    "Adult/tpl-Adult_res-01_T1w",
    "Adult/tpl-Adult_res-01_desc-brain_T1w",
    "Adult/tpl-Adult_res-01_T2w",
    "Adult/tpl-Adult_res-01_desc-brain_mask",
    "Adult/tpl-Adult_res-01_atlas-X_desc-brain_mask",
    "Adult/tpl-Adult_res-02_T1w",
    "Adult/tpl-Adult_res-02_desc-brain_mask",
    "Child/cohort-1/tpl-Child_cohort-1_res-1_T1w",
    "Child/cohort-2/tpl-Child_cohort-2_res-1_T1w",
    "Child/cohort-2/tpl-Child_cohort-2_res-1_label-brain_mask",
    "Old/tpl-Old_T1w",
    "Old/tpl-Old_desc-brain_mask",
    "Coarse/tpl-Coarse_res-2_T1w",
    "Coarse/tpl-Coarse_res-3_T1w",
    "Rat/tpl-Rat_res-1_T2w",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of TemplateFlow, with a few small files."""
    package = pytest.importorskip("templateflow", minversion="25")
    home = tmp_path_factory.mktemp("templateflow")
    for name in NAMES:
        path = home / f"tpl-{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("an image")
    client = package.TemplateFlowClient(root=home)
    return {"ls": client.ls, "get": client.get, "TF_LAYOUT": client.cache.layout}


@pytest.fixture
def templateflow(client, monkeypatch):
    """The functions of TemplateFlow, with these files."""
    api = SimpleNamespace(**client)
    monkeypatch.setattr("templateflow.api", api)
    return api


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


@pytest.mark.parametrize(
    ("name", "chosen", "image", "mask"),
    [
        ("Adult", {}, "Adult_res-01_T1w", "Adult_res-01_desc-brain_mask"),
        ("Adult", {"resolution": 2}, "Adult_res-02_T1w", "Adult_res-02_desc-brain_mask"),
        ("Adult:res-2", {}, "Adult_res-02_T1w", "Adult_res-02_desc-brain_mask"),
        ("Adult", {"suffix": "T2w"}, "Adult_res-01_T2w", "Adult_res-01_desc-brain_mask"),
        ("Child:cohort-2", {}, "Child_cohort-2_res-1_T1w", "Child_cohort-2_res-1_label-brain_mask"),
        ("Child:cohort-1", {"resolution": 2}, "Child_cohort-1_res-1_T1w", None),
        ("Old", {"resolution": 2}, "Old_T1w", "Old_desc-brain_mask"),
        ("Old", {"suffix": "T2w"}, "Old_T1w", "Old_desc-brain_mask"),
        ("Coarse", {}, "Coarse_res-2_T1w", None),
        ("Rat", {"suffix": "T2w"}, "Rat_res-1_T2w", None),
    ],
)
def test_templates_of_templateflow(templateflow, tmp_path, name, chosen, image, mask):
    template = find_template(name, tmp_path, **chosen)
    assert template.image.name == f"tpl-{image}.nii.gz"
    assert (template.mask and template.mask.name) == (mask and f"tpl-{mask}.nii.gz")


def test_specifications_of_templates(templateflow, tmp_path):
    template = find_template("Child:cohort-2:res-1", tmp_path)
    assert (template.name, template.spec) == ("Child:cohort-2", {"res": "1"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("X", "TemplateFlow has no T1w of it; check the name"),
        ("Rat", "TemplateFlow has no T1w of it"),
        ("Adult:res-5", "TemplateFlow has no T1w of it"),
        (
            "Child",
            r"has 2 images of it \(tpl-Child_cohort-1_res-1_T1w.nii.gz, .*add .*Child:cohort-1$",
        ),
        ("Adult:x-1", "TemplateFlow failed .*; check the name and the network, or give a file$"),
    ],
)
def test_unknown_templates_are_refused(templateflow, tmp_path, name, message):
    with pytest.raises(InputError, match=f"^template '{name}': .*{message}"):
        find_template(name, tmp_path)


def test_a_template_that_is_not_downloaded(templateflow, tmp_path):
    def get(*_, **__):
        raise ConnectionError("no network\nin many words")

    templateflow.get = get
    with pytest.raises(InputError, match=r"failed \(ConnectionError: no network\); check the name"):
        find_template("Adult", tmp_path)


def test_without_templateflow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "templateflow", None)
    with pytest.raises(InputError, match=r"only MNI152 is included; give a file, or install"):
        find_template("X", tmp_path)


@pytest.mark.parametrize("name", ["", ":res-1", "X:", "X:res", "X:-1", "X:res-"])
def test_malformed_names_are_refused(name):
    with pytest.raises(InputError, match="give NAME or NAME:key-value"):
        parse_name(name)
