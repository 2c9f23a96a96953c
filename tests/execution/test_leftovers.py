"""Temporary files of processes that were killed are removed; those of others are not."""

import os
import subprocess
import sys
import tempfile

import pytest

from nipype_quicksilver.execution import leftovers
from nipype_quicksilver.spatial.files import staged

_LEAVE = """
import os, sys
from pathlib import Path
from nipype_quicksilver.execution.leftovers import temporary_folder
from nipype_quicksilver.spatial.files import staged
with temporary_folder() as folder, staged(Path(sys.argv[1]) / "a.nii.gz") as path:
    (folder / "file").touch()
    path.touch()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def once():
    leftovers.remove_leftovers.cache_clear()  # as in a new process


def test_a_later_run_removes_them(tmp_path, monkeypatch):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", _LEAVE, tmp_path], env=environment)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with leftovers.temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        with staged(tmp_path / "a.nii.gz") as path:
            path.touch()
            assert sorted(tmp_path.iterdir()) == sorted([folder, path])
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_those_of_others_are_kept(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = leftovers._host()
    kept = {
        f"quicksilver-{host}-{os.getpid()}-0123456789abcdef",  # it lives
        f"quicksilver-00000000-{gone.pid}-0123456789abcdef",  # of another host
        f"quicksilver-{host}-{gone.pid}-notes",
        "quicksilver-demo",
    }
    for name in (*kept, f"quicksilver-{host}-{gone.pid}-0123456789abcdef"):
        (tmp_path / name).mkdir()
    leftovers.remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
