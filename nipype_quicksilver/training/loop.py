"""The loop of a training: iterations, logs, validations and states, until the end."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nipype_quicksilver.errors import InputError, QuicksilverError, is_out_of_memory
from nipype_quicksilver.training.folder import (
    LOG,
    TENSORBOARD,
    VALIDATION,
    Board,
    Run,
    Table,
)
from nipype_quicksilver.training.recipes import Plan

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nipype_quicksilver.training.distributed import Processes

# Rows of the log are written together, to spare the disk; and before every state.
_ROWS = 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How a training goes.

    Attributes
    ----------
    iteration, iterations : int
    loss : float
        Running mean.
    validation : dict
        The last numbers, empty before the first.
    seconds_left : float
    """

    iteration: int
    iterations: int
    loss: float
    validation: dict[str, float]
    seconds_left: float


Progress = Callable[[Status], None]


class Trainer(Protocol):
    """What does the iterations: `networks.training.Training`, `networks.regression`'s."""

    network: Any
    average: dict[str, torch.Tensor]
    iteration: int

    def step(self) -> Any:
        """Do one iteration."""

    def state(self) -> dict[str, Any]:
        """Return everything that a continuation needs."""

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


@dataclass(frozen=True)
class Task:
    """A trainer and what belongs to its kind.

    Attributes
    ----------
    trainer : Trainer
    judge : callable or None
        Given a network, and whether to judge no deformation instead, it returns the numbers of
        the validation.
    model : dict
        What the card tells of the LDDMM model: spacing, velocity_factor, kernel, steps.
    columns : tuple of str
        Numbers of an iteration.
    before : list of dict or None
        The networks before this one.
    """

    trainer: Trainer
    judge: Callable[[nn.Module, bool], dict[str, float]] | None
    model: dict[str, Any]
    columns: tuple[str, ...]
    before: Any = None


class Loop:
    """Iterations, logs, validations and states, until the end."""

    def __init__(
        self,
        run: Run,
        task: Task,
        plan: Plan,
        processes: Processes,
        save_every: int,
        progress: Progress | None,
    ) -> None:
        self._run, self._task, self._plan = run, task, plan
        self._processes, self._every = processes, save_every
        self._progress = progress
        self.trainer = task.trainer
        #: Weights of the best validation, its numbers, and validations since; without any
        #: validation nothing.
        self.best: dict[str, Any] = {"weights": None, "numbers": {}, "iteration": 0, "since": 0}
        self.identity: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.seconds = 0.0
        state = run.load(processes.device)
        if state is not None:
            self.trainer.resume(state["training"])
            self.best, self.identity = state["best"], state["identity"]
            self.last, self.seconds = state["last"], state["seconds"]
            _logger.info("going on after iteration %d", self.trainer.iteration)
        # Without a state also the validation before the first iteration is done again.
        done = -1 if state is None else self.trainer.iteration
        self._log = Table(run.path(LOG), (*task.columns, "seconds"), done, writes=processes.first)
        self._validations = Table(
            run.path(VALIDATION),
            ("iteration", "loss", *self._measured()),
            done,
            writes=processes.first,
        )
        self._board = Board(run.path(TENSORBOARD), done, writes=processes.first)
        self._rows: list[dict[str, Any]] = []

    def _measured(self) -> tuple[str, ...]:
        return tuple(name for name in self._task.columns if name not in ("iteration", "loss"))

    @property
    def finished(self) -> bool:
        """Whether all iterations are done, or no progress was seen for too long."""
        patience = self._plan.patience
        early = patience > 0 and self.best["since"] >= patience
        return early or self.trainer.iteration >= self._plan.training.iterations

    def go(self) -> None:
        """Train to the end."""
        try:
            if self.trainer.iteration == 0 and not self.finished and self._task.judge is not None:
                self.identity = self._task.judge(self.trainer.network, True)
                self._validations.add([{"iteration": 0, **self.identity}])
                self._board.add("validation", 0, self.identity)
            while not self.finished:
                self._iterate()
        finally:
            self._board.close()
        if self.trainer.iteration < self._plan.training.iterations:
            _logger.info("no better validation since iteration %d: stopped", self.best["iteration"])

    def _iterate(self) -> None:
        start = time.perf_counter()
        losses = dataclasses.asdict(self._step())
        iteration = self.trainer.iteration
        if not math.isfinite(losses["loss"]):
            raise QuicksilverError(
                f"{self._run.folder}: the training diverged in iteration {iteration}; lower the "
                "learning rate in the recipe and start again in another folder"
            )
        validated = False
        if self._task.judge is not None and (
            iteration % self._plan.every == 0 or iteration == self._plan.training.iterations
        ):
            self._validate()
            validated = True
        self.seconds += time.perf_counter() - start
        self._rows.append({**losses, "seconds": self.seconds})
        self._board.add(
            "training", iteration, {k: v for k, v in losses.items() if k != "iteration"}
        )
        if len(self._rows) >= _ROWS:
            self._flush()
        if validated or iteration % self._every == 0 or self.finished:
            self._save()
        self._tell(losses["loss"])

    def _step(self) -> Any:
        try:
            return self.trainer.step()
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, InputError) or not is_out_of_memory(error):
                raise
            raise InputError(
                f"device {self._processes.device}: its memory does not suffice for this network "
                "and grid; free some, or give a recipe with fewer features or a larger factor. "
                f"{self._run.folder} holds what was reached"
            ) from error

    def _validate(self) -> None:
        assert self._task.judge is not None
        trial = copy.deepcopy(self.trainer.network)
        trial.load_state_dict(self.trainer.average)
        self.last = self._task.judge(trial.eval(), False)
        iteration = self.trainer.iteration
        self._validations.add([{"iteration": iteration, **self.last}])
        self._board.add("validation", iteration, self.last)
        best = self.best["numbers"].get("loss", math.inf)
        if self.last["loss"] < best:
            weights = {name: value.clone() for name, value in self.trainer.average.items()}
            self.best = {
                "weights": weights,
                "numbers": self.last,
                "iteration": iteration,
                "since": 0,
            }
        else:
            self.best = {**self.best, "since": self.best["since"] + 1}

    def _save(self) -> None:
        self._flush()
        self._run.save(
            {
                "training": self.trainer.state(),
                "best": self.best,
                "identity": self.identity,
                "last": self.last,
                "seconds": self.seconds,
            }
        )

    def _flush(self) -> None:
        self._log.add(self._rows)
        self._rows = []

    def _tell(self, loss: float) -> None:
        if self._progress is None or not self._processes.first:
            return
        done, all_of_them = self.trainer.iteration, self._plan.training.iterations
        left = (all_of_them - done) * self.seconds / done
        self._progress(Status(done, all_of_them, loss, self.last, left))
