"""Interrupts that Nipype takes for failures of nodes."""

import contextlib
import signal

import pytest

from nipype_quicksilver.execution.interrupts import interrupts_raised


def test_an_interrupt_that_is_swallowed_is_raised_at_the_end():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts_raised():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        raise ValueError("what Nipype makes of it")
    with pytest.raises(ValueError, match="another"), interrupts_raised():
        raise ValueError("another")
    assert signal.getsignal(signal.SIGINT) is before
