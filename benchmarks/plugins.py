"""A cohort of eight synthetic heads with MultiProc and with SLURM: all images must be identical.

One of the images is truncated on purpose. SLURM is omitted if it is not installed;
`tests/slurm/cluster.sh` starts a cluster.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.data import synthesize_head

SUBJECTS = tuple(f"{number:02d}" for number in range(9, 17))
BROKEN = SUBJECTS[-1]


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register the heads to the template with each plugin, and compare the results."""
    folder = work / "plugins"
    _write_data_set(work, folder / "bids")
    options = {"MultiProc": ["--n-procs", threads]}
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0:
        options["SLURM"] = []
    figures: dict[str, Any] = {}
    images = {}
    for plugin, words in options.items():
        start = time.monotonic()
        log = _run(folder, plugin, words)
        out = folder / plugin
        images[plugin] = {p.name: p.read_bytes() for p in out.glob("sub-*/**/*.nii.gz")}
        figures[plugin] = {
            "seconds": time.monotonic() - start,
            "done": len(list(out.glob("sub-*/**/*_registration.json"))),
            "failed": [line for line in log.splitlines() if line.startswith("failed: ")],
            "images": len(images[plugin]),
        }
    if len(images) == 2:
        figures["equal_bytes"] = images["MultiProc"] == images["SLURM"]
    print(json.dumps(figures, indent=2))
    return figures


def _write_data_set(work: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    description = {"Name": "heads from label maps", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    for subject in SUBJECTS:
        image = synthesize_head(work, subject)[0].read_bytes()
        anat = folder / f"sub-{subject}" / "anat"
        anat.mkdir(parents=True)
        length = len(image) // 2 if subject == BROKEN else len(image)
        (anat / f"sub-{subject}_T1w.nii.gz").write_bytes(image[:length])


def _run(folder: Path, plugin: str, words: list[Any]) -> str:
    """Register the heads; return the log of the command."""
    command = [sys.executable, "-m", "nipype_quicksilver", "cohort", folder / "bids"]
    command += [folder / plugin, "participant", "--method", "predict", "--plugin", plugin, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command], stderr=subprocess.PIPE, text=True, env=environment
    )
    return done.stderr
