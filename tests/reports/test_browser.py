"""Pages in a browser: a script drives them and records their state."""

import json
import re
import shutil
import subprocess

import pytest

from nipype_quicksilver.reports import write_group_report, write_registration_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")

SINGLE = """
const figure = document.querySelector("[data-flicker]");
const stack = figure.querySelector(".stack");
const [first, second] = stack.querySelectorAll("img");
const opacity = () => getComputedStyle(second).opacity;
const now = () => figure.querySelector(".now").textContent;
const mouse = (name) => stack.dispatchEvent(new PointerEvent(name, { pointerType: "mouse" }));
note("start", [opacity(), now()]);
figure.querySelector("button.turn").click();
note("turned", [opacity(), now()]);
stack.click();
note("tapped", [opacity(), now()]);
figure.querySelector("input[value=before]").click();
note("compared", [now(), first.alt, first.src === document.getElementById("before").src]);
figure.querySelector("input[value=after]").click();
note("back", [now(), first.alt]);
mouse("pointerenter");
const opacities = [];
for (let n = 0; n < 4; n += 1) { opacities.push(opacity()); await wait(700); }
mouse("pointerleave");
note("hovered", opacities);
await wait(1500);
note("left", [opacity(), now()]);
const slider = document.getElementById("side");
const top_ = document.querySelector(".checkers img + img");
const style = () => getComputedStyle(top_);
const tile = () => parseFloat(style().maskSize || style().webkitMaskSize);
const before = tile();
slider.value = 120;
slider.dispatchEvent(new Event("input"));
note("slider", [before > 0, tile() / before, document.querySelector("output").textContent]);
const table = document.getElementById("labels-table");
const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[2].dataset.value));
const head = table.tHead.rows[0].cells[2];
head.querySelector("button").click();
note("ascending", [column(), head.getAttribute("aria-sort")]);
head.querySelector("button").click();
note("descending", [column(), head.getAttribute("aria-sort")]);
note("wide", document.documentElement.scrollWidth <= innerWidth);
"""

GROUP = """
const table = document.getElementById("group-table");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.value);
const sort = (column) => table.tHead.rows[0].cells[column].querySelector("button").click();
sort(4); note("similarity", names());
sort(4); note("reversed", names());
sort(0); note("names", names());
note("status", document.getElementById("sorted").textContent);
note("wide", document.documentElement.scrollWidth <= innerWidth);
"""

DRIVER = """<script type="module">
const notes = {};
const note = (name, value) => { notes[name] = value; };
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const missed = [];
addEventListener("securitypolicyviolation", (event) => missed.push(event.blockedURI));
addEventListener("error", (event) => missed.push(event.message));
try { %s } catch (error) { note("error", String(error)); }
note("missed", missed);
note("pictures", [...document.images].every((image) => image.naturalWidth > 0));
const result = document.createElement("pre");
result.id = "notes";
result.textContent = JSON.stringify(notes);
document.body.append(result);
</script></body>"""


@pytest.fixture
def driven(tmp_path):
    """A function that runs a script in a page, in a window of 400 pixels; returns its notes."""

    def driven(page, script):
        copy = tmp_path / f"driven_{page.name}"
        copy.write_text(page.read_text().replace("</body>", DRIVER % script))
        options = "--headless --no-sandbox --disable-gpu --window-size=400,800 --dump-dom"
        budget = ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"]
        run = subprocess.run(
            [CHROMIUM, *options.split(), *budget, copy.as_uri()],
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        )
        match = re.search(r'<pre id="notes">(.*?)</pre>', run.stdout, re.DOTALL)
        notes = json.loads(match[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
        assert "error" not in notes, notes
        assert notes["missed"] == []
        assert notes["pictures"]
        return notes

    return driven


def test_single_page(registered, driven, tmp_path):
    notes = driven(write_registration_report(registered, tmp_path / "single.html"), SINGLE)
    assert notes["start"] == ["0", "after (warped)"]
    assert notes["turned"] == ["1", "fixed"]
    assert notes["tapped"] == ["0", "after (warped)"]
    assert notes["compared"][0] == "before (affine only)"
    assert notes["compared"][1].startswith("Moving image through the affine only")
    assert notes["compared"][2]
    assert notes["back"][1].startswith("Moving image, warped")
    assert {"0", "1"} == set(notes["hovered"])
    assert notes["left"] == ["0", "after (warped)"]
    shown, ratio, text = notes["slider"]
    assert shown and ratio == pytest.approx(2, rel=0.01)
    assert text.endswith(" mm")
    assert notes["ascending"] == [sorted(notes["ascending"][0]), "ascending"]
    assert notes["descending"] == [notes["ascending"][0][::-1], "descending"]
    assert notes["wide"], "the page is wider than a narrow window"


def test_group_page(registered, driven, tmp_path):
    summary = json.loads((registered / "summary.json").read_text())
    folders = {}
    for number, similarity in enumerate((0.7, 0.5, 0.6)):
        summary["similarity"]["after"] = similarity
        folders[f"sub-{number}"] = tmp_path / f"{number}.json"
        folders[f"sub-{number}"].write_text(json.dumps(summary))
    notes = driven(write_group_report(folders, tmp_path / "group.html"), GROUP)
    assert notes["similarity"] == ["sub-1", "sub-2", "sub-0"]
    assert notes["reversed"] == ["sub-0", "sub-2", "sub-1"]
    assert notes["names"] == ["sub-0", "sub-1", "sub-2"]
    assert notes["status"] == "Sorted by Registration, ascending."
    assert notes["wide"]
