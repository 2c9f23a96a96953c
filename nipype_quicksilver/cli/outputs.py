"""Files of commands: one run at a time writes into a folder, and none destroys its inputs."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def check_files(args: argparse.Namespace) -> None:
    """Refuse outputs that would destroy an input, and inputs that are none, before anything else.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments. Those whose names start with `output` are outputs, and what the command's
        `writes` returns, if it has one: files of an output folder, and those that belong to an
        output. All others are inputs.

    Raises
    ------
    InputError
        If an output is an input or another output; if an input is a named pipe or a device.
    """
    from nipype_quicksilver.spatial.files import check_apart, check_ordinary

    outputs, others = list[Path](), list[Path]()
    for name, value in vars(args).items():
        (outputs if name.startswith("output") else others).extend(_paths(value))
    for path in others:
        check_ordinary(path)
    outputs = [path for path in outputs if not os.path.isdir(path)]
    # The card of a network belongs to it.
    others += [path.with_suffix(".json") for path in others if path.suffix == ".safetensors"]
    check_apart([*outputs, *_written(args)], others)


def _paths(value: object) -> list[Path]:
    """Return the files among the values of an option."""
    if isinstance(value, list | tuple):
        return [path for item in value for path in _paths(item)]
    return [Path(value)] if isinstance(value, str | Path) else []


def _written(args: argparse.Namespace) -> list[Path]:
    written: list[Path] = args.writes(args) if "writes" in args else []
    return written


@contextlib.contextmanager
def output_folder(args: argparse.Namespace, record: str | None = None) -> Iterator[None]:
    """Hold the lock of `--output-dir`; refuse it if the command could not write into it.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments.
    record : str, optional
        The file that lists the others, see `folders.check_replaceable`.

    Raises
    ------
    InputError
        If the folder cannot be written to, or holds a folder, or a file of other origin, where a
        file is to be written.
    """
    from nipype_quicksilver.spatial.folders import (
        check_no_folder,
        check_replaceable,
        output_folder,
    )

    for path in _written(args):
        check_no_folder(path)
    with output_folder(args.output_dir):
        if record is not None:
            check_replaceable(args.output_dir, [path.name for path in _written(args)], record)
        yield
