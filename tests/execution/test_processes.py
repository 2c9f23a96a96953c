"""Processes that end with their parent, and memory that is kept or returned."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

# Starts a command in a shell, as Nipype does, and a forked process; writes their ids.
_PARENT = """
import os, subprocess, sys, time
from nipype_quicksilver.execution.processes import PARENT, forked_end_with_this
command = "from nipype_quicksilver.execution.processes import end_with_parent; import os, time;" \
    "end_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
environment = {**os.environ, PARENT: str(os.getpid())}
child = subprocess.Popen(
    f"'{sys.executable}' -c '{command}'; true", shell=True, env=environment,
    stdout=subprocess.PIPE, text=True,
)
number = child.stdout.readline().strip()
with forked_end_with_this():
    forked = os.fork()
if forked == 0:
    time.sleep(60)
    os._exit(0)
time.sleep(0.2)  # until the forked process has set its signal
print(number, forked, flush=True)
time.sleep(60)
"""


def is_running(number):
    """Return whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_all_end_when_the_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    numbers = [int(word) for word in parent.stdout.readline().split()]
    assert len(numbers) == 2
    assert all(map(is_running, numbers))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(is_running, numbers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, numbers))


# Starts a shell that starts a program, as tools do, and ends them.
_ENDING = """
import subprocess
from nipype_quicksilver.execution.processes import end_descendants
words = "trap '' TERM; sleep 60 & echo $!; wait" if {stubborn} else "sleep 60 & echo $!; wait"
child = subprocess.Popen(["sh", "-c", words], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), flush=True)
end_descendants()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("stubborn", [False, True])
def test_what_a_command_started_ends_with_it(stubborn):
    code = _ENDING.format(stubborn=stubborn)
    if stubborn:
        code = code.replace("import subprocess", "import subprocess, signal", 1)
        code = code.replace(
            "words =",
            "from nipype_quicksilver.execution import processes\nprocesses._GRACE = 0.3\nwords =",
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    numbers = [int(word) for word in done.stdout.split()]
    assert len(numbers) == 2, done.stderr
    assert not any(map(is_running, numbers))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_returned():
    """A process that keeps freed memory has it until it returns it."""
    code = """
import numpy as np
from nipype_quicksilver.execution.processes import keep_freed_memory
from nipype_quicksilver.execution.processes import return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
before = resident()
arrays = [np.ones(1 << 20) for _ in range(32)]
del arrays
kept = resident() - before
return_freed_memory()
assert kept > 200e6 and resident() - before < 0.2 * kept, (kept, resident() - before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
