"""Affine alignment from perturbed starts, beside greedy: accuracy, symmetry, bits, cost."""

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from benchmarks.data import data_folder, synthesize
from benchmarks.greedy import GREEDY
from benchmarks.measuring import median_cost, run
from nipype_quicksilver.spatial.transforms import read_affine

PERTURBATIONS = 40
SYMMETRIC = 4  # of them are also run with the images exchanged, and on one thread


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Align three perturbed subjects to the template; print and return the figures."""
    data = data_folder()
    template = next((data / "template").glob("*.nii.gz"))
    subjects = [
        data / "brains" / "oasis-a_T1w.nii.gz",
        data / "brains" / "oasis-b_T1w.nii.gz",
        synthesize(data, "13", work)[0],
    ]
    corners = _corners(template)
    rows = {
        subject.name.split("_")[0]: _measure_subject(
            subject, template, corners, number, work, threads
        )
        for number, subject in enumerate(subjects)
    }
    Console().print(_table(rows))
    return rows


def align(fixed: Path, moving: Path, output: Path, threads: int) -> Any:
    """Align two brains with the command; return its cost."""
    command = [sys.executable, "-m", "nipype_quicksilver.cli", "affine", "--quiet"]
    command += ["--fixed", fixed, "--moving", moving, "--output", output]
    return run([*command, "--num-threads", str(threads)], threads)


def _measure_subject(
    subject: Path, template: Path, corners: np.ndarray, number: int, work: Path, threads: int
) -> dict[str, Any]:
    """Align a subject from several starts, which the header of the image holds."""
    random = np.random.default_rng(number)
    image = nib.load(subject)
    center = apply_affine(image.affine, (np.array(image.shape[:3]) - 1) / 2)
    ours, theirs, costs, peer_costs, symmetry, bits = [], [], [], [], [], []
    for index in range(number, PERTURBATIONS, 3):
        change = perturbation(random, center)
        moved, output = work / "perturbed.nii.gz", work / "affine.txt"
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), change @ image.affine), moved)
        costs.append(align(template, moved, output, threads))
        matrix = read_affine(output)
        ours.append(apply_affine(np.linalg.inv(change) @ matrix, corners))
        peer = work / "greedy_affine.txt"
        start = ("-a", "-dof", "12", "-ia-image-centers", "-m", "NCC", "4x4x4", "-n", "100x50x10")
        peer_costs.append(
            run([*GREEDY, *start, "-threads", str(threads), "-i", template, moved, "-o", peer])
        )
        theirs.append(apply_affine(np.linalg.inv(change) @ np.loadtxt(peer), corners))
        if index // 3 < SYMMETRIC:
            align(moved, template, output, threads)
            there_and_back = apply_affine(read_affine(output) @ matrix, corners)
            symmetry.append(float(np.linalg.norm(there_and_back - corners, axis=1).max()))
            align(template, moved, output, 1)
            bits.append(bool(np.array_equal(read_affine(output), matrix)))
    median = np.median(ours, axis=0)
    return {
        "from_median_mm": float(_distances(ours, median).max()),
        "from_greedy_mm": float(_distances([median], np.median(theirs, axis=0)).max()),
        "greedy_from_median_mm": float(_distances(theirs, np.median(theirs, axis=0)).max()),
        "there_and_back_mm": max(symmetry),
        "same_bits": all(bits),
        "cpu": median_cost(costs).cpu,
        "greedy_cpu": median_cost(peer_costs).cpu,
    }


def perturbation(random: np.random.Generator, center: np.ndarray) -> np.ndarray:
    """Return a rotation to 45 degrees, a scale of 0.8 to 1.2 and a shift to 50 mm, as 4x4."""
    axis, shift = random.standard_normal((2, 3))
    turn = Rotation.from_rotvec(np.radians(random.uniform(0, 45)) * axis / np.linalg.norm(axis))
    linear = random.uniform(0.8, 1.2) * turn.as_matrix()
    shift *= random.uniform(0, 50) / np.linalg.norm(shift)
    return from_matvec(linear, center - linear @ center + shift)


def _corners(path: Path) -> np.ndarray:
    image = nib.load(path)
    index = np.argwhere(np.asanyarray(image.dataobj) > 0)
    ends = np.stack([index.min(axis=0), index.max(axis=0)])
    picks = np.indices((2, 2, 2)).reshape(3, -1).T
    return apply_affine(image.affine, ends[picks, np.arange(3)])


def _distances(points: Any, center: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(points) - center, axis=-1)


def _table(rows: dict[str, Any]) -> Table:
    keys = {"from_median_mm": 2, "from_greedy_mm": 2, "greedy_from_median_mm": 2}
    keys |= {"there_and_back_mm": 4, "same_bits": 0, "cpu": 1, "greedy_cpu": 1}
    table = Table("subject", *keys, title="Affine, whole commands; distances at the corners")
    for name, row in rows.items():
        table.add_row(name, *(f"{float(row[key]):.{digits}f}" for key, digits in keys.items()))
    return table
