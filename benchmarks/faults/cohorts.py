"""Cohorts whose driver, workers and commands are killed, and two cohorts into one folder.

Killed runs are resumed. In the end, nothing may be lost or mixed: the same bytes as undisturbed.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from h5py import Dataset, File, is_hdf5

from benchmarks.restarts import write_brain, write_data_set
from nipype_quicksilver.spatial.files import sha256_of

PARTICIPANTS, KILLS, RACES = 3, 50, 4
VICTIMS = ("driver", "worker", "command")
#: Seconds after a kill in which a run has to go on or to end.
PATIENCE = 300.0

#: Starts a cohort with two folders: of the derivatives, and of intermediate files.
Start = Callable[[Path, Path], subprocess.Popen]


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Kill processes of a cohort of small brains; return what was lost."""
    folder = work / "faults-cohorts"
    write_data_set(folder / "bids", PARTICIPANTS)
    write_brain(folder / "fixed_T1w.nii.gz", 0)
    words = [sys.executable, "-m", "nipype_quicksilver", "cohort", folder / "bids"]
    options = ["participant", "--brain-extraction", "none", "--affine", "none", "--quiet"]
    options += ["--method", "predict", "--n-procs", threads]
    options += ["--fixed", folder / "fixed_T1w.nii.gz"]

    def start(out: Path, work_dir: Path) -> subprocess.Popen:
        command = [str(word) for word in (*words, out, *options, "--work-dir", work_dir)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    expected = undisturbed(start, folder)
    figures = {
        "participants": PARTICIPANTS,
        **kill(start, folder, expected, KILLS, pause=(1.0, 10.0)),
        **race(start, folder, expected, RACES),
    }
    print(json.dumps(figures, indent=2))
    return figures


def undisturbed(start: Start, folder: Path) -> dict[str, str]:
    """Run a cohort without faults; return the hashes of its images and transforms."""
    run = start(folder / "undisturbed", folder / "undisturbed-work")
    message = run.communicate()[1]
    if run.returncode != 0:
        raise RuntimeError(message)
    return hashes(folder / "undisturbed")


@dataclass
class Outcome:
    """What happened to killed runs."""

    killed: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    cohorts: int = 0
    hanging: int = 0
    damaged_sets: int = 0
    other_bytes: int = 0
    left_files: int = 0
    unexplained: int = 0  # ends of a driver that was not killed, without a reason

    def figures(self) -> dict[str, Any]:
        """Return the numbers by their names."""
        return {**vars(self), "killed": dict(self.killed)}


def kill(
    start: Start, folder: Path, expected: dict[str, str], kills: int, *, pause: tuple[float, float]
) -> dict[str, Any]:
    """Kill processes at random times; resume each run until its cohort is complete.

    Parameters
    ----------
    start : callable
        Starts a run.
    folder : Path
        Folder of the results.
    expected : dict
        Hashes of an undisturbed run.
    kills : int
        Number of processes to kill.
    pause : tuple of float
        Shortest and longest time between two of them, seconds.
    """
    random, outcome = np.random.default_rng(1), Outcome()
    while outcome.killed.total() < kills:
        outcome.cohorts += 1
        out, work = (folder / f"{name}{outcome.cohorts}" for name in ("killed", "killed-work"))
        complete = False
        while not complete:
            run = start(out, work)
            outcome.runs += 1
            disturbed = outcome.killed.total()
            while run.poll() is None and outcome.killed.total() < kills:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(random.uniform(*pause))
                victim = str(random.choice(VICTIMS))
                if run.poll() is None and _kill(run.pid, victim):
                    outcome.killed[victim] += 1
            complete = _end(run, outcome, disturbed < outcome.killed.total())
            outcome.damaged_sets += sum(not whole(record) for record in records(out))
        outcome.other_bytes += differences(expected, hashes(out))
        outcome.left_files += len(leftovers(out))
    return outcome.figures()


def _end(run: subprocess.Popen, outcome: Outcome, disturbed: bool) -> bool:
    """Wait for the end of a run; return whether its cohort is complete."""
    try:
        message = run.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        outcome.hanging += 1
        run.kill()
        message = run.communicate()[1]
    failed = run.returncode not in (0, -signal.SIGKILL)
    if failed and not (disturbed and "its process was killed" in message):
        outcome.unexplained += 1
        print(message, file=sys.stderr)
    return run.returncode == 0


def race(start: Start, folder: Path, expected: dict[str, str], races: int) -> dict[str, Any]:
    """Start two cohorts into one folder, with one and with two folders of intermediate files."""
    refused = mixed = 0
    for number in range(races):
        out = folder / f"raced{number}"
        both = [
            start(out, folder / f"raced-work{number}-{side % (1 + number % 2)}") for side in (0, 1)
        ]
        ended = [(run.communicate()[1], run.returncode) for run in both]
        refused += sum(code == 2 and "writes into it" in message for message, code in ended)
        mixed += sorted(code for _, code in ended) not in ([0, 0], [0, 2])
        mixed += differences(expected, hashes(out)) + len(leftovers(out))
    return {"races": races, "refused": refused, "mixed": mixed}


def _kill(driver: int, victim: str) -> bool:
    """Kill the driver, one of its workers, or a command of one; return whether there was one."""
    parents = _parents()
    own = _command_line(driver)
    workers = [pid for pid, parent in parents.items() if parent == driver]
    workers = [pid for pid in workers if _command_line(pid) == own]
    below = {pid for pid in parents if parents[pid] in workers}
    below |= {pid for pid in parents if parents[pid] in below}
    pids = {"driver": [driver], "worker": workers, "command": sorted(below)}[victim]
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(pids[-1], signal.SIGKILL)
        return True
    return False


def _parents() -> dict[int, int]:
    """Return the parent of each process (Linux)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    return parents


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def records(out: Path) -> list[Path]:
    """Return the records of a folder of derivatives."""
    return sorted(out.glob("sub-*/**/*_registration.json"))


def whole(record: Path) -> bool:
    """Return whether all files of a record have the bytes that it says."""
    files = json.loads(record.read_text(encoding="utf-8"))["derivatives"]
    out = next(path for path in record.parents if (path / "dataset_description.json").exists())
    return all((out / name).is_file() and sha256_of(out / name) == content
               for name, content in files.items())  # fmt: skip


def hashes(out: Path) -> dict[str, str]:
    """Return the hashes of images, and of the numbers of transforms; other files have times."""
    files = [path for path in out.glob("sub-*/**/*") if path.name.endswith((".nii.gz", ".h5"))]
    return {
        str(path.relative_to(out)): _hash_of_numbers(path) if is_hdf5(path) else sha256_of(path)
        for path in files
    }


def _hash_of_numbers(path: Path) -> str:
    """Return a hash of all data of a file in HDF5, which also has the time when it was written."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, Dataset) and item.dtype != object:  # texts are versions
            digest.update(name.encode() + np.asarray(item).tobytes())

    with File(path) as file:
        file.visititems(add)
    return digest.hexdigest()


def differences(expected: dict[str, str], found: dict[str, str]) -> int:
    """Return the number of files that are missing, additional, or have other bytes."""
    return sum(expected.get(name) != found.get(name) for name in expected.keys() | found.keys())


def leftovers(out: Path) -> list[Path]:
    """Return temporary files and locks among derivatives."""
    known = {".bidsignore", "work"}
    return [path for path in out.rglob(".*") if not known & set(path.relative_to(out).parts)]
