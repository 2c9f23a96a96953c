"""Declared options as arguments of commands, and the outputs of `optimize` and `predict`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nipype_quicksilver.cli import common
from nipype_quicksilver.declarations import Option
from nipype_quicksilver.options import OPTIONS, RegistrationOptions

if TYPE_CHECKING:
    from nipype_quicksilver.registration.conformed import MomentumResult
    from nipype_quicksilver.registration.pair import ScanFiles

    Writer = Callable[[Path], object]

# Options that `common.add_command` adds to every command.
_COMMON = ("seed",)

_logger = logging.getLogger(__name__)


def add_options(
    parser: argparse._ActionsContainer,
    names: Iterable[str] | None = None,
    options: Mapping[str, Option] = OPTIONS,
) -> None:
    """Add options of a registration by name, all of them by default."""
    for name in options if names is None else names:
        if name not in _COMMON:
            common.add_option(parser, options[name])


def chosen_options(args: argparse.Namespace, names: Iterable[str] = OPTIONS) -> RegistrationOptions:
    """Return the values of the options that :func:`add_options` added, by name."""
    return cast(RegistrationOptions, {name: getattr(args, name) for name in names})


def add_images(parser: argparse.ArgumentParser, note: str, files: Mapping[str, Option]) -> None:
    """Add `--fixed`, `--moving` and the files that belong to them.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Parser of the command.
    note : str
        Description of the expected images, for the help.
    files : mapping
        Declarations of the files, `SCAN_FILES` or `BRAIN_FILES`.
    """
    for side in ("fixed", "moving"):
        text = f"{side} image, {note}"
        parser.add_argument(f"--{side}", type=Path, required=True, metavar="FILE", help=text)
    for option in files.values():
        common.add_option(parser, option)


def scan_files(args: argparse.Namespace, side: str) -> ScanFiles:
    """Return the files of an image that :func:`add_images` added; `side` is fixed or moving."""
    from nipype_quicksilver.registration.pair import ScanFiles

    names = ("mask", "lesion_mask", "labels")
    files = {name: getattr(args, f"{side}_{name}", None) for name in names}
    return ScanFiles(getattr(args, side), **files)


def add_momentum_outputs(parser: argparse.ArgumentParser) -> None:
    """Add `--output` and `--output-json`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="momentum (.nii, .nii.gz)"
    )
    parser.add_argument(
        "--output-json", type=Path, metavar="FILE", help="also write a summary (.json)"
    )


def check_momentum_outputs(args: argparse.Namespace) -> None:
    """Raise an error if an output cannot be written, before anything is computed."""
    common.check_output(args.output, (".nii", ".nii.gz"))
    if args.output_json is not None:
        common.check_output(args.output_json, (".json",))


def write_momentum_result(
    args: argparse.Namespace, result: MomentumResult, others: dict[Path, Writer] | None = None
) -> None:
    """Write momentum, summary and further files, all or none, and log the similarity.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments with the options of :func:`add_momentum_outputs`.
    result : MomentumResult
        Momentum and summary.
    others : dict, optional
        Functions that write further files, by path.
    """
    from nipype_quicksilver.spatial.files import write_json, write_together
    from nipype_quicksilver.spatial.momentum import write_momentum
    from nipype_quicksilver.spatial.records import as_json

    writers: dict[Path, Writer] = {
        args.output: lambda path: write_momentum(path, result.momentum),
        **(others or {}),
    }
    if args.output_json is not None:
        writers[args.output_json] = lambda path: write_json(path, as_json(result.summary))
    write_together(writers)
    similarity = result.summary.similarity
    _logger.info(
        "local correlation %.4f before, %.4f after; wrote %s",
        similarity.before,
        similarity.after,
        args.output,
    )
