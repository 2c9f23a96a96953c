"""Brains of animals: as their headers say, and the same voxels ten times as large."""

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.table import Table

from benchmarks.data import data_folder
from benchmarks.measuring import run
from benchmarks.tables import show
from nipype_quicksilver.spatial.magnification import magnified

LARGER = 10.0
PAIRS = {
    "mouse": ("FVB_1_T2w", "FVB_2_T2w", LARGER),
    "mouse with atrophy": ("FVB_1_T2w", "Tg4510_11_T2w", LARGER),
    "macaque": ("inia19_T1w_brain", "NIMH-NMT_T1w_brain", 2.0),
}


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register the pairs with no option, in both sizes; print and return the figures."""
    rows = {}
    for name, (fixed, moving, larger) in PAIRS.items():
        for factor in (1.0, larger):
            label = f"{name}, {factor:g} times" if factor != 1 else name
            rows[label] = _register(fixed, moving, factor, work / "sizes", threads)
    show(_table(rows))
    return rows


def _register(fixed: str, moving: str, factor: float, work: Path, threads: int) -> dict[str, Any]:
    """Register a pair whose voxels are larger by a factor, and return its figures."""
    folder = work / f"{fixed}_{moving}_{factor:g}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet"]
    command += ["--output-dir", folder / "out", "--num-threads", str(threads)]
    for side, name in (("fixed", fixed), ("moving", moving)):
        command += [f"--{side}", _enlarged(name, factor, folder)]
        labels = name.replace("_T2w", "_dseg")
        if labels != name:
            command += [f"--{side}-labels", _enlarged(labels, factor, folder)]
    cost = run(command, threads)
    summary = json.loads((folder / "out" / "summary.json").read_text())
    dice = [summary["labels"][when]["mean"]["dice"] if "labels" in summary else None
            for when in ("before", "after")]  # fmt: skip
    return {
        "magnification": summary["magnification"],
        "dice": dice,
        "local_correlation": [summary["similarity"][when] for when in ("before", "after")],
        "folds": summary["jacobian"]["folded"],
        "warnings": len(summary["warnings"]),
        "cpu": cost.cpu,
    }


def _enlarged(name: str, factor: float, folder: Path) -> Path:
    """Return the file of an image in a world that is larger by a factor."""
    file = data_folder() / "real" / "animals" / f"{name}.nii.gz"
    if factor == 1:
        return file
    image = nib.load(file)
    larger = magnified(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine), factor)
    nib.save(larger, folder / file.name)
    return folder / file.name


def _table(rows: dict[str, Any]) -> Table:
    table = Table(
        *("pair", "magnification", "Dice", "local correlation", "folds", "warnings", "CPU s"),
        title="Brains of animals, by the affine and after registration",
    )
    for name, row in rows.items():
        before, after = row["dice"]
        dice = "" if after is None else f"{before:.3f} to {after:.3f}"
        correlation = " to ".join(f"{value:.2f}" for value in row["local_correlation"])
        numbers = (row["folds"], row["warnings"], f"{row['cpu']:.0f}")
        table.add_row(name, f"{row['magnification']:g}", dice, correlation, *map(str, numbers))
    return table
