"""Signals that end a run: raised as exceptions, and deferred where files are moved."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

#: What a program ends with, 128 and the number of the signal, as shells do.
EXIT = 128
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A batch system or a closed terminal ends the run, which cleans up as for Ctrl-C.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def describe(interrupt: KeyboardInterrupt) -> tuple[str, int]:
    """Return why a run was interrupted, and its exit code.

    Examples
    --------
    >>> describe(KeyboardInterrupt()), describe(Ended(signal.SIGTERM))
    (('interrupted', 130), ('ended by the signal SIGTERM', 143))
    """
    if isinstance(interrupt, Ended):
        name = signal.Signals(interrupt.number).name
        return f"ended by the signal {name}", EXIT + interrupt.number
    return "interrupted", EXIT + signal.SIGINT


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Raise :class:`Ended` within the block where a signal would end the process at once.

    Signals that are ignored, as by ``nohup``, still are. Batch systems may send a signal several
    times: after the first one, the others are ignored, so that the clean-up is not interrupted.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        if os.getpid() != process:  # forked: a pool would take the exception for a result
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        for other in _ENDING:
            if other in before:
                signal.signal(other, signal.SIG_IGN)
        raise Ended(number)

    before, process = _handlers(), os.getpid()
    try:
        _set(dict.fromkeys(before, end))
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defer signals that would interrupt the block to its end."""
    came: list[int] = []
    before = _handlers()
    try:
        _set(dict.fromkeys(before, lambda number, _: came.append(number)))
        yield
    finally:
        _set(before)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def _handlers() -> dict[int, Any]:
    """Return the handlers of the signals that would end this process now, by signal."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # other threads may not set handlers, nor do signals interrupt them
    handlers = {number: signal.getsignal(number) for number in (*_ENDING, signal.SIGINT)}
    return {n: handler for n, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}


def _set(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
