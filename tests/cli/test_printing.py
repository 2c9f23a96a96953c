"""What `quicksilver register` prints, and where it cannot print or the names are odd."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from nipype_quicksilver.cli.main import main
from tests.helpers.balls import listed

AFFINE = ("--transform", "affine", "--num-threads", "1")


def words(*arguments):
    return [sys.executable, "-m", "nipype_quicksilver", *map(str, arguments)]


def test_without_a_deformation_there_is_one_column(good, capsys):
    assert main(["register", *AFFINE, *map(str, listed(good))]) == 0
    out = capsys.readouterr().out
    assert "after the affine transform" in out and "before" not in out
    assert main(["report", str(good["--output-dir"])]) == 0
    page = (good["--output-dir"] / "report.html").read_text()
    value = json.loads((good["--output-dir"] / "summary.json").read_text())["similarity"]["after"]
    assert f"Local correlation <b>{value:.3f}</b>" in page


def test_a_name_that_is_not_utf_8(good, tmp_path, capsys):
    moving = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.nii.gz")
    shutil.move(good["--moving"], moving)
    arguments = ["register", *AFFINE, *map(str, listed({**good, "--moving": moving}))]
    assert main(arguments) == 0
    out = good["--output-dir"]
    assert json.loads((out / "summary.json").read_text())["inputs"]["moving"] == moving
    assert main(["report", str(out)]) == 0, capsys.readouterr().err
    assert r"m\udcff.nii.gz" in (out / "report.html").read_text(encoding="utf-8")
    assert main(["report", str(out), "--group", str(tmp_path / "group.html")]) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_output_that_is_full(good):
    with open("/dev/full", "w") as full:
        for arguments in (["register", *AFFINE, *listed(good)], ["--version"]):
            done = subprocess.run(words(*arguments), stdout=full, stderr=subprocess.PIPE, text=True)
            reason = os.strerror(errno.ENOSPC)
            line = f"quicksilver: error: the standard output cannot be written ({reason});"
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1].startswith(line)
    assert (good["--output-dir"] / "summary.json").exists()


def test_an_output_that_nobody_reads_any_more(good):
    for arguments in (["register", *AFFINE, *listed(good)], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(words(*arguments), stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert done.returncode == 141
        assert "error" not in done.stderr and "Exception" not in done.stderr
    assert (good["--output-dir"] / "summary.json").exists()
