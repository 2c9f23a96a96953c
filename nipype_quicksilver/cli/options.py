"""What `register`, `optimize` and `predict` share: options, progress, and what is written."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common
from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.options import ROLES

if TYPE_CHECKING:
    from nipype_quicksilver.lddmm.optimize import Iteration
    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.networks.predictor import Drawn
    from nipype_quicksilver.registration.conformed import Found
    from nipype_quicksilver.registration.fit import Progress

    Writer = Callable[[Path], object]

#: The names that `nipype_quicksilver.lddmm.similarity` knows; that module needs torch.
SIMILARITIES = ("lncc", "ssd", "mind")
#: Options for masks, and what each of them is.
MASKS = {
    "--fixed-mask": "brain of the fixed image (default: what is not zero)",
    "--moving-mask": "brain of the moving image (default: what is not zero)",
    "--fixed-lesion-mask": "part of the fixed image without counterpart, not compared",
    "--moving-lesion-mask": "part of the moving image without counterpart, not compared",
}

_logger = logging.getLogger(__name__)


def add_images(parser: argparse.ArgumentParser, note: str) -> None:
    """Add `--fixed`, `--moving` and the masks; `note` tells what images are expected."""
    parser.add_argument(
        "--fixed", type=Path, required=True, metavar="FILE", help=f"fixed image, {note}"
    )
    parser.add_argument(
        "--moving", type=Path, required=True, metavar="FILE", help=f"moving image, {note}"
    )
    for option, text in MASKS.items():
        parser.add_argument(option, type=Path, metavar="FILE", help=text)


def mask_names() -> list[str]:
    """Return the names that the masks have among parsed arguments."""
    return [option[2:].replace("-", "_") for option in MASKS]


def add_checkpoints(parser: argparse._ActionsContainer) -> None:
    """Add `--prediction-network` and `--correction-network`."""
    for role in ROLES:
        parser.add_argument(
            f"--{role}-network",
            type=Path,
            metavar="FILE",
            help=f"checkpoint of the {role} network (default: that of the package)",
        )


def add_networks(parser: argparse._ActionsContainer) -> None:
    """Add what :func:`add_checkpoints` adds, and `--samples`."""
    add_checkpoints(parser)
    parser.add_argument(
        "--samples",
        type=common.positive_int,
        metavar="N",
        help="draw so many momenta from a probabilistic network, at least 2: their mean is taken, "
        "and how far off it may be is told (default: a deterministic prediction)",
    )


def add_momentum_outputs(parser: argparse.ArgumentParser) -> None:
    """Add `--output` and `--output-json`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="momentum (.nii, .nii.gz)"
    )
    parser.add_argument(
        "--output-json", type=Path, metavar="FILE", help="also write how it went (.json)"
    )


def check_momentum_outputs(args: argparse.Namespace) -> None:
    """Refuse outputs that could not be written, before anything is computed."""
    common.check_output(args.output, (".nii", ".nii.gz"))
    if args.output_json is not None:
        common.check_output(args.output_json, (".json",))


def write_found(
    args: argparse.Namespace, result: Found, others: dict[Path, Writer] | None = None
) -> None:
    """Write momentum, summary and what else there is; all or nothing.

    Parameters
    ----------
    args
        Parsed arguments with the options of :func:`add_momentum_outputs`.
    result
        What was found.
    others
        Functions that write further files, by the files' names.
    """
    from nipype_quicksilver.spatial.files import staged, write_json
    from nipype_quicksilver.spatial.momentum import write_momentum

    writers: dict[Path, Writer] = {
        args.output: lambda path: write_momentum(path, result.momentum),
        **(others or {}),
    }
    if args.output_json is not None:
        writers[args.output_json] = lambda path: write_json(path, result.summary)
    with contextlib.ExitStack() as stack:
        for file, write in writers.items():
            temporary = stack.enter_context(staged(file))
            try:
                write(temporary)
            except QuicksilverError as error:
                # The user knows the file by its final name.
                message = str(error).replace(str(temporary), str(file))
                raise type(error)(message) from error


def log_momentum(args: argparse.Namespace, result: Found) -> None:
    """Say how alike the images became, and what was written."""
    similarity = result.summary["similarity"]
    _logger.info(
        "local correlation %.4f before, %.4f after; wrote %s",
        similarity["before"],
        similarity["after"],
        args.output,
    )


