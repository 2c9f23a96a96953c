"""The training loop, with a trainer that needs no data."""

import pytest
import torch
from torch import nn

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.training.distributed import Processes
from nipype_quicksilver.training.folder import (
    LOG,
    STATE,
    VALIDATION,
    TrainingFolder,
    TrainingRecord,
    read_table,
)
from nipype_quicksilver.training.loop import Loop
from nipype_quicksilver.training.model import LddmmModel
from nipype_quicksilver.training.recipes import plan_from_json
from nipype_quicksilver.training.trainer import Losses, Task, Trainer

PROCESSES = Processes(0, 1, torch.device("cpu"))
MODEL = LddmmModel({"alpha": 1.0, "beta": 0.0, "gamma": 1.0, "power": 2.0}, 3, 2, 1.0)


class Parabola(Trainer):
    """Minimises the square of one number, with random gradients."""

    def __init__(self, schedule):
        torch.manual_seed(0)
        super().__init__(nn.Linear(1, 1, bias=False), schedule, 0, 1)

    def step(self):
        torch.manual_seed(self._seed())
        self.optimizer.zero_grad()
        loss = (self.network.weight * torch.rand(1)).square().sum()
        loss.backward()
        self._finish_iteration()
        return Losses(self.iteration, float(loss.detach()))


def make_plan(iterations=6, every=2, patience=0, learning_rate=0.1):
    return plan_from_json(
        {
            "format": "quicksilver-recipe",
            "version": 1,
            "architecture": {"name": "patch", "parameters": {"features": 1, "patch_size": 7}},
            "training": {"iterations": iterations, "learning_rate": learning_rate},
            "validation": {"every": every, "patience": patience},
        }
    )


def make_loop(path, plan, *, losses=None, save_every=100, progress=None):
    """Return a loop; `losses` are those of the validations, by default the weight's size."""
    trainer = Parabola(plan.training)
    numbers = iter(losses or ())

    def validate(network, identity):
        if identity:
            return {"loss": 9.0}
        return {"loss": next(numbers) if losses else abs(network.weight.item())}

    record = TrainingRecord({}, "", "prediction", plan.as_json(), [], [], [], 1, "cpu")
    folder = TrainingFolder(path, record)
    folder.start()
    task = Task(trainer, validate, MODEL, [])
    return Loop(folder, task, plan, PROCESSES, save_every, progress)


def test_log_validations_and_progress(tmp_path):
    reports = []
    loop = make_loop(tmp_path / "run", make_plan(), progress=reports.append)
    loop.run()
    log = read_table(tmp_path / "run" / LOG)
    assert [row["iteration"] for row in log] == list("123456")
    validations = read_table(tmp_path / "run" / VALIDATION)
    assert [row["iteration"] for row in validations] == list("0246")
    assert float(validations[0]["loss"]) == 9 and loop.identity == {"loss": 9.0}
    assert [status.iteration for status in reports] == list(range(1, 7))
    assert reports[-1].seconds_left == 0 and reports[-1].validation == loop.last
    assert reports[0].validation == {}


def test_best_weights_are_kept(tmp_path):
    loop = make_loop(tmp_path / "run", make_plan(), losses=[3.0, 1.0, 2.0])
    loop.run()
    assert (loop.best.iteration, loop.best.numbers, loop.best.since) == (4, {"loss": 1.0}, 1)
    assert not torch.equal(loop.best.weights["weight"], loop.trainer.average["weight"])


def test_patience(tmp_path, caplog):
    caplog.set_level("INFO")
    loop = make_loop(
        tmp_path / "run", make_plan(100, every=1, patience=2), losses=[3.0, 1.0, 2.0, 1.0]
    )
    loop.run()
    assert loop.trainer.iteration == 4 and loop.finished
    assert "no better validation since iteration 2: stopped" in caplog.text


def test_a_resumed_training_is_bit_identical(tmp_path):
    plan = make_plan()
    whole = make_loop(tmp_path / "whole", plan)
    whole.run()
    first = make_loop(tmp_path / "parts", plan, save_every=1)
    first._progress = interrupt_after(3)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = make_loop(tmp_path / "parts", plan)
    assert second.trainer.iteration == 3 and second.identity == whole.identity
    second.run()
    assert torch.equal(second.trainer.average["weight"], whole.trainer.average["weight"])
    assert second.best.numbers == whole.best.numbers
    for name in (LOG, VALIDATION):
        tables = [read_table(tmp_path / run / name) for run in ("whole", "parts")]
        for row in (*tables[0], *tables[1]):
            row.pop("seconds", None)
        assert tables[0] == tables[1]


def interrupt_after(iteration):
    def interrupt(status):
        if status.iteration == iteration:
            raise KeyboardInterrupt

    return interrupt


def damaged(state, kind):
    training = state["training"]
    if kind == "no optimiser":
        del training["optimizer"]
    elif kind == "another parameter":
        training["optimizer"]["param_groups"][0]["params"] = [7, 8]
    elif kind == "another shape":
        training["network"]["weight"] = torch.zeros(3, 4)
    elif kind == "no best":
        state["best"] = {"wings": 2}
    elif kind == "seconds":
        state["seconds"] = [1]
    return [] if kind == "a list" else state


KINDS = ("no optimiser", "another parameter", "another shape", "no best", "seconds", "a list")


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_cannot_be_resumed(kind, tmp_path):
    plan = make_plan()
    loop = make_loop(tmp_path / "run", plan, save_every=1)
    loop.run()
    path = tmp_path / "run" / STATE
    torch.save(damaged(torch.load(path, weights_only=True), kind), path)
    with pytest.raises(InputError, match=r"state\.pt: is damaged; delete it to start again"):
        make_loop(tmp_path / "run", plan)


def test_divergence(tmp_path):
    loop = make_loop(tmp_path / "run", make_plan())
    loop.trainer.network.weight.data.fill_(float("nan"))
    with pytest.raises(QuicksilverError, match="the training diverged in iteration 1; lower"):
        loop.run()


def test_memory_that_does_not_suffice(tmp_path, monkeypatch):
    loop = make_loop(tmp_path / "run", make_plan())

    def greedy():
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop.trainer, "step", greedy)
    with pytest.raises(InputError, match="device cpu: its memory does not suffice for this netw"):
        loop.run()
