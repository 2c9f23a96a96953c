"""Entry point of the `quicksilver` command: sub-commands, errors and exit codes."""

import logging
import shlex
import signal
import sys
from collections.abc import Sequence

from nipype_quicksilver.cli import (
    affine,
    apply,
    checkpoint,
    cohort,
    common,
    dataset,
    demo,
    doctor,
    evaluate,
    extract_brain,
    messages,
    optimize,
    outputs,
    predict,
    register,
    report,
    shoot,
    train,
)
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution import signals

#: One module per sub-command, each with `add_parser(subparsers)` and `run(args) -> int`.
COMMANDS = (
    demo,
    register,
    extract_brain,
    affine,
    predict,
    optimize,
    shoot,
    apply,
    evaluate,
    report,
    dataset,
    train,
    checkpoint,
    cohort,
    doctor,
)

EXIT_FAILURE = 1
EXIT_USAGE = 2

_logger = logging.getLogger(__name__)


def build_parser() -> common.Parser:
    """Return the parser of the whole command line."""
    parser = common.Parser(
        prog=common.PROGRAM,
        formatter_class=common.CommandList,
        description="Fast predictive registration of brain images.",
        epilog=f"'{common.PROGRAM} COMMAND --help' explains a command. "
        "Exit codes: 0 done, 2 wrong usage or unusable input, 128 + N ended by signal N (130 by "
        "Ctrl-C, 143 by SIGTERM), 1 anything else.",
    )
    common.add_version(parser)
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; default: those of the process.

    Returns
    -------
    int
        0 when done, 2 for wrong usage or unusable input, 130 when interrupted, 143 or 129 when
        ended by SIGTERM or SIGHUP, 141 if what reads its output is gone, 1 for anything else. An
        error is one line on the standard error stream, with the traceback before it when
        `--verbose` is given.
    """
    try:
        with signals.raised(), messages.standard_output():
            return _run(argv)
    except KeyboardInterrupt as interrupt:  # before or after the command itself
        return _interrupted(interrupt)
    except InputError as error:  # the rest of what was printed
        return _fail(str(error), EXIT_USAGE)


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = build_parser().parse_args(argv)
        args.command_line = shlex.join([common.PROGRAM, *(sys.argv[1:] if argv is None else argv)])
    except SystemExit as stop:  # --help, --version and usage errors
        return stop.code if isinstance(stop.code, int) else EXIT_FAILURE
    with common.session(args):
        try:
            outputs.check_files(args)
            if args.device.startswith("cuda"):
                # Every command reports a GPU that is not available, even if it uses none.
                common.start_torch(args)
            return int(args.run(args))
        except KeyboardInterrupt as interrupt:
            return _interrupted(interrupt)
        except InputError as error:
            return _fail(str(error), EXIT_USAGE)
        except Exception as error:
            return _fail(common.describe(error), EXIT_FAILURE)


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    """Report an interrupt; other programs end by SIGPIPE without a word, too."""
    message, code = signals.describe(interrupt)
    return code if code == signals.EXIT + signal.SIGPIPE else _fail(message, code)


def _fail(message: str, code: int) -> int:
    _logger.debug("traceback of the error below:", exc_info=True)
    common.print_error(message)
    return code


if __name__ == "__main__":
    sys.exit(main())