def add_settings(parser: argparse._ActionsContainer) -> None:
    """Add `--similarity` and `--iterations`."""
    parser.add_argument(
        "--similarity",
        choices=SIMILARITIES,
        help="lncc: local correlation, for one contrast; mind: self-similarity, for different "
        "contrasts; ssd: squared differences (default: lncc)",
    )
    parser.add_argument(
        "--iterations",
        type=iteration_numbers,
        metavar="AxBxC",
        help="iterations at most in each stage of the schedule, coarse to fine, of which the last "
        "only measures; 0 leaves a stage out (default: those of the schedule)",
    )


def iteration_numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers in `20x15x25`."""
    parts = text.split("x")
    if not all(part.isascii() and part.isdigit() and int(part) < 10**6 for part in parts):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a number of iterations for each stage: give AxBxC"
        )
    return tuple(int(part) for part in parts)


def chosen_settings(args: argparse.Namespace, schedule: str = "full") -> Settings:
    """Return the default settings with what the options change.

    Parameters
    ----------
    args
        Parsed arguments with the options of :func:`add_settings`.
    schedule
        One of :data:`nipype_quicksilver.options.SCHEDULES`.

    Returns
    -------
    Settings
        Of the optimisation.

    Raises
    ------
    InputError
        If `--iterations` has another number of stages than the schedule, or only zeros.
    """
    from nipype_quicksilver.lddmm.settings import SCHEDULES

    settings = SCHEDULES[schedule]
    if args.similarity is not None:
        settings = replace(settings, similarity=args.similarity)
    if args.iterations is None:
        return settings
    default = "x".join(str(stage.iterations) for stage in settings.stages)
    if len(args.iterations) != len(settings.stages):
        number = len(settings.stages)
        raise InputError(
            f"--iterations: the schedule has {number} stage{'' if number == 1 else 's'}; give as "
            f"many numbers, such as {default}"
        )
    stages = tuple(
        replace(stage, iterations=number)
        for stage, number in zip(settings.stages, args.iterations, strict=True)
        if number > 0  # 0 leaves a stage out
    )
    if not stages:
        raise InputError(f"--iterations: one stage must have iterations, such as {default}")
    return replace(settings, stages=stages)


@contextlib.contextmanager
def shown_progress(args: argparse.Namespace) -> Iterator[Progress | None]:
    """Show how sampling and optimisation go: a bar on a terminal, a line per stage in a log.

    Parameters
    ----------
    args
        Parsed arguments; nothing is shown with `--quiet`.

    Yields
    ------
    callable or None
        To be called with each sample and each iteration.
    """
    if args.quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        log = _StageLog()
        yield log
        log.flush()


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from nipype_quicksilver.networks.predictor import Drawn

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(seen: Iteration | Drawn) -> None:
            if isinstance(seen, Drawn):
                bar.update(task, description="samples", completed=seen.sample, total=seen.samples)
            else:
                bar.update(
                    task,
                    description=f"stage {seen.stage} of {seen.stages}",
                    completed=seen.iteration,
                    total=seen.iterations,
                )

        yield show


class _StageLog:
    """Logs the last iteration of each stage; which one that is shows when the next begins.

    Of many samples it logs every tenth part.
    """

    def __init__(self) -> None:
        self._last: Iteration | None = None

    def __call__(self, seen: Iteration | Drawn) -> None:
        """Take a sample or an iteration."""
        from nipype_quicksilver.networks.predictor import Drawn

        if isinstance(seen, Drawn):
            done, before = (10 * n // seen.samples for n in (seen.sample, seen.sample - 1))
            if done > before:
                _logger.info("%d of %d samples", seen.sample, seen.samples)
            return
        if self._last is not None and self._last.stage != seen.stage:
            self.flush()
        self._last = seen

    def flush(self) -> None:
        """Log what was seen last."""
        if self._last is not None:
            _logger.info(
                "stage %d of %d: %d of %d iterations, energy %.4g, dissimilarity %.4g",
                self._last.stage,
                self._last.stages,
                self._last.iteration,
                self._last.iterations,
                self._last.energy,
                self._last.similarity,
            )
            self._last = None
