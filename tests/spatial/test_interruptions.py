"""Files are moved all or none, whatever ends a run at whatever step; the next run completes it.

`python -m benchmarks faults` does the same with registrations and whole commands.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.folders import complete_moves, staged_folder

_ROOT = Path(__file__).parents[2]
# The process forks, and has no threads: it imports nothing but the folders.
_RUNS = """
import itertools, json, shutil, sys
from pathlib import Path
from benchmarks.faults.injection import end_at_step, start, wait
from nipype_quicksilver.spatial.folders import complete_moves, staged_folder

def save(folder, text, files):
    with staged_folder(folder, "abcd", "d") as stage:
        for name in files:
            (stage / name).write_text(text)
        (stage / "d").write_text(json.dumps({"text": text}))

def content(folder):
    texts = {path.name: path.read_text() for path in folder.glob("[a-z]*")}
    return {name: json.loads(text) if name == "d" else text for name, text in texts.items()}

def result(text, files):
    record = {"text": text, "files": {name: 3 for name in files}}
    return {**{name: text for name in files}, "d": record}

folder, seen = Path(sys.argv[1]) / "out", {"old": 0, "new": 0, "between": 0}
old, new = result("old", "ac"), result("new", "ab")
for number, fresh in itertools.product(map(int, sys.argv[2:]), (True, False)):
    for step in itertools.count():
        shutil.rmtree(folder, ignore_errors=True)
        if not fresh:
            save(folder, "old", "ac")
            (folder / "notes").write_text("theirs")
        notes = {} if fresh else {"notes": "theirs"}
        before = {} if fresh else {**old, **notes}

        def run():
            end_at_step(step, number, folder)
            save(folder, "new", "ab")

        code = wait(start(run))
        now = content(folder) if folder.exists() else {}
        where = (number, fresh, step, code, now)
        if now == before:
            seen["old"] += 1
        elif now == {**new, **notes}:
            seen["new"] += 1
        else:
            assert number == 9, where  # only a killed run leaves the rest to the next one
            seen["between"] += 1
            assert "d" not in now, where  # and is seen not to be complete
            complete_moves(folder)
            assert content(folder) == {**new, **notes}, where
        if number != 9:
            assert code in (0, 128 + number), where
            assert not folder.exists() or not list(folder.glob(".*")), where
        save(folder, "new", "ab")
        assert content(folder) == {**new, **notes}, where
        assert not list(folder.glob(".*")), where
        if code == 0:
            break
print(json.dumps(seen))
"""


@pytest.mark.parametrize("numbers", [(2,), (15,), (9,)], ids=["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_ended_at_every_step(numbers, tmp_path):
    words = [sys.executable, "-c", _RUNS, str(tmp_path), *map(str, numbers)]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["old"] > 20 and seen["new"] >= 2
    assert (seen["between"] > 5) == (9 in numbers)


_RACE = """
import os, sys, time
from pathlib import Path
from nipype_quicksilver.spatial.folders import staged_folder
from benchmarks.faults.injection import start, wait

folder = Path(sys.argv[1]) / "out"

def save(text):
    with staged_folder(folder) as stage:
        for name in "abcdefgh":
            (stage / name).write_text(text)

for race in range(20):
    children = [start(lambda: save("one")), start(lambda: save("two"))]
    assert [wait(child) for child in children] == [0, 0]
    texts = {path.read_text() for path in folder.iterdir()}
    assert len(texts) == 1 and len(list(folder.iterdir())) == 8, texts
    if race % 2:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
"""


def test_two_runs_into_one_folder_follow_each_other(tmp_path):
    words = [sys.executable, "-c", _RACE, str(tmp_path)]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "journal", ["", "{}", "[[]]", '[["../victim"], []]', '[[], ["/etc/hosts"]]', "[[1], []]"]
)
def test_a_damaged_journal_is_refused(journal, tmp_path):
    """It may have been written by others: nothing outside the folder is touched."""
    victim, space = tmp_path / "victim", tmp_path / "out" / ".quicksilver-files-0"
    space.mkdir(parents=True)
    (space / "new").mkdir()
    (space / "journal.json").write_text(journal)
    victim.write_text("precious")
    with (
        pytest.raises(InputError, match=r"journal.json: is damaged; look into .*, then remove it"),
        staged_folder(tmp_path / "out"),
    ):
        pass
    assert victim.read_text() == "precious"
    assert (space / "journal.json").read_text() == journal


def test_a_folder_that_is_whole_is_only_read(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr("os.access", lambda *_: False)  # it may belong to someone else
    complete_moves(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
