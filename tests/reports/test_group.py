"""The page of many registrations: its table, outliers, links and plots."""

import base64
import json

import numpy as np
import pytest

from nipype_quicksilver import InputError
from nipype_quicksilver.reports import write_group_report
from nipype_quicksilver.reports.folder import read_summary
from nipype_quicksilver.reports.group import outliers
from nipype_quicksilver.reports.quantities import QUANTITIES
from tests.helpers.reading import Page, check_self_contained

NUMBER = 8
SHOWN = {q.key: q for q in QUANTITIES}


@pytest.fixture
def group(registered, tmp_path):
    """Folders of similar registrations; the fourth is much worse, the last one has a report."""
    summary = json.loads((registered / "summary.json").read_text())
    folders = []
    for number in range(NUMBER):
        after = 0.1 if number == 3 else 0.7 + 0.01 * number
        summary["similarity"] |= {"before": 0.4, "after": after}
        summary["jacobian"]["folded"] = 7 if number == 3 else 0
        folder = tmp_path / "a study" / f"sub-{number:02}" / "anat"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        folders.append(folder)
    (folders[-1] / "report.html").write_text("<p>")
    return folders


def rows_of(page):
    """Cells of each row of the body."""
    rows = [e for e in page.within("group-table", "tr")][1:]
    return [[e for e in page.elements if row in e.inside and e.tag in ("th", "td")] for row in rows]


def test_a_registration_whose_files_were_not_all_moved_is_completed(group):
    """As after a kill: its summary, which is moved last, is still in a hidden folder."""
    space = group[0] / ".quicksilver-files-0"
    (space / "new").mkdir(parents=True)
    (space / "old").mkdir()
    (space / "journal.json").write_text('[["summary.json"], []]')
    (group[0] / "summary.json").rename(space / "new" / "summary.json")
    assert read_summary(group[0]) == read_summary(group[0] / "summary.json")
    assert [path.name for path in group[0].iterdir()] == ["summary.json"]


def test_table(group, tmp_path):
    page = Page(write_group_report(group, tmp_path / "group.html"))
    check_self_contained(page)
    rows = rows_of(page)
    assert len(rows) == NUMBER
    assert [row[0].text for row in rows] == [f"sub-{n:02}/anat" for n in range(NUMBER)]
    for row, folder in zip(rows, group, strict=True):
        summary = read_summary(folder)
        for cell in row[3:]:
            quantity = SHOWN[cell.attrs["data-key"]]
            value = quantity.of(summary)
            assert float(cell.attrs["data-value"]) == value
            assert cell.text.startswith(quantity.written(value))


def test_outliers_are_marked_with_more_than_colour(group, tmp_path):
    page = Page(write_group_report(group, tmp_path / "group.html"))
    marked = [
        (number, cell.attrs["data-key"], cell.text[-1])
        for number, row in enumerate(rows_of(page))
        for cell in row[3:]
        if "outlier" in cell.attrs["class"]
    ]
    assert marked == [(3, "similarity_after", "▼"), (3, "folded", "▲")]
    assert [row[1].attrs["data-value"] for row in rows_of(page)][3] == "2"
    assert "7 voxels of the brain are folded" in rows_of(page)[3][2].text


def test_links_lead_to_reports_that_exist(group, tmp_path):
    (tmp_path / "pages").mkdir()
    page = Page(write_group_report(group, tmp_path / "pages" / "group.html"))
    links = [a.attrs["href"] for a in page.within("group-table", "a")]
    assert links == ["../a%20study/sub-07/anat/report.html"]


def test_names_and_reports_can_be_given(group, tmp_path):
    named = {f"pair {n}": folder / "summary.json" for n, folder in enumerate(group)}
    (tmp_path / "pair.html").touch()
    reports = {"pair 2": tmp_path / "pair.html", "pair 7": tmp_path / "gone.html"}
    page = Page(write_group_report(named, tmp_path / "group.html", reports=reports))
    assert [row[0].text for row in rows_of(page)] == list(named)
    assert [a.attrs["href"] for a in page.within("group-table", "a")] == ["pair.html"]


def test_plots(group, tmp_path):
    path = write_group_report(group, tmp_path / "group.html")
    images = Page(path).all("img")
    similarity = next(i for i in images if i.attrs["alt"].startswith("Local correlation, after"))
    assert (
        "of 8 registrations, median 0.7300, from 0.1000 to 0.7700, 1 outliers"
        in (similarity.attrs["alt"])
    )
    for image in images:
        kind, _, data = image.attrs["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        drawing = base64.b64decode(data).decode()
        assert drawing.count("<path") > 8
        assert 'xlink:href="http' not in drawing
    assert write_group_report(group, tmp_path / "b.html").read_bytes() == path.read_bytes()


def test_one_registration(group, tmp_path):
    page = Page(write_group_report(group[:1], tmp_path / "group.html"))
    assert [row[0].text for row in rows_of(page)] == ["anat"]


def test_refusals(group, tmp_path):
    page = tmp_path / "group.html"
    with pytest.raises(InputError, match="no registration to report on"):
        write_group_report([], page)
    with pytest.raises(InputError, match="given more than once"):
        write_group_report([group[0], *group], page)
    with pytest.raises(InputError, match="no such folder"):
        write_group_report([*group, tmp_path / "none"], page)
    assert not page.exists()


@pytest.mark.parametrize(
    ("worse", "expected"),
    [("low", ["low", None]), ("high", [None, "high"]), ("both", ["low", "high"])],
)
def test_sides(worse, expected):
    values = [*np.linspace(0.7, 0.8, 9).tolist(), 0.1, 2.0]
    assert outliers(values, worse) == [None] * 9 + expected


def test_few_numbers_and_equal_ones_are_not_marked():
    assert outliers([0.8, 0.8, 0.8, 0.1], "low") == [None] * 4
    assert outliers([3.0] * 6, "both") == [None] * 6
    assert outliers([None] * 6, "both") == [None] * 6
