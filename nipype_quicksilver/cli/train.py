"""`quicksilver train`: train a network on label maps, images or momenta."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import ROLES

if TYPE_CHECKING:
    from nipype_quicksilver.training.loop import Progress, Status
    from nipype_quicksilver.training.recipes import Plan
    from nipype_quicksilver.training.train import Trained


_DESCRIPTION = """\
Train a network that predicts initial momenta, on one of these:

  --labels   label maps alone: every iteration makes two images from them, of another shape and
             contrast each time, and learns through the shooting
  --images   brains without skull, aligned to each other by their headers: learns to make them
             alike; may be mixed with label maps
  --momenta  pairs with optimised momenta, as in the 2017 paper: see 'quicksilver dataset'

The output folder keeps a state. The same command in the same folder goes on where it was
interrupted, and ends with the same weights.
"""
_EPILOG = """\
Examples:
  quicksilver train --labels training/ --validation validation/ --output-dir prediction
  quicksilver train --labels training/ --validation validation/ --output-dir correction \\
      --role correction --before prediction/prediction.safetensors
  torchrun --nproc-per-node 4 -m nipype_quicksilver train --labels training/ \\
      --output-dir prediction --device cuda

Files in the output folder:
  NAME.safetensors, NAME.json  the network and its card, at the end
  curve.png                    losses and validation over the iterations, at the end
  log.csv, validation.csv      the same as numbers; tensorboard/ where TensorBoard is installed
  recipe.json, run.json        how to do it again: recipe, versions, inputs with their SHA-256
  state.pt                     what an interrupted training goes on from
