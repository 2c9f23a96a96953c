"""Real heads to each other and to the template, with nothing but the command's defaults."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.data import data_folder
from benchmarks.measuring import run

STAGES = ("extract", "align", "prepare", "optimize", "maps", "resample", "measure", "write")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register heads from file to file; print and return seconds by stage."""
    heads = sorted((data_folder() / "heads").glob("*.nii.gz"))
    pairs = [(str(heads[0]), heads[2])] + [("MNI152", head) for head in heads]
    rows = {}
    for fixed, moving in pairs:
        name = f"{Path(fixed).name.split('_')[0]}-{moving.name.split('_')[0]}"
        output = work / f"heads_{name}"
        command = [sys.executable, "-m", "nipype_quicksilver.cli", "register", "--quiet"]
        command += ["--fixed", fixed, "--moving", moving, "--output-dir", output]
        cost = run([*command, "--num-threads", str(threads)], threads)
        summary = json.loads((output / "summary.json").read_text())
        rows[name] = {
            **vars(cost),
            "seconds": summary["seconds"],
            "similarity": summary["similarity"],
            "folded_voxels": summary["jacobian"]["folded"],
        }
    Console().print(_table(rows))
    return rows


def _table(rows: dict[str, Any]) -> Table:
    table = Table(
        "pair", "before", "after", "folds", *STAGES, "CPU s", "GB", title="Heads, wall seconds"
    )
    for name, row in rows.items():
        seconds = [f"{row['seconds'].get(stage, 0):.0f}" for stage in STAGES]
        alike = [f"{row['similarity'][when]:.3f}" for when in ("before", "after")]
        cost = f"{row['cpu']:.0f}", f"{row['memory']:.1f}"
        table.add_row(name, *alike, str(row["folded_voxels"]), *seconds, *cost)
    return table
