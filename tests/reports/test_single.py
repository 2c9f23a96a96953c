"""The report of one registration shows the content of its folder."""

import base64
import io
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from nipype_quicksilver import InputError
from nipype_quicksilver.lddmm.settings import MEASURES
from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.registration.summary import (
    Preprocessing,
    StageSummary,
    TemplateSummary,
)
from nipype_quicksilver.reports import pictures, write_registration_report
from nipype_quicksilver.reports.boilerplate import SIMILARITIES, methods, with_tools
from nipype_quicksilver.reports.folder import read_summary
from nipype_quicksilver.reports.quantities import QUANTITIES
from nipype_quicksilver.reports.scene import read_scene
from nipype_quicksilver.spatial.records import as_json
from nipype_quicksilver.tools import AFFINE_TOOLS, BRAIN_EXTRACTION_TOOLS
from tests.helpers.reading import Page, check_self_contained
from tests.helpers.registrations import options_of, register

LARGEST = 5_000_000  # bytes of a page


@pytest.fixture(scope="module")
def summary(registered):
    return read_summary(registered)


def changed(folder, **values):
    """Change values of a summary on disk; None removes them."""
    file = folder / "summary.json"
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({name: v for name, v in content.items() if v is not None}))


@pytest.fixture(scope="module")
def written(registered, tmp_path_factory):
    return write_registration_report(registered, tmp_path_factory.mktemp("page") / "a.html")


@pytest.fixture(scope="module")
def page(written):
    return Page(written)


@pytest.fixture
def copied(registered, tmp_path):
    """A copy of the folder, that may be changed."""
    return shutil.copytree(registered, tmp_path / "copy")


def pixels(image):
    kind, _, data = image.attrs["src"].partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def number(element):
    return float(element.attrs["data-value"])


def test_page_is_self_contained(page, written):
    check_self_contained(page)
    assert written.stat().st_size < LARGEST


def test_pictures_are_complete_and_have_their_declared_size(page):
    shown = {image.attrs["alt"].split(",")[0]: pixels(image) for image in page.all("img")}
    assert len(shown) == 8  # fixed, before, after, borders twice, grid, Jacobian, uncertainty
    for image in page.all("img"):
        size = int(image.attrs["height"]), int(image.attrs["width"])
        assert pixels(image).shape[:2] == size
        assert pixels(image).std() > 5
    for one, other in zip(list(shown), list(shown)[1:], strict=False):
        if shown[one].shape == shown[other].shape:
            assert np.abs(shown[one] - shown[other]).mean() > 0.2, (one, other)


def test_alternating_pictures_have_one_size(page):
    stacks = [e for e in page.all("div") if "stack" in e.attrs.get("class", "")]
    assert len(stacks) == 2
    for stack in stacks:
        inside = [image for image in page.all("img") if stack in image.inside]
        assert len(inside) == 2
        assert len({(i.attrs["width"], i.attrs["height"]) for i in inside}) == 1


def test_summary_is_the_content_of_its_file(registered, summary):
    assert as_json(summary) == json.loads((registered / "summary.json").read_text())


def test_measures_are_those_of_the_summary(page, summary):
    cells = {td.attrs["data-key"]: td for td in page.within("figures-table", "td")}
    expected = {q.key: q for q in QUANTITIES if q.of(summary) is not None}
    assert cells.keys() == expected.keys()
    assert {"dice_after", "uncertainty_mean", "folded", "seconds"} <= cells.keys()
    for key, cell in cells.items():
        assert number(cell) == expected[key].of(summary)
        assert cell.text == expected[key].written(expected[key].of(summary))
    assert number(cells["similarity_after"]) == summary.similarity.after
    assert number(cells["log_jacobian_p99"]) == summary.jacobian.log_jacobian["p99"]


def test_overlap_of_every_label(page, summary):
    values = [td.attrs["data-value"] for td in page.within("labels-table", "td")]
    rows = [values[n : n + 7] for n in range(0, len(values), 7)]
    assert [row[0] for row in rows] == list(summary.labels.after.labels)
    for label, *numbers in rows:
        before, after = (
            overlap.labels[label] for overlap in (summary.labels.before, summary.labels.after)
        )
        expected = [
            *(before.dice, after.dice, before.target_overlap, after.target_overlap),
            *(before.jaccard, after.jaccard),
        ]
        assert [float(n) for n in numbers] == expected


def test_seconds_of_every_part(page, summary):
    parts = [th.text for th in page.within("seconds-table", "th")][3:]
    assert parts == list(summary.seconds)
    wall = [number(td) for td in page.within("seconds-table", "td")[::2]]
    assert wall == list(summary.seconds.values())


def test_provenance(page, summary, pair):
    assert summary.command.startswith("quicksilver register --fixed ")
    for text in (summary.started, pair.fixed.name, pair.moving_labels.name):
        assert text in page.text
    for digest in (summary.sha256["fixed"], *summary.sha256["networks"]):
        assert len(digest) == 64
        assert f"SHA-256 {digest}" in page.text
    for name, version in summary.versions.items():
        assert f"{name} {version}" in page.text


