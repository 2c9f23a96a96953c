"""Rules of the house that no linter checks: sizes of modules, and types that users see."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST = 400  # lines

DOWNSTREAM = """\
import nipype_quicksilver
from nipype_quicksilver.workflows import init_quicksilver_wf

registration = nipype_quicksilver.register("fixed.nii.gz", "moving.nii.gz", method="refine")
reveal_type(registration.summary.jacobian.folded)
nipype_quicksilver.register("fixed.nii.gz", "moving.nii.gz", corrections="two")
nipype_quicksilver.register("fixed.nii.gz", "moving.nii.gz", correction=2)
init_quicksilver_wf(omp_nthreads=2, seed="one")
"""


@pytest.mark.parametrize("folder", ["benchmarks", "nipype_quicksilver", "tests", "workflows"])
def test_no_module_is_too_large(folder):
    lines = {
        path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not {path: number for path, number in lines.items() if number > LARGEST}


def test_a_user_s_type_checker_knows_the_options(tmp_path):
    pytest.importorskip("mypy")
    venv.create(tmp_path / "venv", with_pip=False)
    library = next((tmp_path / "venv").glob("lib/python3*/site-packages"))
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "nipype_quicksilver", library / "nipype_quicksilver", ignore=ignored)
    shutil.copytree(ROOT / "workflows", library / "nipype_quicksilver/workflows", ignore=ignored)
    (tmp_path / "downstream.py").write_text(DOWNSTREAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "downstream.py"]
    command += ["--python-executable", str(tmp_path / "venv/bin/python")]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    line = {number: [] for number in range(1, 9)}
    for text in checked.stdout.splitlines():
        line[int(text.split(":")[1])].append(text)
    assert 'Revealed type is "int"' in line[5][0].replace("builtins.", "")
    assert "[arg-type]" in line[6][0] and "corrections" in line[6][0]
    assert 'Unexpected keyword argument "correction"' in line[7][0]
    assert "[arg-type]" in line[8][0]
    assert not [*line[1], *line[2], *line[4]]
