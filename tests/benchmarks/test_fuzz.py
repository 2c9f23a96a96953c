"""A short form of the fuzzing of all readers, and what the program itself promises."""

import json
from random import Random

import pytest

from benchmarks.fuzz import mutations, running, worker
from benchmarks.fuzz.judging import Nonsense
from benchmarks.fuzz.readers import READERS, Reader
from benchmarks.fuzz.running import fuzz
from nipype_quicksilver.errors import InputError

QUICK = [name for name in READERS if not name.startswith("transform")]


@pytest.mark.parametrize("name", QUICK)
def test_readers_end_in_a_value_or_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = READERS[name]
    damaged = reader.files(tmp_path)
    for file in damaged:
        reader.read(file)  # valid files are read
    originals = {file: file.read_bytes() for file in damaged}
    for number in range(12):
        random = Random(f"test {number}")
        file = random.choice(list(damaged))
        file.write_bytes(damaged[file](originals[file], random))
        answer = worker.read(reader, file)
        assert answer["outcome"] in ("read", "refused"), answer
        file.write_bytes(originals[file])


def test_a_run_is_resumed_and_repeatable(tmp_path):
    first = fuzz("points", 6, 1, tmp_path)
    assert first["done"] == 6 and sum(first["counts"].values()) == 6
    assert fuzz("points", 6, 1, tmp_path) == json.loads((tmp_path / "points-1.json").read_text())
    (tmp_path / "whole").mkdir()
    assert fuzz("points", 9, 1, tmp_path) == fuzz("points", 9, 1, tmp_path / "whole")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InputError("a.nii: is damaged; fetch it again"), "refused"),
        (InputError("x" * 5000), "not a line"),
        (Nonsense("nan"), "nonsense"),
        (MemoryError(), "memory"),
        (KeyError("x"), "exception"),
    ],
)
def test_what_happened_is_told_apart(error, outcome, tmp_path):
    def fail(path):
        raise error

    assert worker.read(Reader(lambda _: None, {}, fail), tmp_path)["outcome"] == outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("import os; os.abort()", "killed"), ("import time; time.sleep(60)", "hang")],
)
def test_processes_that_die_or_hang(code, outcome, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "TIMEOUT", 0.3)
    monkeypatch.setattr(running, "STARTING", 0.3)
    process = running.Worker("points", 0, tmp_path / "work")
    process.command = [running.sys.executable, "-c", code]
    assert process.read(0)["outcome"] == outcome
    process.close()


def test_damage_depends_on_the_seed_alone():
    data = bytes(range(256)) * 4
    for mutation in (mutations.damage_bytes, mutations.damage_numbers(360)):
        assert mutation(data, Random(3)) == mutation(data, Random(3)) != mutation(data, Random(4))
