"""What every trainer does: the running average, the state, and seeds."""

import pytest
import torch
from torch import nn

from nipype_quicksilver.training.on_momenta import PatchRecipe
from nipype_quicksilver.training.trainer import Losses, Trainer


class Sum(Trainer):
    """Reduces the sum of its weights, so that Adam's steps are known."""

    def step(self):
        self.optimizer.zero_grad()
        self.network.weight.sum().backward()
        self._finish_iteration()
        return Losses(self.iteration, self.network.weight.sum().item())


def make_trainer(averaging=0.9, rank=0, ranks=1):
    network = nn.Linear(2, 1, bias=False)
    nn.init.ones_(network.weight)
    return Sum(network, PatchRecipe(learning_rate=0.1, averaging=averaging, seed=3), rank, ranks)


def test_running_average_forgets_faster_at_the_beginning():
    trainer = make_trainer()
    average = 1.0
    for iteration in range(4):
        trainer.step()
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        average = decay * average + (1 - decay) * (1 - 0.1 * (iteration + 1))
        assert float(trainer.average["weight"][0, 0]) == pytest.approx(average, rel=1e-4)


def test_without_averaging_the_last_weights_are_kept():
    trainer = make_trainer(averaging=0.0)
    trainer.step()
    assert torch.equal(trainer.average["weight"], trainer.network.state_dict()["weight"])


def test_state_holds_all_that_is_needed_to_resume():
    whole, first, second = make_trainer(), make_trainer(), make_trainer()
    for _ in range(2):
        first.step()
    second.resume(first.state())
    for _ in range(4):
        whole.step()
    for _ in range(2):
        second.step()
    assert second.iteration == 4
    assert torch.equal(whole.network.weight, second.network.weight)
    assert torch.equal(whole.average["weight"], second.average["weight"])


def test_seeds_differ_between_iterations_and_processes():
    seeds = set()
    for rank in range(2):
        trainer = make_trainer(rank=rank, ranks=2)
        for _ in range(3):
            seeds.add(trainer._seed())
            trainer.step()
    assert len(seeds) == 6


def test_columns_are_those_of_the_losses():
    assert make_trainer().columns == ("iteration", "loss")
