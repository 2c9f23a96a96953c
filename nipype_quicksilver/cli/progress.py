"""How a cohort goes and how it went, on a terminal or in a log."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli.train import duration

if TYPE_CHECKING:
    from nipype_quicksilver.cohort.progress import Status

_logger = logging.getLogger(__name__)


@contextmanager
def shown(quiet: bool) -> Iterator[Callable[[Status], object]]:
    """Show how a cohort goes: a bar on a terminal, lines in a log, nothing with `--quiet`."""
    if quiet:
        yield lambda status: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            yield lambda status: bar.update(
                task,
                description=describe(status),
                completed=status.done + status.failed,
                total=status.total,
            )
    else:
        yield _Lines()


class _Lines:
    """Logs a line whenever an image is done or failed, and else one every so many seconds."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds, self._next, self._seen = seconds, -math.inf, (-1, -1)

    def __call__(self, status: Status) -> None:
        seen = (status.done, status.failed)
        if seen != self._seen or time.monotonic() >= self._next:
            self._seen, self._next = seen, time.monotonic() + self._seconds
            _logger.info("%s", describe(status))


def describe(status: Status) -> str:
    """Return a line on how a cohort goes."""
    parts = [f"{status.done} of {status.total} done", f"{status.running} at work"]
    if status.failed:
        parts.append(f"{status.failed} failed")
    if status.seconds_left and math.isfinite(status.seconds_left):
        parts.append(f"{duration(status.seconds_left)} left")
    return ", ".join(parts)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print what is typical of the registrations of a cohort, and the extremes."""
    from statistics import median

    from rich.console import Console
    from rich.table import Table

    table = Table("", "median", "lowest", "highest", title=f"{len(rows)} registrations")
    names = {
        "similarity_before": "local correlation before",
        "similarity_after": "local correlation after",
        "dice_before": "Dice before",
        "dice_after": "Dice after",
        "folded_voxels": "folded voxels",
        "inverse_consistency": "inverse consistency, mm",
        "seconds": "seconds",
    }
    for name, text in names.items():
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            numbers = (median(values), min(values), max(values))
            table.add_row(text, *(f"{number:.4g}" for number in numbers))
    Console().print(table)
