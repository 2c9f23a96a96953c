"""Working folders that others could write are refused."""

import os
import stat

import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution import private
from nipype_quicksilver.execution.private import private_folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def shared_group(monkeypatch):
    """The group of files has further members."""
    monkeypatch.setattr(private, "_is_own_group", lambda gid: False)


def test_a_new_folder_is_for_this_user_alone(tmp_path, shared_group):
    before = os.umask(0o002)
    try:
        private_folder(tmp_path / "out" / "work", tmp_path / "out")
        private_folder(tmp_path / "elsewhere" / "work", tmp_path / "out")
    finally:
        os.umask(before)
    assert mode(tmp_path / "out" / "work") == 0o700
    assert mode(tmp_path / "elsewhere" / "work") == 0o700
    assert mode(tmp_path / "out") == 0o755
    private_folder(tmp_path / "out" / "work", tmp_path / "out")


def test_an_existing_folder_becomes_private(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o755)
    private_folder(tmp_path / "work", tmp_path / "out")
    assert mode(tmp_path / "work") == 0o700


@pytest.mark.parametrize("bits", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_refused(bits, tmp_path, shared_group):
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(bits)
    with pytest.raises(InputError, match=f"{work}: .*; remove it, or give another --work-dir"):
        private_folder(work, tmp_path / "out")
    assert mode(work) == bits


@pytest.mark.parametrize("bits", [0o775, 0o757])
def test_an_output_folder_that_others_may_write_is_refused(bits, tmp_path, shared_group):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(bits)
    with pytest.raises(InputError, match=f"{out}: others may write into it"):
        private_folder(out / "work", out)
    private_folder(tmp_path / "mine", out)
    out.chmod(0o1777)  # others may not move what is in it
    private_folder(out / "work", out)


def test_the_group_of_one_user_is_not_others(tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(private.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="me"))
    group = SimpleNamespace(gr_name="me", gr_mem=[])
    monkeypatch.setattr(private.grp, "getgrgid", lambda gid: group)
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o775)
    private_folder(work, tmp_path / "out")
    work.chmod(0o775)
    group.gr_mem = ["you"]
    with pytest.raises(InputError, match="others may write"):
        private_folder(work, tmp_path / "out")


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    monkeypatch.setattr(private.os, "geteuid", lambda: work.stat().st_uid + 1)
    with pytest.raises(InputError, match=f"{work}: belongs to another user"):
        private_folder(work, tmp_path / "out")


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be created"):
        private_folder(tmp_path / "file" / "work", tmp_path / "out")
