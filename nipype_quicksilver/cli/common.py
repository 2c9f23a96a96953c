"""Shared by all sub-commands: options, logging, threads, device and working folder.

Importing this module loads the standard library only. The functions that need torch or
SimpleITK (`start_torch`, `start_itk`) import them when they are called.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nipype_quicksilver import __version__
from nipype_quicksilver.cli.messages import shown
from nipype_quicksilver.declarations import Kind, Option
from nipype_quicksilver.errors import InputError, QuicksilverError, is_out_of_memory
from nipype_quicksilver.execution.leftovers import temporary_folder
from nipype_quicksilver.execution.processes import end_with_parent, keep_freed_memory
from nipype_quicksilver.execution.resources import available_cpus
from nipype_quicksilver.steps import DEVICE, SEED

if TYPE_CHECKING:
    import torch

PROGRAM = "quicksilver"
_MAX_SHOWN = 6  # choices in the usage; longer lists are shown in the help only

#: Parent of every logger of the package.
logger = logging.getLogger("nipype_quicksilver")

Subparsers = argparse._SubParsersAction  # the argument of `add_parser` functions


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and whose options are never abbreviated."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        print_error(f"{message} (see '{self.prog} --help')")
        self.exit(2)


class CommandList(argparse.HelpFormatter):
    """Help in which the longest command stands on one line with its summary.

    argparse ignores the indentation of the commands when it computes the width of their column.
    """

    def add_argument(self, action: argparse.Action) -> None:
        """Add an option or the list of commands to the help."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            longest = max(map(len, action.choices), default=0)
            indent = self._current_indent + self._indent_increment
            self._action_max_length = max(self._action_max_length, longest + indent)


def add_command(
    subparsers: Subparsers, name: str, *, summary: str, description: str, epilog: str | None = None
) -> Parser:
    """Add a sub-command with the common options.

    Parameters
    ----------
    subparsers : argparse action
        Sub-parsers of the command line.
    name : str
        Name of the sub-command.
    summary : str
        Its line in the list of commands.
    description : str
        First paragraphs of its help; line breaks are kept.
    epilog : str, optional
        Last paragraphs of its help; line breaks are kept.

    Returns
    -------
    Parser
        Parser of the sub-command; set its function with `set_defaults(run=run)`.
    """
    parser: Parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common_options(parser)
    return parser


def add_version(parser: argparse._ActionsContainer) -> None:
    """Add `--version`."""
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("common options")
    volume = group.add_mutually_exclusive_group()
    volume.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    volume.add_argument(
        "--verbose", action="store_true", help="print details, and the traceback of an error"
    )
    group.add_argument(
        "--num-threads",
        type=positive_int,
        metavar="N",
        help="number of threads (default: the CPUs that this process may use)",
    )
    add_option(group, DEVICE)
    add_option(group, SEED)
    group.add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="folder in which intermediate files are kept (default: a temporary folder)",
    )
    add_version(group)


def add_option(parser: argparse._ActionsContainer, option: Option) -> None:
    """Add a declared option as an argument.

    Parameters
    ----------
    parser : argparse.ArgumentParser or group
        To which the argument is added.
    option : Option
        Declaration.
    """
    if option.kind is Kind.FLAG:
        parser.add_argument(option.flag, action="store_true", help=option.help)
        return
    text, keywords = option.help, dict[str, Any]()
    if option.kind is Kind.DEVICE:
        keywords |= {"type": partial(_checked, option), "metavar": "|".join(option.choices)}
    elif option.kind is Kind.NAME:
        keywords["choices"] = option.choices
        if len(option.choices) > _MAX_SHOWN:
            keywords["metavar"] = "NAME"
            text += ": " + ", ".join(option.choices)
    elif option.kind is Kind.NAME_OR_FILE:
        keywords["metavar"] = "|".join((*option.choices, "FILE"))
    elif option.kind is Kind.FILE:
        keywords |= {"type": Path, "metavar": "FILE"}
    elif option.kind is Kind.COUNT:
        keywords |= {"type": partial(number_from, least=option.least), "metavar": "N"}
    elif option.kind is Kind.COUNTS:
        keywords |= {"type": numbers_of_stages, "metavar": "AxBxC"}
    if option.default is not None:
        text += f" (default: {option.default})"
    parser.add_argument(option.flag, default=option.default, help=text, **keywords)


# Types of options; the text of an ArgumentTypeError becomes part of a usage error.


def positive_int(text: str) -> int:
    """Return the whole number in `text`, which must be at least 1."""
    return number_from(text, least=1)


def whole_number(text: str) -> int:
    """Return the whole number in `text`, which must be at least 0."""
    return number_from(text, least=0)


def number_from(text: str, *, least: int) -> int:
    """Return the whole number in `text`, which must be at least `least`."""
    if not re.fullmatch(r"[0-9]+", text) or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
    return int(text)


