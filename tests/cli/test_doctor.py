import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from nipype_quicksilver import doctor
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.lddmm import shooting


def test_all_is_well_here(capsys):
    assert main(["doctor", "--device=cpu", "--num-threads=1"]) == 0
    printed = capsys.readouterr().out
    for text in ("Python", "torch", "GPU", "CPUs", "greedy", "Graphviz", "prediction", "SHA-256"):
        assert text in printed
    assert printed.count("  ok  ") > 15
    assert "of a known deformation remains" in printed
    assert "All checks passed." in printed
    assert "In a bug report, include all of the above" in printed


def test_quiet_prints_nothing_if_all_is_well(capsys):
    assert main(["doctor", "--quiet", "--device=cpu"]) == 0
    assert capsys.readouterr() == ("", "")


def test_as_a_module(tmp_path):
    run = [sys.executable, "-m", "nipype_quicksilver", "doctor", "--quiet", "--device=cpu"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_wrong_number_fails(monkeypatch, capsys):
    original = shooting.shoot

    def wrong(*args, **kwargs):
        geodesic = original(*args, **kwargs)
        geodesic.inverse = geodesic.inverse * 0.5
        return geodesic

    monkeypatch.setattr(shooting, "shoot", wrong)
    assert main(["doctor", "--device=cpu"]) == 1
    printed = capsys.readouterr().out
    assert "  BAD shooting" in printed
    assert (
        "Broken: shooting (cpu), registration (cpu)." in printed
        or "Broken: shooting (cpu)." in printed
    )


def test_a_damaged_network_is_found(monkeypatch, tmp_path, capsys):
    folder = Path(doctor.__file__).parent / "data" / "networks"
    shutil.copytree(folder, tmp_path / "networks")
    with open(tmp_path / "networks" / "prediction.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55" if file.read(1) != b"\x55" else b"\xaa")
    monkeypatch.setattr(doctor, "data_file", lambda *parts: tmp_path.joinpath(*parts))
    assert main(["doctor", "--quiet", "--device=cpu"]) == 1
    printed = capsys.readouterr().out
    assert "  BAD prediction  its SHA-256 is not that of its card" in printed
    assert "Broken: prediction." in printed
    assert str(tmp_path) not in printed


def test_what_is_missing_is_found(monkeypatch, tmp_path, capsys):
    version = metadata.version

    def without_traits(name):
        if name == "traits":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor.metadata, "version", without_traits)
    assert main(["doctor", "--quiet", "--device=cpu", f"--work-dir={tmp_path / 'none'}"]) == 1
    printed = capsys.readouterr().out
    assert "BAD traits  is not installed; install this package again" in printed
    assert "cannot be written to (No such file or directory); set TMPDIR" in printed


def test_a_part_that_breaks_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "_devices", lambda: 1 / 0)
    findings = doctor.examine(device="cpu")
    broken = [finding for finding in findings if finding.state == doctor.BAD]
    assert [(finding.name, finding.text) for finding in broken] == [
        ("ZeroDivisionError", "division by zero")
    ]
    assert findings[-1].part == "self-test"


@pytest.mark.parametrize("home", ["/home/someone"])
def test_no_name_of_a_user_is_printed(home, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "work").mkdir()
    (finding,) = doctor._space(tmp_path / "work")
    assert finding.name == "folder ~/work"
