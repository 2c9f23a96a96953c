"""Interrupts by signals, which Nipype takes for failures of nodes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise an interrupt at the end of the block where the block has swallowed it.

    Nipype takes what a signal handler raises within a node, such as `KeyboardInterrupt`, for a
    failure of the node, and continues with the next one.
    """
    caught: list[BaseException] = []

    def note(handler: Callable[[int, FrameType | None], object]) -> Any:
        def noting(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                caught.append(error)
                raise

        return noting

    if threading.current_thread() is not threading.main_thread():  # where no handler runs
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _INTERRUPTS}
    replaced = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number, handler in replaced.items():
        signal.signal(number, note(handler))
    try:
        yield
    except Exception:
        if not caught:
            raise
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    if caught:
        raise caught[0]
