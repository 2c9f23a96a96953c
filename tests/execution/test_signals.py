"""Signals that end a run are exceptions, and wait until files are moved."""

import signal
import subprocess
import sys
import threading

import pytest

from nipype_quicksilver.execution import signals

_BY = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def handlers():
    """Python's handlers, as at the start of a program."""
    before = {number: signal.getsignal(number) for number in _BY}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", _BY)
def test_a_signal_is_raised(number):
    with pytest.raises(KeyboardInterrupt) as caught, signals.raised():
        signal.raise_signal(number)
    assert signals.describe(caught.value)[1] == _BY[number]


# A worker of a pool, which gets the signal that its parent is waiting for as well.
_POOL = """
import os, signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from nipype_quicksilver.execution import signals

with signals.raised():
    pool = ProcessPoolExecutor(1, get_context("fork"))
    result = pool.submit(signal.raise_signal, signal.SIGTERM)
    print(type(result.exception()).__name__)
"""


def test_a_forked_worker_ends():
    done = subprocess.run([sys.executable, "-c", _POOL], capture_output=True, text=True)
    assert done.stdout == "BrokenProcessPool\n", done.stderr


def test_a_second_signal_does_not_disturb_the_clean_up():
    done = []
    with pytest.raises(signals.Ended), signals.raised():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            done.append("cleaned up")
    assert done == ["cleaned up"]


def test_an_ignored_signal_stays_ignored():
    """As after `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised(), signals.deferred():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", _BY)
def test_a_signal_is_deferred_to_the_end(number):
    done = []
    with pytest.raises(KeyboardInterrupt) as caught, signals.raised(), signals.deferred():
        signal.raise_signal(number)
        signal.raise_signal(number)
        done.append("whole")
    assert done == ["whole"]
    assert signals.describe(caught.value)[1] == _BY[number]


def test_other_threads_are_left_alone():
    """Only the main thread may set handlers."""
    done = []

    def run():
        with signals.raised(), signals.deferred():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]
