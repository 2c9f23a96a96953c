"""Progress of the commands: a bar on a terminal, lines in a log, nothing with `--quiet`."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nipype_quicksilver.cohort.progress import Status as CohortStatus
    from nipype_quicksilver.lddmm.optimize import Iteration
    from nipype_quicksilver.networks.predictor import SampleProgress
    from nipype_quicksilver.registration.fit import Progress as RegistrationProgress
    from nipype_quicksilver.training.loop import Progress as TrainingProgress
    from nipype_quicksilver.training.loop import Status as TrainingStatus

_INTERVAL = 30.0  # seconds between two lines in a log, at least

_logger = logging.getLogger(__name__)


@contextmanager
def registration_progress(quiet: bool) -> Iterator[RegistrationProgress | None]:
    """Show the progress of sampling and of the optimisation.

    In a log, there is a line for the last iteration of each stage, and one for every tenth of the
    samples.

    Parameters
    ----------
    quiet : bool
        Show nothing.

    Yields
    ------
    callable or None
        To be called with each sample and each iteration.
    """
    if quiet:
        yield None
        return
    from nipype_quicksilver.networks.predictor import SampleProgress

    with _display() as display:
        last: Iteration | None = None

        def show(step: Iteration | SampleProgress) -> None:
            nonlocal last
            if isinstance(step, SampleProgress):
                display.bar("samples", step.sample, step.samples)
                if 10 * step.sample // step.samples > 10 * (step.sample - 1) // step.samples:
                    display.log(f"{step.sample} of {step.samples} samples", always=True)
                return
            display.bar(f"stage {step.stage} of {step.stages}", step.iteration, step.iterations)
            if last is not None and last.stage != step.stage:
                display.log(describe_iteration(last), always=True)
            last = step

        yield show
        if last is not None:
            display.log(describe_iteration(last), always=True)


def describe_iteration(step: Iteration) -> str:
    """Return a line on an iteration of the optimisation."""
    return (
        f"stage {step.stage} of {step.stages}: {step.iteration} of {step.iterations} iterations, "
        f"energy {step.energy:.4g}, dissimilarity {step.similarity:.4g}"
    )


@contextmanager
def training_progress(quiet: bool) -> Iterator[TrainingProgress | None]:
    """Show the progress of a training.

    Parameters
    ----------
    quiet : bool
        Show nothing.

    Yields
    ------
    callable or None
        To be called with the status after each iteration.
    """
    if quiet:
        yield None
        return
    with _display() as display:

        def show(status: TrainingStatus) -> None:
            text = describe_training(status)
            display.bar(text, status.iteration, status.iterations)
            display.log(text, always=status.iteration == status.iterations)

        yield show


def describe_training(status: TrainingStatus) -> str:
    """Return a line on the status of a training."""
    parts = [f"iteration {status.iteration} of {status.iterations}", f"loss {status.loss:.4f}"]
    for name, text in (("overlap", "validation Dice"), ("loss", "validation loss")):
        value = status.validation.get(name, math.nan)
        if math.isfinite(value):
            parts.append(f"{text} {value:.4f}")
            break
    return ", ".join(parts) + f", {duration(status.seconds_left)} left"


@contextmanager
def cohort_progress(quiet: bool) -> Iterator[Callable[[CohortStatus], None]]:
    """Show the progress of a cohort; in a log, with a line whenever an image is done or failed.

    Parameters
    ----------
    quiet : bool
        Show nothing.

    Yields
    ------
    callable
        To be called with the status whenever it changes.
    """
    if quiet:
        yield lambda status: None
        return
    with _display() as display:
        last = (-1, -1)

        def show(status: CohortStatus) -> None:
            nonlocal last
            text, finished = describe_cohort(status), (status.done, status.failed)
            display.bar(text, sum(finished), status.total)
            display.log(text, always=finished != last)
            last = finished

        yield show


def describe_cohort(status: CohortStatus) -> str:
    """Return a line on the status of a cohort."""
    parts = [f"{status.done} of {status.total} done", f"{status.running} running"]
    if status.failed:
        parts.append(f"{status.failed} failed")
    if status.seconds_left and math.isfinite(status.seconds_left):
        parts.append(f"{duration(status.seconds_left)} left")
    return ", ".join(parts)


@contextmanager
def comparison_progress(quiet: bool, total: int) -> Iterator[Callable[[], None]]:
    """Show how many registrations of a comparison are done.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    total : int
        Number of registrations.

    Yields
    ------
    callable
        To be called after each registration.
    """
    if quiet:
        yield lambda: None
        return
    start, done = time.monotonic(), 0
    with _display() as display:

        def advance() -> None:
            nonlocal done
            done += 1
            text = f"{done} of {total} registrations"
            if done < total:
                seconds_left = (time.monotonic() - start) / done * (total - done)
                text += f", {duration(seconds_left)} left"
            display.bar(text, done, total)
            display.log(text, always=done == total)

        yield advance


class _Display:
    """Where progress is shown.

    Parameters
    ----------
    update : callable, optional
        Moves a bar: called with a text, what is done, and the total.
    """

    def __init__(self, update: Callable[[str, float, float], None] | None = None) -> None:
        self._update = update
        self._next = -math.inf

    def bar(self, text: str, done: float, total: float) -> None:
        """Move the bar, if there is one."""
        if self._update is not None:
            self._update(text, done, total)

    def log(self, text: str, *, always: bool) -> None:
        """Log a line where there is no bar: always, or else after some seconds without one."""
        if self._update is None and (always or time.monotonic() >= self._next):
            self._next = time.monotonic() + _INTERVAL
            _logger.info("%s", text)


@contextmanager
def _display() -> Iterator[_Display]:
    """Yield a bar on a terminal, else a log."""
    if not sys.stderr.isatty():
        yield _Display()
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(text: str, done: float, total: float) -> None:
            bar.update(task, description=escape(text), completed=done, total=total)

        yield _Display(update)


def duration(seconds: float) -> str:
    """Return seconds as text.

    Examples
    --------
    >>> duration(7384), duration(61), duration(3.2)
    ('2 h 03 min', '1 min 01 s', '3 s')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minute:02d} min"
    return f"{minute} min {second:02d} s" if minute else f"{second} s"
