"""Labels of six atlases propagated to four targets: of single atlases, and by three fusions."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.data import STRUCTURES, SUBJECTS, synthesize
from benchmarks.measuring import run
from benchmarks.tables import show
from nipype_quicksilver.options import FUSIONS
from nipype_quicksilver.spatial.fusion import fuse_labels
from nipype_quicksilver.spatial.images import read_image, read_labels
from nipype_quicksilver.spatial.measures import label_overlap

ATLASES = ("01", "02", "03", "04", "05", "06")
METHOD = "correct"


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Propagate labels; print and return Dice, also by structure."""
    made = {name: synthesize(work, name) for name in (*ATLASES, *SUBJECTS)}
    rows = {
        target: _measure_target(target, made, work / f"multiatlas_{target}", threads)
        for target in SUBJECTS
    }
    show(_table(rows))
    return rows


def _measure_target(
    target: str, made: dict[str, tuple[Path, Path]], work: Path, threads: int
) -> dict[str, Any]:
    work.mkdir(exist_ok=True)
    image, truth = made[target]
    labels, images = [], []
    for atlas in ATLASES:
        output = work / atlas
        command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet"]
        command += ["--fixed", image, "--moving", made[atlas][0], "--output-dir", output]
        command += ["--moving-labels", made[atlas][1], "--method", METHOD]
        command += ["--num-threads", str(threads)]
        if not (output / "summary.json").exists():
            run(command, threads)
        labels.append(read_labels(output / "warped_labels.nii.gz"))
        images.append(read_image(output / "warped.nii.gz"))
    reference = read_labels(truth)
    row = {
        f"atlas {atlas}": _dice(reference, warped)
        for atlas, warped in zip(ATLASES, labels, strict=True)
    }
    for method in FUSIONS:
        fused = fuse_labels(labels, method=method, target=read_image(image), images=images)
        row[method] = _dice(reference, fused)
    return row


def _dice(truth: Any, labels: Any) -> dict[str, Any]:
    overlap = label_overlap(truth, labels, STRUCTURES)
    structures = {label: row.dice for label, row in overlap.labels.items()}
    return {"mean": overlap.mean.dice, "structures": structures}


def _table(rows: dict[str, Any]) -> Table:
    table = Table("target", "best atlas", "mean atlas", *FUSIONS, title="Mean Dice")
    for target, row in rows.items():
        alone = [values["mean"] for name, values in row.items() if name.startswith("atlas")]
        cells = [max(alone), float(np.mean(alone)), *(row[name]["mean"] for name in FUSIONS)]
        table.add_row(target, *(f"{cell:.4f}" for cell in cells))
    return table
