"""`quicksilver train`: train a network on label maps, images or momenta."""

from __future__ import annotations

import argparse
import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common, messages, outputs
from nipype_quicksilver.cli.progress import training_progress
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import ROLES

if TYPE_CHECKING:
    from nipype_quicksilver.training.distributed import Processes
    from nipype_quicksilver.training.plan import Plan
    from nipype_quicksilver.training.train import Trained


_DESCRIPTION = """\
Train a network that predicts initial momenta, on one of these:

  --labels   label maps alone: every iteration synthesises two images from them, with random
             shapes and contrasts; the loss is computed after the shooting
  --images   brains without skull, aligned to each other by their headers: the loss is their
             dissimilarity after the shooting; may be combined with label maps
  --momenta  pairs with optimised momenta, as in the 2017 paper: see 'quicksilver dataset'

The output folder holds the state of the training. The same command with the same folder resumes
an interrupted training; the resulting weights are bit-identical.
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
  recipe.json, run.json        how to repeat it: recipe, versions, inputs with their SHA-256
  state.pt                     state from which an interrupted training is resumed
"""


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
        "--output-dir", type=Path, required=True, metavar="RUN", help="folder; created if needed"
    )
    _add_data(parser)
    parser.add_argument(
        "--role",
        choices=ROLES,
        default=ROLES[0],
        help="role of the network (default: prediction)",
    )
    parser.add_argument(
        "--before",
        type=Path,
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="network that a correction network corrects; may be repeated, in order",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help="network with the initial weights (default: random weights)",
    )
    parser.add_argument(
        "--recipe",
        metavar="FILE|NAME",
        help="recipe (JSON), or the name of one in the package: prediction, probabilistic, "
        "correction, correction-fine, patch (default: the role; patch for momenta)",
    )
    parser.add_argument(
        "--iterations",
        type=common.positive_int,
        metavar="N",
        help="iterations (default: the recipe's)",
    )
    parser.add_argument(
        "--patience",
        type=common.whole_number,
        metavar="N",
        help="stop after N validations without improvement; 0 for no limit (default: the recipe's)",
    )
    parser.add_argument(
        "--save-every",
        type=common.positive_int,
        default=100,
        metavar="N",
        help="iterations between two states (default: 100)",
    )
    parser.add_argument("--name", help="name of the checkpoint (default: the role)")
    parser.add_argument(
        "--licence",
        default="not stated",
        metavar="TEXT",
        help="licence of the weights, for the card (default: not stated)",
    )
    parser.add_argument(
        "--half", action="store_true", help="store the weights as float16, in half the space"
    )
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    from nipype_quicksilver.training.folder import FILES

    name = args.name or args.role
    files = (f"{name}.safetensors", f"{name}.json", *FILES)
    return [args.output_dir / file for file in files]


def _add_data(parser: argparse.ArgumentParser) -> None:
    lists = {
        "--labels": "label maps, or folders of them",
        "--images": "brains without skull, or folders of them",
        "--image-labels": "label maps of the images, then of the validation images, in their "
        "order, on their grids",
        "--validation": "label maps for validation, or folders of them",
        "--validation-images": "brains for validation, or folders of them",
    }
    for option, text in lists.items():
        parser.add_argument(option, type=Path, nargs="+", default=[], metavar="PATH", help=text)
    parser.add_argument(
        "--momenta", type=Path, metavar="DIR", help="data set of 'quicksilver dataset'"
    )
    parser.add_argument(
        "--validation-momenta", type=Path, metavar="DIR", help="data set for validation"
    )
    parser.add_argument(
        "--tissues",
        type=Path,
        metavar="FILE",
        help="table of the labels and their tissues (default: FreeSurfer's aseg)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
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
    with joined(device) as processes, _folder(args, processes):
        if not processes.first:
            logging.getLogger("nipype_quicksilver").setLevel(logging.ERROR)
        with training_progress(args.quiet or not processes.first) as progress:
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


def _folder(
    args: argparse.Namespace, processes: Processes
) -> contextlib.AbstractContextManager[None]:
    """Hold the output folder in the process that writes."""
    return outputs.output_folder(args) if processes.first else contextlib.nullcontext()


def _plan(args: argparse.Namespace) -> Plan:
    """Return the recipe with the changes that the options ask for."""
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
        raise InputError(f"--name: '{name}' is not a file name; give one without a folder")
    if name in ("run", "recipe"):
        raise InputError(f"--name: {name}.json is a file of the training itself; give another name")
    return name


def _print(trained: Trained) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if trained.validation is not None:
        table = Table(
            "",
            "no deformation",
            "network",
            title=f"Validation after {trained.validation.iteration} iterations",
        )
        for name, value in trained.validation.after.items():
            before = trained.validation.before.get(name)
            table.add_row(
                name.replace("_", " "), "" if before is None else f"{before:.4f}", f"{value:.4f}"
            )
        console.print(table)
    messages.print_path("Checkpoint", trained.checkpoint)
