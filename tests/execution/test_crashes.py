"""Reasons of failures, and Nipype's own messages."""

import logging

import pytest

from nipype_quicksilver.execution.crashes import LOST, describe, last_lines, quiet_nipype


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Stderr:\n\tquicksilver: error: a: b\n\tReturn code: 2\n", "a: b"),
        ("Return code: -9\n", "its process was killed, probably because it ran out of memory"),
        ("Return code: 1\nlast words\n", "last words"),
        ("Job id (7) terminated, but results file does not exist after (5) s", LOST),
        ("Traceback:\nnipype_quicksilver.errors.InputError: a: is full\n", "a: is full"),
        ("", "the crash file is empty"),
    ],
)
def test_reasons(text, reason):
    assert describe(text) == reason


def test_last_lines_of_a_program():
    text = "Stdout:\n" + "".join(f"\t{n}\n" for n in range(9)) + "Stderr:\n\tend\nTraceback:\n\tx"
    assert last_lines(text) == ["5", "6", "7", "8", "end"]


def test_messages_of_nipype_are_hidden_within_the_block():
    logger = logging.getLogger("nipype.workflow")
    level = logger.level
    with quiet_nipype():
        assert not logger.isEnabledFor(logging.ERROR)
    assert logger.level == level
    with quiet_nipype(verbose=True):
        assert logger.level == level
