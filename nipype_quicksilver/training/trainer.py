"""What every training has: a network, its optimiser, and the running average of its weights."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import nn

from nipype_quicksilver.training.digests import FileDigest
from nipype_quicksilver.training.model import LddmmModel

_Network = TypeVar("_Network", bound=nn.Module)


class Schedule(Protocol):
    """The part of a recipe that every trainer reads."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of Adam."""

    @property
    def averaging(self) -> float:
        """Decay of the running average of the weights."""

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""


@dataclass(frozen=True)
class Losses:
    """Numbers of one iteration: its index, from 1 on, and the loss."""

    iteration: int
    loss: float


class Trainer(ABC, Generic[_Network]):
    """A network in training; a subclass says how one iteration is done.

    Parameters
    ----------
    network : torch.nn.Module
    schedule : Schedule
    rank, ranks : int
        Index of this process, and the number of processes that train the network together, each
        on data of its own.
    """

    #: The class of what :meth:`step` returns; its fields are the columns of the log.
    losses: ClassVar[type[Losses]] = Losses

    def __init__(self, network: _Network, schedule: Schedule, rank: int, ranks: int) -> None:
        self._schedule = schedule
        self.network = network
        self.rank, self.ranks = rank, ranks
        self.optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
        self.average = {name: t.clone() for name, t in network.state_dict().items()}
        self.iteration = 0

    @abstractmethod
    def step(self) -> Losses:
        """Do one iteration."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers of an iteration."""
        return tuple(field.name for field in dataclasses.fields(self.losses))

    def state(self) -> dict[str, Any]:
        """Return everything that is needed to resume the training."""
        return {
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.iteration = state["iteration"]
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])

    def _seed(self) -> int:
        """Return the seed of this process in this iteration."""
        return self._schedule.seed * 1_000_003 + self.iteration * self.ranks + self.rank

    @torch.no_grad()
    def _finish_iteration(self) -> None:
        """Take the step of the optimiser, and update the running average of the weights."""
        self.optimizer.step()
        # Early on the average forgets faster, so that it does not keep the initial weights.
        decay = min(self._schedule.averaging, (1 + self.iteration) / (10 + self.iteration))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        self.iteration += 1


@dataclass(frozen=True)
class Task:
    """A trainer, how its network is validated, and what the card records of both.

    Attributes
    ----------
    trainer : Trainer
    validate : callable or None
        Called with a network, and whether to measure no deformation instead of its prediction; it
        returns the numbers of the validation. None without validation data.
    model : LddmmModel
    before : list of FileDigest
        The networks that are applied before this one.
    """

    trainer: Trainer[Any]
    validate: Callable[[nn.Module, bool], dict[str, float]] | None
    model: LddmmModel
    before: list[FileDigest]
