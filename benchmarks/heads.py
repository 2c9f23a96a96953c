"""Registration of real heads to each other and to the template, with all preprocessing."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.data import data_folder
from benchmarks.measuring import run
from benchmarks.tables import show

STAGES = ("extract", "align", "prepare", "predict", "optimize", "maps", "resample", "measure")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register heads, from files to files; print and return CPU seconds of each stage.

    Two different people by optimisation, everything else by networks, which is faster.
    """
    a, b, c, d = sorted((data_folder() / "heads").glob("*.nii.gz"))
    pairs = [(a, c, "optimize"), (a, b, "correct")]
    pairs += [("MNI152", head, "correct") for head in (a, b, c, d)]
    rows = {}
    for fixed, moving, method in pairs:
        name = f"{_short(fixed)} {_short(moving)} {method}"
        output = work / f"heads_{name.replace(' ', '_')}"
        command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet"]
        command += ["--fixed", fixed, "--moving", moving, "--output-dir", output]
        command += ["--method", method, "--num-threads", str(threads)]
        cost = run(command, threads)
        summary = json.loads((output / "summary.json").read_text())
        rows[name] = {
            **vars(cost),
            "cpu_seconds": summary["cpu_seconds"],
            "similarity": summary["similarity"],
            "folded_voxels": summary["jacobian"]["folded"],
        }
    show(_table(rows))
    return rows


def _short(path: Any) -> str:
    return Path(path).name.split("_")[0]


def _table(rows: dict[str, Any]) -> Table:
    table = Table(
        "pair", "before", "after", "folds", *STAGES, "all", "GB", title="Heads, CPU seconds"
    )
    for name, row in rows.items():
        seconds = [f"{row['cpu_seconds'].get(stage, 0):.0f}" for stage in STAGES]
        similarity = [f"{row['similarity'][when]:.3f}" for when in ("before", "after")]
        cost = f"{row['cpu']:.0f}", f"{row['memory']:.1f}"
        table.add_row(name, *similarity, str(row["folded_voxels"]), *seconds, *cost)
    return table
