"""What every training has: a network, an optimiser, and the running average that is kept."""

from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


class Schedule(Protocol):
    """What a trainer needs of a recipe, see `training.Recipe` and `regression.PatchRecipe`."""

    @property
    def learning_rate(self) -> float:
        """Of Adam."""

    @property
    def averaging(self) -> float:
        """Decay of the running average of the weights."""

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""


class Trainer(Generic[_Network]):
    """A network on its way.

    Parameters
    ----------
    network : torch.nn.Module
    schedule : Schedule
    rank, ranks : int
        Number of this process, and of all that train the network together, on data of their own.
    """

    def __init__(self, network: _Network, schedule: Schedule, rank: int, ranks: int) -> None:
        self._schedule = schedule
        self.network = network
        self.rank, self.ranks = rank, ranks
        self.optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
        self.average = {name: t.clone() for name, t in network.state_dict().items()}
        self.iteration = 0

    def state(self) -> dict[str, Any]:
        """Return everything that a continuation needs."""
        return {
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.iteration = state["iteration"]
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])

    def _seed(self) -> int:
        """Return the seed of this process in this iteration."""
        return self._schedule.seed * 1_000_003 + self.iteration * self.ranks + self.rank

    @torch.no_grad()
    def _finish_iteration(self) -> None:
        """Take the step of the optimiser, into the average too."""
        self.optimizer.step()
        # Young averages forget faster, else they would remember the beginning too long.
        decay = min(self._schedule.averaging, (1 + self.iteration) / (10 + self.iteration))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        self.iteration += 1
