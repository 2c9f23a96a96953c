"""Overhead of large cohorts: CPU time and memory, by the number of participants.

The nodes are replaced by functions that only write images of a few voxels. The remaining time is
the overhead of Nipype and this package for each participant.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.table import Table

from benchmarks.tables import show

NUMBERS = (125, 250, 500, 1000)


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Run simulated cohorts in separate processes; each is run again when everything is done."""
    rows = {}
    for number in NUMBERS:
        folder = work / f"cohort-{number}"
        command = [sys.executable, "-m", "benchmarks.cohort", folder, number, threads]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
        rows[str(number)] = json.loads(done.stdout)
    show(_table(rows))
    return rows


def _table(rows: dict[str, Any]) -> Table:
    columns = ("find", "build", "run", "driver, each", "nodes, each", "again")
    table = Table("participants", *columns, "driver GB", "worker GB", title="Overhead, CPU seconds")
    for number, row in rows.items():
        each = [row["run"] / int(number), row["nodes"] / int(number)]
        seconds = [row["find"], row["build"], row["run"], *each, row["again"]]
        memory = [row["driver_gb"], row["worker_gb"]]
        table.add_row(number, *(f"{value:.2f}" for value in seconds + memory))
    return table


def simulate(folder: Path, number: int, threads: int) -> dict[str, float]:
    """Run one simulated cohort with Nipype's MultiProc; return CPU seconds and peaks of memory."""
    from nipype_quicksilver.cli.main import main
    from nipype_quicksilver.cohort.derivatives import Place
    from nipype_quicksilver.cohort.images import find_images
    from nipype_quicksilver.cohort.jobs import CohortOptions, plan
    from nipype_quicksilver.interfaces import RegistrationReport
    from nipype_quicksilver.interfaces.base import QuicksilverCommand
    from nipype_quicksilver.workflows import init_cohort_wf

    source, out = folder / "bids", folder / "out"
    _write_data_set(source, number)
    seconds = {}
    start = time.process_time()
    images = find_images(source)
    seconds["find"] = time.process_time() - start
    start = time.process_time()
    options = CohortOptions.of()
    jobs = plan(images, options)
    init_cohort_wf(jobs=jobs, options=options, place=Place(out, source), omp_nthreads=1)
    seconds["build"] = time.process_time() - start
    words = ["cohort", source, out, "participant", "--n-procs", threads, "--mem-gb", 100, "--quiet"]
    commands = mock.patch.object(QuicksilverCommand, "_run_interface", _write_outputs)
    with commands, mock.patch.object(RegistrationReport, "_run_interface", _write_page):
        for name in ("run", "again"):
            start = time.process_time()
            if main([str(word) for word in words]) != 0:
                raise RuntimeError(f"a cohort of {number} failed")
            seconds[name] = time.process_time() - start
    driver, workers = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds["nodes"] = workers.ru_utime + workers.ru_stime
    memory = {"driver_gb": driver.ru_maxrss / 2**20, "worker_gb": workers.ru_maxrss / 2**20}
    return {**seconds, **memory}


def _write_data_set(folder: Path, number: int) -> None:
    from nipype_quicksilver.spatial.images import write_image

    folder.mkdir(parents=True)
    description = {"Name": "simulated", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    voxels = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    image = write_image(folder.parent / "image.nii.gz", voxels, np.eye(4)).read_bytes()
    for count in range(1, number + 1):
        anat = folder / f"sub-{count:04d}" / "anat"
        anat.mkdir(parents=True)
        (anat / f"sub-{count:04d}_T1w.nii.gz").write_bytes(image)


def _write_outputs(node: Any, runtime: Any) -> Any:
    """Write the outputs of a command instead of running it."""
    inputs = node.inputs.trait_get()
    image = Path(inputs.get("moving_image") or inputs["in_file"]).read_bytes()
    for value in node._list_outputs().values():
        for file in value if isinstance(value, list) else [value]:
            if isinstance(file, str):
                path = Path(file)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"{}" if path.suffix == ".json" else image)
    return runtime


def _write_page(node: Any, runtime: Any) -> Any:
    """Write a page instead of the report on a registration."""
    Path(node._list_outputs()["out_file"]).write_text("<html></html>", encoding="utf-8")
    return runtime


if __name__ == "__main__":
    os.environ["NO_ET"] = "1"
    figures = simulate(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(figures))
