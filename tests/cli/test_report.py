"""`quicksilver report`: what it writes, and what it refuses in one line."""

import json
import shutil

import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.reports import write_registration_report
from tests.helpers.summaries import summary_content


@pytest.fixture
def copied(registered, tmp_path):
    """A copy of a registration, that may be changed."""
    return shutil.copytree(registered, tmp_path / "copy")


def changed(folder, **values):
    """Change values of a summary; None removes them."""
    file = folder / "summary.json"
    summary = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({name: v for name, v in summary.items() if v is not None}))


def test_single_and_group(copied, tmp_path, capsys):
    assert main(["report", str(copied)]) == 0
    page = copied / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    expected = write_registration_report(copied, tmp_path / "expected.html")
    assert page.read_bytes() == expected.read_bytes()
    group = tmp_path / "group.html"
    assert main(["report", "--quiet", str(copied), "--group", str(group)]) == 0
    assert capsys.readouterr() == ("", "")
    assert 'href="copy/report.html"' in group.read_text()


def test_output_and_moved_images(copied, pair, tmp_path, capsys):
    gone = {"fixed": "/gone/fixed.nii.gz", "moving": "/gone/moving.nii.gz"}
    changed(copied, inputs={**json.loads((copied / "summary.json").read_text())["inputs"], **gone})
    out = tmp_path / "a.html"
    images = ["--fixed", str(pair.fixed), "--moving", str(pair.moving)]
    assert main(["report", str(copied), "--output", str(out), *images]) == 0
    assert out.exists() and not (copied / "report.html").exists()


def test_a_page_is_replaced(copied):
    (copied / "report.html").write_text("earlier")
    assert main(["report", "--quiet", str(copied)]) == 0
    assert "earlier" not in (copied / "report.html").read_text()[:100]


def test_help_has_an_example(capsys):
    assert main(["report", "--help"]) == 0
    assert "Example:\n  quicksilver report " in capsys.readouterr().out


def test_folders_of_something_else(tmp_path, refused):
    refused("report", tmp_path / "none", message=f"{tmp_path / 'none'}: no such folder; give the")
    refused(
        "report", tmp_path, message=f"{tmp_path}: contains no summary.json; give the output folder"
    )
    (tmp_path / "summary.json").mkdir()
    refused("report", tmp_path, message=f"{tmp_path / 'summary.json'}: is a folder")
    (tmp_path / "summary.json").rmdir()
    for text, message in (
        ("no JSON {", "is not JSON (line 1); run 'quicksilver register' again"),
        ("[]", "is not a JSON object; give the output folder"),
        ("{}", "required field missing in parameters; give the output folder"),
    ):
        (tmp_path / "summary.json").write_text(text)
        refused("report", tmp_path, message=message)
        refused("report", tmp_path, "--group", tmp_path / "group.html", message=message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"affine_matrix": None}, "required field missing in affine_matrix; give the"),
        ({"similarity": None}, "required field missing in similarity; give the"),
        (
            {"jacobian": {"voxels": 1, "folded": "many"}},
            "expected int in jacobian.folded; give the",
        ),
        ({"affine_matrix": [[0.0] * 4] * 4}, "not an invertible 4x4 matrix"),
        ({"affine_matrix": [[1.0]]}, "not an invertible 4x4 matrix"),
        ({"affine_matrix": "identity"}, "expected float in affine_matrix[0][0]; give the"),
        ({"inputs": {}}, "names no fixed image; give it with --fixed"),
    ],
)
def test_summaries_that_are_not_of_a_registration(values, message, copied, refused):
    changed(copied, **values)
    refused("report", copied, message=message)


@pytest.mark.parametrize(
    "name", ["warped", "log_jacobian", "displacement", "uncertainty", "warped_labels"]
)
def test_truncated_files(name, copied, refused):
    file = copied / f"{name}.nii.gz"
    file.write_bytes(file.read_bytes()[:400])
    refused("report", copied, message=f"{file}: ")


def test_missing_files(copied, refused):
    (copied / "warped.nii.gz").unlink()
    refused("report", copied, message=f"{copied / 'warped.nii.gz'}: no such file")


def test_files_of_another_registration(copied, pair, refused):
    shutil.copy(pair.moving, copied / "warped.nii.gz")
    refused(
        "report", copied, message=f"{copied / 'warped.nii.gz'}: not on the grid of {pair.fixed}"
    )


def test_the_first_of_many_is_not_written_where_another_is_unusable(copied, tmp_path, refused):
    refused("report", copied, tmp_path / "none", message="none: no such folder")


def test_outputs_that_cannot_be_written(registered, tmp_path, refused, monkeypatch):
    refused("report", registered, "--output", tmp_path / "a.txt", message="let it end in .html")
    refused("report", registered, "--output", tmp_path / "no" / "a.html", message="create it first")
    both = (registered, "--group")
    refused("report", *both, tmp_path / "no" / "a.html", message="create it first")
    refused("report", *both, tmp_path, message="let it end in .html")
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    refused(
        "report", registered, message=f"{registered / 'report.html'}: its folder is not writable"
    )


@pytest.mark.parametrize("option", ["--output", "--fixed", "--moving"])
def test_options_of_a_single_page(option, registered, tmp_path, refused):
    message = f"{option} is for the report of a single registration"
    refused("report", registered, registered, option, tmp_path / "a.html", message=message)
    group = ("--group", tmp_path / "group.html")
    refused("report", registered, *group, option, tmp_path / "a.html", message=message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("versions", {"torch": "2"}),
        ("sha256", {"networks": 3}),
        ("velocity_grid", {"shape": [1], "spacing": [], "affine": [[1.0]]}),
        ("warnings", [3]),
        ("started", "\ud800"),
        ("options", {"seed": 10**100}),
        ("seconds", {"total": float("nan")}),
        ("labels", {"before": "dice", "after": "dice"}),
    ],
)
def test_odd_summaries_are_refused_in_one_line(name, value, tmp_path, capsys):
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({**summary_content(), name: value}))
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(file) in error and error.count("\n") == 1


def test_a_summary_that_is_nested_too_deeply(tmp_path, capsys):
    (tmp_path / "summary.json").write_text("[" * 100_000)
    assert main(["report", str(tmp_path)]) == 2
    assert "nested too deeply" in capsys.readouterr().err
