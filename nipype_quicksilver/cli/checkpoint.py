"""`quicksilver checkpoint`: show, verify or import the checkpoint of a network."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli import common, messages
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import ROLES

if TYPE_CHECKING:
    from nipype_quicksilver.networks.card import Card

_DESCRIPTION = """\
Show or verify the checkpoint of a network, or import a network of the original Quicksilver project.
A checkpoint is a .safetensors file next to its card, a .json file of the same name.

  info    print the card
  verify  check that both files are complete, belong together and can be loaded
  import  read a .pth.tar file of the original project, and write OUTPUT and its card
"""
_EPILOG = """\
Examples:
  quicksilver checkpoint info prediction.safetensors
  quicksilver checkpoint verify prediction.safetensors
  quicksilver checkpoint import OASIS_predict.pth.tar oasis_prediction.safetensors
  quicksilver checkpoint import OASIS_correct.pth.tar oasis_correction.safetensors \\
      --role correction

A .pth.tar file is read as plain data; a file that contains code is rejected.
"""

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "checkpoint",
        summary="show, verify or import the checkpoint of a network",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("action", choices=tuple(_ACTIONS), help="what to do, see above")
    parser.add_argument("file", type=Path, metavar="FILE", help="the file to read")
    parser.add_argument(
        "output", type=Path, nargs="?", metavar="OUTPUT", help="for import: the file to write"
    )
    group = parser.add_argument_group("options of import")
    group.add_argument(
        "--role", choices=ROLES, help="what the network is for (default: prediction)"
    )
    group.add_argument(
        "--dropout",
        type=partial(
            common.number,
            allowed=lambda value: 0 <= value < 1,
            what="a number from 0 to less than 1",
        ),
        metavar="P",
        help="fraction of values to drop: 0.2 for the probabilistic network (default: 0)",
    )
    group.add_argument(
        "--no-equalization",
        action="store_true",
        help="the network expects images whose histograms are not equalised",
    )
    group.add_argument("--licence", metavar="TEXT", help="licence of the weights, for the card")
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    """Return the card that is written next to the checkpoint."""
    return [] if args.output is None else [args.output.with_suffix(".json")]


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    if args.action == "import":
        if args.output is None:
            raise InputError("checkpoint import: give the name of the file to write after FILE")
    elif args.output is not None:
        raise InputError(f"checkpoint {args.action} takes one file; leave out '{args.output}'")
    elif _import_options(args) or args.no_equalization:
        raise InputError("--role, --dropout, --no-equalization, --licence: for import only")
    _ACTIONS[args.action](args)
    return 0


def _info(args: argparse.Namespace) -> None:
    from nipype_quicksilver.networks.card import read_card

    _print_card(args.file, read_card(args.file))


def _verify(args: argparse.Namespace) -> None:
    from nipype_quicksilver.networks.checkpoint import count_weights, load_checkpoint

    common.start_torch(args)
    network, card = load_checkpoint(args.file)
    _logger.info(
        "%s: complete, with its card: %s network for %s, %s weights",
        args.file,
        card.architecture,
        card.role,
        f"{count_weights(network):,}",
    )


def _import(args: argparse.Namespace) -> None:
    from nipype_quicksilver.networks.card import CARD_SUFFIX, WEIGHTS_SUFFIX

    common.check_output(args.output, (WEIGHTS_SUFFIX,))
    common.start_torch(args)
    from nipype_quicksilver.networks.checkpoint import count_weights, save_checkpoint
    from nipype_quicksilver.networks.original import read_original

    network, card = read_original(
        args.file, equalize=not args.no_equalization, **_import_options(args)
    )
    save_checkpoint(args.output, network, card)
    _logger.info(
        "wrote %s, %s weights, and its card %s",
        args.output,
        f"{count_weights(network):,}",
        args.output.with_suffix(CARD_SUFFIX).name,
    )


def _import_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of import that are set."""
    options = {"role": args.role, "dropout": args.dropout, "licence": args.licence}
    return {name: value for name, value in options.items() if value is not None}


_ACTIONS = {"info": _info, "verify": _verify, "import": _import}


def _print_card(path: Path, card: Card) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    # Long values are wrapped, not cut: a hash must be complete.
    columns = (Column("", overflow="fold"), Column("value", overflow="fold"))
    table = Table(*columns, title=escape(messages.shown(path.name)))
    for name, value in _lines(card.as_json()):
        table.add_row(escape(messages.shown(name)), escape(messages.shown(value)))
    Console().print(table)


def _lines(part: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the entries of nested dictionaries, one line each."""
    lines: list[tuple[str, Any]] = []
    for key, value in part.items():
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{prefix}{key}.")
        elif value not in ({}, ""):
            lines.append((f"{prefix}{key}", value))
    return lines
