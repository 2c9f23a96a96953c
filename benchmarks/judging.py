"""The checks of results on real images: which of them warn, and the measures they decide by."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from rich.table import Table
from scipy.spatial.transform import Rotation

from benchmarks.data import data_folder
from benchmarks.measuring import run
from benchmarks.tables import show
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import read_image, write_image
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import affine_transform

TURN, SHIFT = (6, -9, 12), (8, -5, 6)  # degrees, mm; of the rigid motion
PHANTOM = ("is background", "two directions", "less similar", "changes volumes")


@dataclass(frozen=True)
class Case:
    """A registration of real images, and phrases of the warnings that it must have.

    Every phrase has to be in a warning, and every warning has to have one of the phrases.
    """

    fixed: str
    moving: str
    phrases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


CASES = {
    "T1w head": Case("MNI152", "heads/sub-01_T1w"),
    "gadolinium": Case("MNI152", "heads/MR_Gd"),
    "elderly": Case("MNI152", "flair/Subj02_T1w"),
    "stroke": Case("MNI152", "heads/clinical_T2w"),
    "PD, cut off": Case("MNI152", "heads/chris_PD", ("may be cut off",)),
    "macaque": Case("animals/inia19_T1w_brain", "animals/NIMH-NMT_T1w_brain"),
    "infant, turned": Case("MNI152", "infants/sub-0008_ses-V01_T1w", ("rotates", "less similar")),
    "one person": Case("flair/Subj01_T1w", "flair/Subj01_FLAIR", ("of one person",)),
    "one person, rigid": Case(
        "flair/Subj01_T1w", "flair/Subj01_FLAIR", (), ("--transform", "rigid")
    ),
    "CT of a phantom": Case("MNI152", "heads/CT_phantom", (*PHANTOM, "may be cut off")),
}


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register every pair once; end the program if a result has other warnings than expected."""
    rows = {name: _measure(case, work / f"judging_{n}", threads)
            for n, (name, case) in enumerate(CASES.items())}  # fmt: skip
    table = Table(*next(iter(rows.values())), title="Judged results")
    for row in rows.values():
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    show(table)
    wrong = [name for name, row in rows.items() if not row["as expected"]]
    if wrong:
        sys.exit(f"benchmarks: other warnings than expected: {', '.join(wrong)}")
    return rows


def _measure(case: Case, output: Path, threads: int) -> dict[str, Any]:
    """Register a pair, keeping intermediate files; return its measures."""
    command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet", *case.options]
    command += ["--fixed", _path(case.fixed), "--moving", _path(case.moving)]
    command += ["--output-dir", output, "--work-dir", f"{output}_work"]
    run([*command, "--num-threads", str(threads)], threads)
    summary = json.loads((output / "summary.json").read_text())
    found = [text.partition(": ")[2] for text in summary["warnings"]]
    scale = np.log(abs(np.linalg.det(np.array(summary["affine_matrix"])[:3, :3])))
    logs = summary["jacobian"]["log_jacobian"]
    expected = all(any(phrase in text for text in found) for phrase in case.phrases)
    affine = summary["preprocessing"]["affine"]
    return {
        "pair": f"{Path(case.fixed).name} {Path(case.moving).name}",
        "before": summary["similarity"]["before"],
        "after": summary["similarity"]["after"],
        "apart, mm": affine.get("directions_apart_mm"),
        "scales": " ".join(f"{value:.2f}" for value in affine.get("scales") or []),
        "log J p1": logs["p1"] - scale,
        "log J p99": logs["p99"] - scale,
        "moved, mm": summary.get("deformation_mm", {}).get("mean"),
        "folds": summary["jacobian"]["folded"],
        "warnings": " / ".join(found),
        "as expected": expected
        and all(any(phrase in text for phrase in case.phrases) for text in found),
    }


def measure_rigid(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register a real head rigidly to itself after a known motion, in both directions."""
    head = data_folder() / "heads" / "head-c_2mm_T1w.nii.gz"
    image = read_image(head)
    grid = Grid.from_image(image)
    center = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    turn = Rotation.from_rotvec(TURN, degrees=True).as_matrix()
    truth = from_matvec(turn, center + SHIFT - turn @ center)
    data = resample(image, grid, affine_transform(np.linalg.inv(truth)))
    moved = write_image(work / "moved.nii.gz", data, image.affine)
    there, back = (_rigid(*pair, work, threads) for pair in ((head, moved), (moved, head)))
    points = apply_affine(grid.affine, np.argwhere(np.asanyarray(image.dataobj) > 0)[::50])

    def largest(matrix: np.ndarray, other: np.ndarray) -> float:
        difference = apply_affine(matrix, points) - apply_affine(other, points)
        return float(np.linalg.norm(difference, axis=1).max())

    figures = {
        "error, mm": largest(there, truth),
        "inverse inconsistency, mm": largest(back @ there, np.eye(4)),
    }
    table = Table("largest in the head", "mm", title="A rigid motion of a head")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2g}")
    show(table)
    return figures


def _rigid(fixed: Path, moving: Path, work: Path, threads: int) -> np.ndarray:
    """Return the matrix of a rigid registration."""
    output = work / f"rigid_{fixed.name.split('.')[0]}"
    command = [sys.executable, "-m", "nipype_quicksilver", "register", "--quiet"]
    command += ["--fixed", fixed, "--moving", moving, "--output-dir", output]
    run([*command, "--transform", "rigid", "--num-threads", str(threads)], threads)
    return np.array(json.loads((output / "summary.json").read_text())["affine_matrix"])


def _path(name: str) -> Path | str:
    return name if name == "MNI152" else data_folder() / "real" / f"{name}.nii.gz"
