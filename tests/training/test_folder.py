"""The folder of a training: its record, its state, and its tables."""

import json
import math
from dataclasses import replace

import pytest
import torch

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.training.digests import FileDigest
from nipype_quicksilver.training.folder import (
    LOG,
    RECIPE,
    RUN,
    STATE,
    Board,
    Table,
    TrainingFolder,
    TrainingRecord,
    read_table,
)

RECORD = TrainingRecord(
    versions={"torch": "2.13"},
    command="quicksilver train",
    role="prediction",
    recipe={"training": {"iterations": 6}},
    before=[],
    start=[],
    inputs=[FileDigest("/data/a.nii", "e3b0", "labels")],
    processes=1,
    device="cpu",
)


def make_state(value=1.0):
    return {"training": {"network": {"weight": torch.full((2,), value)}, "iteration": 3}}


@pytest.fixture
def started(tmp_path):
    """The path of a folder that holds a state."""
    folder = TrainingFolder(tmp_path / "a run", RECORD)
    folder.start()
    folder.save(make_state())
    return tmp_path / "a run"


def load(folder):
    return folder.load(torch.device("cpu"))


def test_files_of_a_new_training(tmp_path):
    folder = TrainingFolder(tmp_path / "deep" / "run", RECORD)
    assert not folder.folder.exists()
    folder.start()
    assert json.loads(folder.path(RECIPE).read_text()) == RECORD.recipe
    assert json.loads(folder.path(RUN).read_text()) == RECORD.as_json()
    assert load(folder) is None


def test_state_is_kept_and_resumed(started):
    recorded = (started / RUN).read_text()
    folder = TrainingFolder(started, replace(RECORD, command="another", device="cuda"))
    folder.start()
    assert (started / RUN).read_text() == recorded
    state = load(folder)
    assert state["training"]["iteration"] == 3
    assert torch.equal(state["training"]["network"]["weight"], torch.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"training": {"iterations": 7}}}, "a different recipe"),
        ({"role": "correction"}, "a different role"),
        ({"before": [FileDigest("a", "b")]}, "different earlier networks"),
        ({"start": [FileDigest("a", "b")]}, "different initial weights"),
        ({"inputs": [FileDigest("/data/a.nii", "0", "labels")]}, "different images, label maps"),
        ({"inputs": [FileDigest("/data/a.nii", "e3b0", "image")]}, "different images, label maps"),
        ({"processes": 2}, "a different number of processes"),
    ],
)
def test_a_different_training_is_refused(started, change, message):
    with pytest.raises(InputError, match=f"a run: holds a training with {message}"):
        TrainingFolder(started, replace(RECORD, **change))


def test_inputs_may_have_moved(started):
    TrainingFolder(started, replace(RECORD, inputs=[FileDigest("/b/c.nii", "e3b0", "labels")]))


def test_other_versions_are_reported(started, caplog):
    TrainingFolder(started, replace(RECORD, versions={"torch": "2.14"}))
    assert "a run: was started with other versions" in caplog.text


def test_damaged_files(started):
    (started / STATE).write_bytes((started / STATE).read_bytes()[:100])
    with pytest.raises(InputError, match=r"state\.pt: is damaged; delete it"):
        load(TrainingFolder(started, RECORD))
    (started / RUN).write_text("{")
    with pytest.raises(InputError, match=r"run\.json: is not JSON"):
        TrainingFolder(started, RECORD)


def test_damaged_rows_of_a_table_are_left_out(started):
    path = started / LOG
    path.write_bytes(b"iteration,loss\n1,0.5\n\xff,1\n2,x\n3\n4,,5\n5,\n")
    assert read_table(path) == [{"iteration": "1", "loss": "0.5"}, {"iteration": "5", "loss": ""}]


def test_weights_that_are_not_finite_are_not_saved(started):
    folder = TrainingFolder(started, RECORD)
    with pytest.raises(QuicksilverError, match="diverged \\(weight is not finite\\)"):
        folder.save(make_state(math.inf))
    assert torch.equal(load(folder)["training"]["network"]["weight"], torch.ones(2))


def test_only_one_process_writes(tmp_path):
    folder = TrainingFolder(tmp_path / "run", RECORD, writes=False)
    folder.start()
    folder.save(make_state())
    table = Table(folder.path(LOG), ("iteration", "loss"), -1, writes=False)
    table.add([{"iteration": 1, "loss": 0.5}])
    Board(folder.path("tensorboard"), -1, writes=False).add("training", 1, {"loss": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_table_continues_after_an_iteration(tmp_path):
    path = tmp_path / LOG
    table = Table(path, ("iteration", "loss", "overlap"), -1)
    table.add([{"iteration": k, "loss": 1 / k, "overlap": math.nan} for k in range(1, 5)])
    with path.open("a") as file:
        file.write("5,0.2")  # a truncated row
    assert [row["iteration"] for row in read_table(path)] == list("1234")
    table = Table(path, ("iteration", "loss", "overlap"), 2)
    table.add([{"iteration": 3, "loss": 0.25}])
    assert path.read_text() == "iteration,loss,overlap\n1,1,\n2,0.5,\n3,0.25,\n"
    assert read_table(tmp_path / "missing.csv") == []
