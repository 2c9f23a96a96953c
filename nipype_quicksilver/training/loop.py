"""The training loop: iterations, logs, validations and states."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from nipype_quicksilver.errors import InputError, QuicksilverError, is_out_of_memory
from nipype_quicksilver.training.distributed import Processes
from nipype_quicksilver.training.folder import (
    LOG,
    STATE,
    TENSORBOARD,
    VALIDATION,
    Board,
    Table,
    TrainingFolder,
    damaged_state,
)
from nipype_quicksilver.training.plan import Plan
from nipype_quicksilver.training.trainer import Losses, Task

# Rows of the log are written in groups of this size, and before every state.
_ROWS = 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """State of a training after an iteration.

    Attributes
    ----------
    iteration, iterations : int
        Number of iterations done, and of all.
    loss : float
        Loss of the iteration.
    validation : dict
        Numbers of the last validation, empty before the first.
    seconds_left : float
        Estimated time to the last iteration.
    """

    iteration: int
    iterations: int
    loss: float
    validation: dict[str, float]
    seconds_left: float


Progress = Callable[[Status], None]


@dataclass(frozen=True)
class Best:
    """The best validation so far.

    Attributes
    ----------
    weights : dict or None
        The running average of the weights; None before the first validation.
    numbers : dict
        Numbers of the validation.
    iteration : int
    since : int
        Number of validations since then.
    """

    weights: dict[str, torch.Tensor] | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    iteration: int = 0
    since: int = 0


class Loop:
    """Trains a network, from the last state in the folder if there is one.

    Parameters
    ----------
    folder : TrainingFolder
    task : Task
    plan : Plan
    processes : Processes
    save_every : int
        Iterations between two states.
    progress : callable, optional
        Called after each iteration, by the first process.

    Attributes
    ----------
    best : Best
    identity : dict
        Numbers of the validation without deformation.
    last : dict
        Numbers of the last validation.
    seconds : float
        Time spent in iterations and validations, over all sessions.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        task: Task,
        plan: Plan,
        processes: Processes,
        save_every: int,
        progress: Progress | None,
    ) -> None:
        self._folder, self._task, self.plan = folder, task, plan
        self._processes, self._save_every = processes, save_every
        self._progress = progress
        self.trainer = task.trainer
        self.best = Best()
        self.identity: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.seconds = 0.0
        state = folder.load(processes.device)
        if state is not None:
            self._resume(state)
            _logger.info("resuming after iteration %d", self.trainer.iteration)
        # Without a state, the validation before the first iteration is repeated, too.
        done = -1 if state is None else self.trainer.iteration
        columns, writes = self.trainer.columns, processes.first
        measures = [name for name in columns if name not in ("iteration", "loss")]
        self._log = Table(folder.path(LOG), (*columns, "seconds"), done, writes=writes)
        self._validations = Table(
            folder.path(VALIDATION), ("iteration", "loss", *measures), done, writes=writes
        )
        self._board = Board(folder.path(TENSORBOARD), done, writes=writes)
        self._rows: list[dict[str, Any]] = []

    def _resume(self, state: dict[str, Any]) -> None:
        """Continue from a state; raise an error if it is not one of this training."""
        try:
            self.trainer.resume(state["training"])
            self.best, self.identity = Best(**state["best"]), state["identity"]
            self.last, self.seconds = state["last"], float(state["seconds"])
        # A damaged state has other keys, types or shapes than those that were written.
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise damaged_state(self._folder.path(STATE)) from error

    @property
    def finished(self) -> bool:
        """Whether all iterations are done, or validations have not improved for too long."""
        patience = self.plan.patience
        early = patience > 0 and self.best.since >= patience
        return early or self.trainer.iteration >= self.plan.training.iterations

    def run(self) -> None:
        """Train to the end."""
        validate = self._task.validate
        try:
            if self.trainer.iteration == 0 and not self.finished and validate is not None:
                self.identity = validate(self.trainer.network, True)
                self._validations.add([{"iteration": 0, **self.identity}])
                self._board.add("validation", 0, self.identity)
            while not self.finished:
                self._iterate()
        finally:
            self._board.close()
        if self.trainer.iteration < self.plan.training.iterations:
            _logger.info("no better validation since iteration %d: stopped", self.best.iteration)

    def _iterate(self) -> None:
        start = time.perf_counter()
        losses = dataclasses.asdict(self._step())
        iteration = self.trainer.iteration
        if not math.isfinite(losses["loss"]):
            raise QuicksilverError(
                f"{self._folder.folder}: the training diverged in iteration {iteration}; lower the "
                "learning rate in the recipe and start again in another folder"
            )
        validated = False
        if self._task.validate is not None and (
            iteration % self.plan.every == 0 or iteration == self.plan.training.iterations
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
        if validated or iteration % self._save_every == 0 or self.finished:
            self._save()
        self._report(losses["loss"])

    def _step(self) -> Losses:
        try:
            return self.trainer.step()
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, InputError) or not is_out_of_memory(error):
                raise
            raise InputError(
                f"device {self._processes.device}: its memory does not suffice for this network "
                "and grid; free some, or give a recipe with fewer features or a larger factor. "
                f"{self._folder.folder} holds what was reached"
            ) from error

    def _validate(self) -> None:
        assert self._task.validate is not None
        trial = copy.deepcopy(self.trainer.network)
        trial.load_state_dict(self.trainer.average)
        self.last = self._task.validate(trial.eval(), False)
        iteration = self.trainer.iteration
        self._validations.add([{"iteration": iteration, **self.last}])
        self._board.add("validation", iteration, self.last)
        if self.last["loss"] < self.best.numbers.get("loss", math.inf):
            weights = {name: value.clone() for name, value in self.trainer.average.items()}
            self.best = Best(weights, self.last, iteration)
        else:
            self.best = dataclasses.replace(self.best, since=self.best.since + 1)

    def _save(self) -> None:
        self._flush()
        self._folder.save(
            {
                "training": self.trainer.state(),
                "best": vars(self.best),
                "identity": self.identity,
                "last": self.last,
                "seconds": self.seconds,
            }
        )

    def _flush(self) -> None:
        self._log.add(self._rows)
        self._rows = []

    def _report(self, loss: float) -> None:
        if self._progress is None or not self._processes.first:
            return
        iteration, iterations = self.trainer.iteration, self.plan.training.iterations
        seconds_left = (iterations - iteration) * self.seconds / iteration
        self._progress(Status(iteration, iterations, loss, self.last, seconds_left))
