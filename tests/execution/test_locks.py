"""One run at a time writes into a folder, and a folder whose holder is gone is free."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution import locks
from nipype_quicksilver.execution.locks import HOLDER, LOCK, locked

_HOLD = """
import sys, time
from nipype_quicksilver.execution.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
# Each adds a line at the start and one at the end, so that two at a time show.
_TAKE = """
import os, sys, time
from pathlib import Path
from nipype_quicksilver.execution import locks
locks.LIFETIME, locks._HEARTBEAT, locks._PAUSE = float(sys.argv[2]), 0.2, 0.02
folder = Path(sys.argv[1])
with locks.locked(folder):
    for word in ("start", "end"):
        with open(folder / "log", "a") as file:
            file.write(f"{word} {os.getpid()}\\n")
        time.sleep(0.1)
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "SLURM_JOB_ID": "4711"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `tmp_path / "out"`."""
    with _start(_HOLD, tmp_path / "out") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def _on_another_host(folder: Path, lifetime: float) -> None:
    """Write the lock of a run on another host of which nothing is heard any more."""
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(
        f"filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=0a\nduration={lifetime}\nstart=1\n"
    )


def test_refuses_a_folder_that_is_held_and_says_by_whom(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(InputError) as caught, locked(tmp_path / "out", waits=False):
        pass
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'out'}: process {holder.pid} on ")
    assert "SLURM_JOB_ID=4711" in message
    assert message.endswith("; wait until it has ended, or choose another folder")
    assert "\n" not in message


def test_waits_with_one_line_until_the_holder_is_killed(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    threading.Timer(1.0, holder.send_signal, [signal.SIGKILL]).start()
    reaper = threading.Thread(target=holder.wait)  # a process that nobody waits for still exists
    reaper.start()
    with locked(tmp_path / "out") as lock:
        lock.check()
        assert holder.poll() == -signal.SIGKILL
    reaper.join()
    (record,) = caplog.records
    assert f"process {holder.pid} on " in record.getMessage()
    assert record.getMessage().endswith("; waiting until it has ended")


def test_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "out"), locked(tmp_path / "a" / "out"):
        assert {path.name for path in (tmp_path / "a" / "out").iterdir()} == {LOCK, HOLDER}
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        (tmp_path / "out" / "file").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_another_thread_waits(tmp_path: Path) -> None:
    seen: list[str] = []

    def take() -> None:
        with locked(tmp_path):
            seen.append("other")

    with locked(tmp_path):
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(1)
        seen.append("this")
    thread.join()
    assert seen == ["this", "other"]


@pytest.mark.parametrize("stale", ["process gone", "other host"])
def test_one_of_many_takes_over_a_lock_whose_holder_is_gone(tmp_path: Path, stale: str) -> None:
    lifetime = 0.7
    if stale == "other host":
        _on_another_host(tmp_path, lifetime)
    else:
        with _start(_TAKE.replace("for", "os.kill(os.getpid(), 9)\n    for"), tmp_path, lifetime):
            pass
        assert (tmp_path / LOCK).exists()
    takers = [_start(_TAKE, tmp_path, lifetime) for _ in range(4)]
    assert [taker.wait() for taker in takers] == [0] * 4
    for taker in takers:
        assert taker.stdout is not None
        taker.stdout.close()
    lines = (tmp_path / "log").read_text().splitlines()
    starts = [f"start {line.split()[1]}" for line in lines[::2]]
    assert lines == [line for start in starts for line in (start, start.replace("start", "end"))]
    assert len(set(starts)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_host_that_lives_keeps_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LIFETIME", 0.5)
    monkeypatch.setattr(locks, "_HEARTBEAT", 0.1)
    monkeypatch.setattr(locks, "_AT_ONCE", 1.5)
    _on_another_host(tmp_path, 0.5)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.1):
            os.utime(tmp_path / LOCK)

    thread = threading.Thread(target=live)
    thread.start()
    with (
        pytest.raises(InputError, match="process 1 on elsewhere writes into it; wait"),
        locked(tmp_path, waits=False),
    ):
        pass
    stop.set()
    thread.join()
    with locked(tmp_path, waits=False) as lock:  # now nothing is heard of it
        lock.check()


def test_a_lost_lock_is_noticed(tmp_path: Path) -> None:
    with (
        pytest.raises(QuicksilverError, match="another run has taken over"),
        locked(tmp_path) as lock,
    ):
        lock.check()
        (tmp_path / LOCK).unlink()
        _on_another_host(tmp_path, locks.LIFETIME)
        lock.check()
    assert "elsewhere" in (tmp_path / LOCK).read_text()  # it is not ours to remove
