"""Crash files of Nipype: why a node failed, in one line."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

_OF_COMMAND = re.compile(r"quicksilver: error: (.*)$", re.MULTILINE)


_SIGNAL = re.compile(r"-9|137")


# Before the message of our own errors, which say all that there is to say.
_OURS = re.compile(r"^nipype_quicksilver\.errors\.\w+: ")


# What Nipype says where a batch job left nothing behind.
_WITHOUT_RESULT = "results file does not exist"


LOST = "its job ended without a result: cancelled, out of memory, or out of time"


def describe(text: str) -> str:
    r"""Return the reason that a crash file gives, in one line.

    Examples
    --------
    >>> describe("Stderr:\n\tquicksilver: error: a.nii: is empty\nTraceback:\n\tRuntimeError: x")
    'a.nii: is empty'
    >>> describe("Traceback (most recent call last):\n  ...\nOSError: No space left on device\n\n")
    'OSError: No space left on device'
    """
    if _WITHOUT_RESULT in text:
        return LOST
    of_command = _OF_COMMAND.findall(text)
    if of_command:
        return of_command[-1].strip()
    code = re.search(r"return ?code[: ]+(-?\d+)", text, re.IGNORECASE)
    if code is not None and _SIGNAL.fullmatch(code[1]):
        return "its process was killed, probably for want of memory"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _OURS.sub("", lines[-1]) if lines else "the crash file is empty"


LAST_LINES = 5  # of a log, which are shown


def last_lines(report: str) -> list[str]:
    r"""Return the last lines that a program printed, of Nipype's report of its failure.

    Parameters
    ----------
    report : str
        Sections called ``Stdout:``, ``Stderr:`` and ``Traceback:``.

    Returns
    -------
    list of str
        At most :data:`LAST_LINES`.

    Examples
    --------
    >>> last_lines("Cmdline:\n\tbet\nStdout:\n\tone\nStderr:\n\ttwo\nTraceback:\n\tthree")
    ['one', 'two']
    """
    printed = re.split(r"^Traceback", report, maxsplit=1, flags=re.MULTILINE)[0]
    _, _, printed = printed.partition("Stdout:")
    lines = [line.strip() for line in printed.splitlines()]
    return [line for line in lines if line and line != "Stderr:"][-LAST_LINES:]


_NIPYPE_LOGGERS = ("nipype.workflow", "nipype.interface", "nipype.utils", "nipype.filemanip")


@contextlib.contextmanager
def nipype_is_silent(silent: bool) -> Iterator[None]:
    """Keep Nipype's own messages off the terminal within the block, unless `silent` is False."""
    loggers = [logging.getLogger(name) for name in _NIPYPE_LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        if silent:
            logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