def test_methods_describe_what_was_run_and_nothing_else(page, summary):
    paragraph = methods(summary)
    (shown,) = page.all("p", id="methods-text")
    assert shown.text == paragraph.text
    links = [a.attrs["href"] for a in page.all("a") if a.attrs["href"].startswith("https")]
    assert links == [reference.url for reference in paragraph.references]
    assert "predicted by a neural network (checkpoint: probabilistic)" in paragraph.text
    assert "mean of 2 samples" in paragraph.text
    assert "Brain masks were given" in paragraph.text
    assert "an affine transformation that was given" in paragraph.text
    assert "[" not in paragraph.text
    dois = {reference.doi for reference in paragraph.references}
    assert "10.1016/j.neuroimage.2017.07.008" in dois
    assert not dois & {"10.48550/arXiv.1412.6980", "10.1016/j.compbiomed.2024.108845"}


@pytest.mark.parametrize(
    ("changes", "text", "doi"),
    [
        (
            {"method": "optimize", "networks": None, "similarity": "lncc"},
            "The momentum was optimised with Adam",
            "arXiv.1412.6980",
        ),
        ({"method": "refine", "similarity": "mind"}, "self-similarity", "media.2012.05.008"),
        (
            {"method": "correct", "corrections": 3, "networks": ["a/first.st", "b/second.st"]},
            "A second network (checkpoint: second) corrected it 3 times",
            "2017.07.008",
        ),
        ({"method": "correct", "corrections": 1}, "The same network corrected it once", "08"),
    ],
)
def test_methods_of_other_methods(changes, text, doi, summary):
    numbers = {"converged": True, "loss": [], "energy": [], "dissimilarity": []}
    stages = [
        StageSummary(
            stage=n, iterations=n + 2, iterations_at_most=9, smallest_jacobian=1, **numbers
        )
        for n in (1, 2)
    ]
    parameters = replace(summary.parameters, **changes)
    paragraph = methods(replace(summary, parameters=parameters, stages=stages))
    assert text in paragraph.text
    assert any(reference.doi.endswith(doi) for reference in paragraph.references)
    assert ("7 iterations" in paragraph.text) == (changes["method"] != "correct")
    assert ("predicted by" in paragraph.text) == (changes["method"] != "optimize")


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ({"fixed_brain": BrainSummary("deepbet")}, "extracted with deepbet (Fisch et al., 2024)"),
        ({"fixed_brain": BrainSummary("synthstrip")}, "SynthStrip (Hoopes et al., 2022)"),
        ({"affine": AffineSummary("greedy")}, "estimated with greedy (Yushkevich et al., 2016)"),
        ({"affine": AffineSummary(dof=9)}, "with 9 degrees of freedom"),
        ({"affine": AffineSummary("headers")}, "headers of the images aligned them"),
        ({}, "headers of the images aligned them"),
        (
            {"template": TemplateSummary("MNI152", used=True)},
            "grid of the template MNI152 (Fonov et al., 2011)",
        ),
    ],
)
def test_methods_of_the_preprocessing(steps, text, summary):
    inputs = {**summary.inputs, "affine": None, "fixed": "MNI152"}
    paragraph = methods(replace(summary, preprocessing=Preprocessing(**steps), inputs=inputs))
    assert text in paragraph.text
    assert "(Fonov et al., 2011)" in paragraph.text


@pytest.mark.parametrize(
    ("affine", "between", "text"),
    [
        (None, AffineSummary(dof=12), "aligned in the same way"),
        (None, AffineSummary("simpleitk", dof=12), "aligned in the same way"),
        (None, AffineSummary("greedy", dof=12), "fixed image was aligned by a transformation with"),
        ("given.mat", None, "fixed image was aligned by a transformation with 12 degrees"),
    ],
)
def test_methods_say_how_the_template_was_aligned(affine, between, text, summary):
    """A given affine does not align the template."""
    template = TemplateSummary("MNI152", used=True, affine=AffineSummary(dof=12))
    steps = Preprocessing(affine=between, template=template)
    paragraph = methods(
        replace(summary, preprocessing=steps, inputs={**summary.inputs, "affine": affine})
    )
    assert text in paragraph.text
    assert "(Mattes et al., 2003)" in paragraph.text


def test_methods_know_every_external_tool_and_similarity(summary):
    assert SIMILARITIES.keys() == set(MEASURES)
    for name, tool in BRAIN_EXTRACTION_TOOLS.items():
        assert f"extracted with {tool.title} (" in methods(with_tools(summary, name, None)).text
    for name, tool in AFFINE_TOOLS.items():
        assert f"estimated with {tool.title} (" in methods(with_tools(summary, None, name)).text