def number(text: str, *, allowed: Callable[[float], bool], what: str) -> float:
    """Return the number in `text`, which must be allowed; `what` describes such numbers."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return value


def numbers_of_stages(text: str) -> tuple[int, ...]:
    """Return the whole numbers of a text such as `20x15x25`."""
    parts = text.split("x")
    if not all(part.isascii() and part.isdigit() and int(part) < 10**6 for part in parts):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a number of iterations for each stage: give AxBxC"
        )
    return tuple(int(part) for part in parts)


def _checked(option: Option, text: str) -> str:
    """Return `text` if the option allows it."""
    try:
        option.check(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def start_torch(args: argparse.Namespace) -> torch.device:
    """Import torch, set its number of threads and its seed, and return the device.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments with the common options.

    Returns
    -------
    torch.device
        The device of `--device`; for `auto` the first GPU that torch can use, else the CPU.

    Raises
    ------
    InputError
        If the requested GPU is not available.
    """
    import torch

    from nipype_quicksilver.execution.devices import select_device

    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    return select_device(args.device)


def start_itk(args: argparse.Namespace) -> None:
    """Import SimpleITK, set its number of threads, and silence the warnings of its C++ code.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments with the common options.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(args.num_threads)
    sitk.ProcessObject.SetGlobalWarningDisplay(args.verbose)


@contextlib.contextmanager
def work_dir(args: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder for intermediate files.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments with the common options.

    Yields
    ------
    Path
        The folder of `--work-dir`, created if needed; by default a temporary folder, which is
        removed at the end.

    Raises
    ------
    InputError
        If the folder cannot be created or written to.
    """
    if args.work_dir is None:
        with temporary_folder() as folder:
            yield folder
        return
    try:
        args.work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{args.work_dir}: the folder cannot be created ({error.strerror}); "
            "give another --work-dir"
        ) from error
    if not os.access(args.work_dir, os.W_OK | os.X_OK):
        raise InputError(f"{args.work_dir}: cannot be written to; give another --work-dir")
    yield args.work_dir


def check_output(path: Path, suffixes: Sequence[str]) -> None:
    """Raise an error if an output file cannot be written, before anything is computed.

    Parameters
    ----------
    path : Path
        The output file.
    suffixes : sequence of str
        Allowed endings of its name, such as `.nii.gz`.

    Raises
    ------
    InputError
        If the name has another ending, if it is the name of a folder, or if its folder does not
        exist or cannot be written to.
    """
    from nipype_quicksilver.spatial.files import check_writable

    if not path.name.endswith(tuple(suffixes)):
        raise InputError(f"{path}: the output's name must end in {' or '.join(suffixes)}")
    check_writable(path)


@contextlib.contextmanager
def session(args: argparse.Namespace) -> Iterator[None]:
    """Set up threads, logging and warnings for a run of a command, and restore them at the end.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments with the common options; the default of `num_threads` is filled in.
    """
    # Threads that spin while they wait take the CPU from those that work. OpenMP reads this when
    # torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    end_with_parent()
    keep_freed_memory()
    if args.num_threads is None:
        # No node may use more threads than all nodes together.
        args.num_threads = min(available_cpus(), getattr(args, "n_procs", None) or available_cpus())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(keep_traceback=args.verbose))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    if args.verbose:
        logger.setLevel(logging.DEBUG)
    else:
        logger.setLevel(logging.WARNING if args.quiet else logging.INFO)
        # nibabel has its own logger for messages about headers.
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.showwarning = _log_warning
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]


class _OneLine(logging.Formatter):
    """Format of the log: `quicksilver: message`, with the level of warnings and errors."""

    def __init__(self, *, keep_traceback: bool) -> None:
        super().__init__()
        self.keep_traceback = keep_traceback

    def format(self, record: logging.LogRecord) -> str:
        level = f" {record.levelname.lower()}:" if record.levelno >= logging.WARNING else ""
        line = f"{PROGRAM}:{level} {_single_line(record.getMessage())}"
        if self.keep_traceback and record.exc_info and record.exc_info[0] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _log_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    logger.warning("%s", message)


def _single_line(text: str) -> str:
    return shown(" ".join(text.split()))


def print_error(message: str) -> None:
    """Print `quicksilver: error: <message>` as one line to the standard error stream."""
    print(f"{PROGRAM}: error: {_single_line(message)}", file=sys.stderr)


def describe(error: Exception) -> str:
    """Return the message, one line, for an error that is not due to the input."""
    if isinstance(error, QuicksilverError):
        return str(error)
    if is_out_of_memory(error):
        # The message of torch is a paragraph.
        if any(name in str(error) for name in ("CUDA", "CUDNN")):
            return "out of memory on the GPU; free some, or compute with --device cpu"
        return "out of memory"
    return f"{type(error).__name__}: {error} (run again with --verbose for the traceback)"
