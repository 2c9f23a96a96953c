"""Failures of Nipype's nodes: why a node failed, in one line; and Nipype's own messages."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

#: Reason of a failure where a batch job ended without a result.
LOST = "its job ended without a result: cancelled, out of memory, or out of time"
#: Reason of a failure where a process on this machine was killed.
KILLED = "its process was killed, probably because it ran out of memory"
#: What precedes the state of a batch job that ended without a result, in its traceback.
STATE = "State of the job: "
#: Lines of a program's output that :func:`last_lines` returns at most.
LAST_LINES = 5

_COMMAND_ERROR = re.compile(r"quicksilver: error: (.*)$", re.MULTILINE)
_RETURN_CODE = re.compile(r"return ?code[: ]+(-?\d+)", re.IGNORECASE)
_KILL_CODES = ("-9", "137")
# Error of a worker of Nipype's MultiProc that ended in the middle of a node.
_LOST_WORKER = "BrokenProcessPool: "
# The class before the message of an error of this package: the message alone is enough.
_OWN_ERROR = re.compile(r"^nipype_quicksilver\.errors\.\w+: ")
# Nipype's message where a batch job wrote no result.
_NO_RESULT = "results file does not exist"
_STATE = re.compile(rf"^{STATE}(\w+)$", re.MULTILINE)
# What Nipype adds to a crash file whose node has no result.
_ADDED = re.compile(r"^(When creating|During the creation of) this crashfile", re.MULTILINE)
_NIPYPE_LOGGERS = ("nipype.workflow", "nipype.interface", "nipype.utils", "nipype.filemanip")


def describe(text: str) -> str:
    r"""Return the reason of a failure in one line.

    Parameters
    ----------
    text : str
        Content of a crash file of Nipype, or the message of an error that Nipype raised.

    Returns
    -------
    str
        The error message of this package's command if there is one, else the last line.

    Examples
    --------
    >>> describe("Stderr:\n\tquicksilver: error: a.nii: is empty\nTraceback:\n\tRuntimeError: x")
    'a.nii: is empty'
    >>> describe("Traceback (most recent call last):\n  ...\nOSError: No space left on device\n\n")
    'OSError: No space left on device'
    """
    if is_lost(text):
        state = _STATE.search(text)
        return LOST if state is None else f"its job ended without a result: {state[1]}"
    if _LOST_WORKER in text:
        return KILLED
    text = _ADDED.split(text, maxsplit=1)[0]
    command_errors = _COMMAND_ERROR.findall(text)
    if command_errors:
        return str(command_errors[-1]).strip()
    code = _RETURN_CODE.search(text)
    if code is not None and code[1] in _KILL_CODES:
        return KILLED
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _OWN_ERROR.sub("", lines[-1]) if lines else "the crash file is empty"


def is_lost(text: str) -> bool:
    """Return whether a failure is that of a batch job that ended without a result."""
    return _NO_RESULT in text


def last_lines(text: str) -> list[str]:
    r"""Return the last lines that a program printed before it failed.

    Parameters
    ----------
    text : str
        Nipype's description of the failure, with sections ``Stdout:``, ``Stderr:`` and
        ``Traceback:``.

    Returns
    -------
    list of str
        At most :data:`LAST_LINES` lines.

    Examples
    --------
    >>> last_lines("Cmdline:\n\tbet\nStdout:\n\tone\nStderr:\n\ttwo\nTraceback:\n\tthree")
    ['one', 'two']
    """
    before_traceback = re.split(r"^Traceback", text, maxsplit=1, flags=re.MULTILINE)[0]
    _, _, printed = before_traceback.partition("Stdout:")
    lines = [line.strip() for line in printed.splitlines()]
    return [line for line in lines if line and line != "Stderr:"][-LAST_LINES:]


@contextlib.contextmanager
def quiet_nipype(*, verbose: bool = False) -> Iterator[None]:
    """Hide Nipype's own messages within the block.

    Parameters
    ----------
    verbose : bool
        Show them nevertheless.
    """
    loggers = [logging.getLogger(name) for name in _NIPYPE_LOGGERS]
    levels = [logger.level for logger in loggers]
    if not verbose:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