def test_methods_name_the_tools_of_the_steps_before(summary):
    """In a workflow, the registration is given the results of other nodes."""
    text = methods(with_tools(summary, "synthstrip", "greedy")).text
    assert "extracted with SynthStrip" in text
    assert "estimated with greedy" in text
    assert "masks were given" not in text and "that was given" not in text
    assert methods(with_tools(summary, None, None)) == methods(summary)


def test_scene_is_what_was_registered(registered, pair):
    scene = read_scene(registered, read_summary(registered))
    affine = scene.grid.affine
    np.testing.assert_array_equal(affine[:3, :3], np.eye(3) * affine[0, 0])
    # The warped labels are those of the fixed image.
    assert set(np.unique(scene.fixed_labels)) == set(np.unique(scene.warped_labels)) == {0, 1, 2}
    assert np.corrcoef(scene.fixed.ravel(), scene.before.ravel())[0, 1] > 0.75  # aligned
    # Without the affine, far from the brain nothing moves.
    corner = scene.source[0, 0, 0] - affine[:3, 3]
    assert np.linalg.norm(corner) < 1.0
    assert np.abs(scene.source - scene.grid.coordinates()).max() > 0.1


def test_box_of_a_template(registered):
    """The grid of a template is mapped to the fixed image's world if the template was used."""
    summary = read_summary(registered)
    matrix = np.eye(4)
    matrix[2, 3] = 10
    lowest = {}
    for used in (True, False):
        template = TemplateSummary("template.nii.gz", used, matrix=matrix.tolist())
        preprocessing = replace(summary.preprocessing, template=template)
        scene = read_scene(registered, replace(summary, preprocessing=preprocessing))
        lowest[used] = scene.grid.affine[2, 3]
    assert lowest[True] > lowest[False] + 3


def test_lines_of_the_grid_are_a_round_number_apart(registered):
    step = pictures.grid_step(read_scene(registered, read_summary(registered)))
    assert step in (0.5, 1, 2, 4)


def test_folds_are_reported_and_shown(copied):
    image = nib.load(copied / "log_jacobian.nii.gz")
    data = image.get_fdata(dtype=np.float32)
    data[6:12, 8:14, 5:11] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine, image.header), copied / "log_jacobian.nii.gz")
    changed(copied, jacobian=as_json(replace(read_summary(copied).jacobian, folded=216)))
    page = Page(write_registration_report(copied))
    assert "216 voxels of the brain are folded" in page.text
    (jacobian,) = (i for i in page.all("img") if i.attrs["alt"].startswith("Log-Jacobian"))
    red, green, blue = np.moveaxis(pixels(jacobian), -1, 0)
    assert np.count_nonzero((red > 200) & (green > 190) & (blue < 120)) > 1000  # yellow


def test_without_labels_and_samples(copied):
    inputs = {**read_summary(copied).inputs, "fixed_labels": None, "moving_labels": None}
    changed(copied, labels=None, uncertainty_mm=None, inputs=inputs)
    (copied / "warped_labels.nii.gz").unlink()
    (copied / "uncertainty.nii.gz").unlink()
    page = Page(write_registration_report(copied))
    check_self_contained(page)
    assert len(page.all("img")) == 7  # fixed and after twice, before, grid, Jacobian
    assert not page.within("labels-table", "td")
    keys = {td.attrs["data-key"] for td in page.within("figures-table", "td")}
    assert not keys & {"dice_after", "uncertainty_mean"}


def test_names_are_escaped(copied):
    changed(copied, warnings=["<script>alert(1)</script> & more"])
    page = Page(write_registration_report(copied))
    assert "<script>alert(1)</script> & more" in page.text
    assert len(page.all("script")) == 1


def test_the_same_folder_makes_the_same_page(registered, written, tmp_path):
    again = write_registration_report(registered, tmp_path / "again.html")
    assert again.read_bytes() == written.read_bytes()


def test_images_that_were_moved(copied, pair, tmp_path):
    gone = str(tmp_path / "gone.nii.gz")
    changed(copied, inputs={**read_summary(copied).inputs, "fixed": gone})
    with pytest.raises(InputError, match=r"gone.nii.gz: no such file"):
        write_registration_report(copied)
    assert not (copied / "report.html").exists()
    assert write_registration_report(copied, fixed=pair.fixed) == copied / "report.html"


def test_the_report_of_a_small_brain_shows_it(small_pair, pair, tmp_path):
    """The cuts lie in the brain, whose millimetres are a tenth of those of the comparison."""
    scenes = []
    for name, files in (("small", small_pair), ("large", pair)):
        register(files.fixed, files.moving, **options_of(files)).save(tmp_path / name)
        page = Page(write_registration_report(tmp_path / name))
        scenes.append(read_scene(tmp_path / name, read_summary(tmp_path / name)))
        assert ("(0.1 mm in the brain's own size)" in page.text) == (name == "small")
    small, large = (np.count_nonzero(scene.fixed) for scene in scenes)
    assert small == pytest.approx(large, rel=0.05)