"""

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "train",
        summary="train a network on label maps, images or momenta",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="RUN", help="folder; made if needed"
    )
    _add_data(parser)
    parser.add_argument(
        "--role",
        choices=ROLES,
        default=ROLES[0],
        help="what the network is for (default: prediction)",
    )
    parser.add_argument(
        "--before",
        type=Path,
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="network whose momentum a correction network corrects; may be repeated, in order",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with the weights of this network instead of random ones",
    )
    parser.add_argument(
        "--recipe",
        metavar="FILE|NAME",
        help="recipe (JSON), or one that comes with the package: prediction, probabilistic, "
        "correction, correction-fine, patch (default: by the role; patch for momenta)",
    )
    parser.add_argument(
        "--iterations", type=common.positive_int, metavar="N", help="instead of the recipe's"
    )
    parser.add_argument(
        "--patience",
        type=common.whole_number,
        metavar="N",
        help="stop after N validations without improvement; 0 for never (default: the recipe's)",
    )
    parser.add_argument(
        "--save-every",
        type=common.positive_int,
        default=100,
        metavar="N",
        help="iterations between two states (default: 100)",
    )
    parser.add_argument("--name", help="of the checkpoint (default: the role)")
    parser.add_argument(
        "--licence",
        default="not stated",
        metavar="TEXT",
        help="licence of the weights, for the card (default: not stated)",
    )
    parser.add_argument(
        "--half", action="store_true", help="store the weights as float16: half the size"
    )
    parser.set_defaults(run=run)


def _add_data(parser: argparse.ArgumentParser) -> None:
    several = {
        "--labels": "label maps, or folders of them",
        "--images": "brains without skull, or folders of them",
        "--image-labels": "label maps of the images (then of the validation images), in their "
        "order, on their grids",
        "--validation": "label maps that the network is judged on",
        "--validation-images": "brains that the network is judged on",
    }
    for option, text in several.items():
        parser.add_argument(option, type=Path, nargs="+", default=[], metavar="PATH", help=text)
    parser.add_argument(
        "--momenta", type=Path, metavar="DIR", help="data set of 'quicksilver dataset'"
    )
    parser.add_argument(
        "--validation-momenta", type=Path, metavar="DIR", help="data set to be judged on"
    )
    parser.add_argument(
        "--tissues",
        type=Path,
        metavar="FILE",
        help="table of the labels and what they look like (default: FreeSurfer's aseg)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.spatial.folders import check_output_dir

    check_output_dir(args.output_dir)
    common.start_itk(args)
    device = common.start_torch(args)
    from nipype_quicksilver.training.data import Data
    from nipype_quicksilver.training.distributed import joined
    from nipype_quicksilver.training.train import train

    data = Data(
        labels=args.labels,
        validation_labels=args.validation,
        images=args.images,
        validation_images=args.validation_images,
        image_labels=args.image_labels,
        momenta=args.momenta,
        validation_momenta=args.validation_momenta,
        tissues=args.tissues,
    )
    with joined(device) as processes:
        if not processes.first:
            logging.getLogger("nipype_quicksilver").setLevel(logging.ERROR)
        with shown_progress(args, processes.first) as progress:
            trained = train(
                args.output_dir,
                data,
                _plan(args),
                role=args.role,
                before=args.before,
                start=args.start,
                name=_name(args.name),
                licence=args.licence,
                half=args.half,
                save_every=args.save_every,
                processes=processes,
                progress=progress,
            )
        if processes.first and not args.quiet:
            _print(trained)
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    """Return the recipe with what the options change."""
    from nipype_quicksilver.data import SHIPPED, shipped_recipe
    from nipype_quicksilver.training.recipes import read_plan

    name = args.recipe or ("patch" if args.momenta is not None else args.role)
    plan = read_plan(shipped_recipe(name) if name in SHIPPED else name)
    changes = {} if args.iterations is None else {"iterations": args.iterations}
    if args.seed:
        changes["seed"] = args.seed
    plan = replace(plan, training=replace(plan.training, **changes))
    return plan if args.patience is None else replace(plan, patience=args.patience)


def _name(name: str | None) -> str | None:
    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise InputError(f"--name: '{name}' is no name of a file; give one without a folder")
    if name in ("run", "recipe"):
        raise InputError(f"--name: {name}.json is a file of the training itself; give another name")
    return name


@contextlib.contextmanager
def shown_progress(args: argparse.Namespace, first: bool) -> Iterator[Progress | None]:
    """Show how a training goes, with the time left: a bar on a terminal, lines in a log.

    Parameters
    ----------
    args
        Parsed arguments; nothing is shown with `--quiet`.
    first
        Whether this process is the one that shows.

    Yields
    ------
    callable or None
        To be called with the status after each iteration.
    """
    if args.quiet or not first:
        yield None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Lines()


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(status: Status) -> None:
            bar.update(
                task,
                description=describe(status),
                completed=status.iteration,
                total=status.iterations,
            )

        yield show


class _Lines:
    """Logs the first and the last iteration, and one every so many seconds between."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._next = -math.inf

    def __call__(self, status: Status) -> None:
        if time.monotonic() >= self._next or status.iteration == status.iterations:
            self._next = time.monotonic() + self._seconds
            _logger.info("iteration %s", describe(status))


def describe(status: Status) -> str:
    """Return a line on how a training goes."""
    parts = [f"{status.iteration} of {status.iterations}", f"loss {status.loss:.4f}"]
    for name, text in (("overlap", "validation Dice"), ("loss", "validation loss")):
        value = status.validation.get(name, math.nan)
        if math.isfinite(value):
            parts.append(f"{text} {value:.4f}")
            break
    return ", ".join(parts) + f", {duration(status.seconds_left)} left"


def duration(seconds: float) -> str:
    """Return seconds as a user reads them.

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


def _print(trained: Trained) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if trained.validation:
        table = Table(
            "",
            "no deformation",
            "network",
            title=f"Validation after {trained.validation['iteration']} iterations",
        )
        for name, value in trained.validation["after"].items():
            before = trained.validation["before"].get(name)
            table.add_row(
                name.replace("_", " "), "" if before is None else f"{before:.4f}", f"{value:.4f}"
            )
        console.print(table)
    console.print(
        f"Checkpoint: {trained.checkpoint}", markup=False, highlight=False, soft_wrap=True
    )
