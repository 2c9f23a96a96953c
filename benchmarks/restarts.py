"""Runs of a cohort that are killed and resumed: equal images, and nothing is computed twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nipype_quicksilver.spatial.images import write_image

PARTICIPANTS, KILLS = 8, 5
_OPTIONS = ("--brain-extraction", "none", "--affine", "none")
_OPTIONS += ("--method", "optimize", "--iterations", "8x2x0x0")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Kill a run at random times and resume it; compare with an undisturbed run."""
    folder = work / "restarts"
    write_data_set(folder / "bids", PARTICIPANTS)
    write_brain(folder / "fixed_T1w.nii.gz", 0)
    start = time.monotonic()
    _start(folder, "undisturbed", threads).wait()
    seconds = time.monotonic() - start
    expected = _images(folder / "undisturbed")

    random, out = np.random.default_rng(1), folder / "killed"
    written: dict[Path, int] = {}
    rewritten, done = 0, []
    for moment in random.uniform(0.15, 0.5, KILLS) * seconds:
        run = _start(folder, out.name, threads)
        time.sleep(moment)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        complete = _times_of_complete_sets(out)
        rewritten += sum(complete.get(path) != stamp for path, stamp in written.items())
        written = complete
        done.append(len(list(out.glob("sub-*/anat/*_registration.json"))))
    code = _start(folder, out.name, threads).wait()
    after = _times_of_complete_sets(out)
    rewritten += sum(after.get(path) != stamp for path, stamp in written.items())
    figures = {
        "participants": PARTICIPANTS,
        "done_at_each_kill": done,
        "exit_code": code,
        "images": len(expected),
        "images_with_equal_bytes": sum(
            expected.get(name) == image for name, image in _images(out).items()
        ),
        "files_of_whole_sets_written_again": rewritten,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    return figures


def write_data_set(folder: Path, participants: int) -> None:
    """Write a BIDS data set of small brains."""
    folder.mkdir(parents=True)
    description = {"Name": "small brains", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    for number in range(1, participants + 1):
        anat = folder / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        write_brain(anat / f"sub-{number}_T1w.nii.gz", number)


def write_brain(path: Path, number: int) -> None:
    """Write a distorted ball with a core on a grid of 32 mm, different for each number."""
    random = np.random.default_rng(number)
    x, y, z = np.mgrid[:32, :32, :32] - 15.5
    x, y, z = (a + np.sin(b / 4 + random.uniform(0, 6)) for a, b in ((x, y), (y, z), (z, x)))
    radius = np.sqrt(x**2 + y**2 + z**2)
    image = 600.0 * (radius < 11) + 300 * (radius < 6) + 60 * np.sin(x) * np.cos(y)
    write_image(path, np.where(radius < 11, image, 0).astype(np.float32), np.eye(4))


def _images(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.glob("sub-*/**/*.nii.gz")}


def _start(folder: Path, out: str, threads: int) -> subprocess.Popen:
    words = [
        "cohort",
        folder / "bids",
        folder / out,
        "participant",
        *_OPTIONS,
        "--n-procs",
        threads,
    ]
    words += ["--fixed", folder / "fixed_T1w.nii.gz", "--quiet"]
    return subprocess.Popen([sys.executable, "-m", "nipype_quicksilver", *map(str, words)])


def _times_of_complete_sets(out: Path) -> dict[Path, int]:
    """Return the time when each file of a participant with a record was written, ns."""
    folders = {record.parent for record in out.glob("sub-*/anat/*_registration.json")}
    files = (path for folder in folders for path in folder.iterdir())
    return {path: path.stat().st_mtime_ns for path in files}
