"""Affine alignment from perturbed starts, compared with greedy and ANTs: accuracy and cost."""

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nibabel.nifti1 import Nifti1Image
from rich.table import Table
from scipy.spatial.transform import Rotation

from benchmarks import ants, greedy
from benchmarks.data import data_folder, synthesize
from benchmarks.measuring import Cost, run
from benchmarks.tables import show
from nipype_quicksilver.preprocessing import affine
from nipype_quicksilver.spatial.images import nifti, read_image, write_image
from nipype_quicksilver.spatial.transforms import read_affine

PERTURBATIONS = 10  # of each image
SYMMETRIC = 2  # number of them that are also run with exchanged images, and on one thread
TOOLS = ("quicksilver", "greedy", "ants")


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Align perturbed brains to the template; print and return the figures.

    Three subjects, whose true affines are unknown, and the template itself with other intensities,
    whose true affine is the perturbation. The external tools, which take longer, start from the
    first perturbation only.
    """
    data = data_folder()
    template = next((data / "template").glob("*.nii.gz"))
    moving = {
        "template": _alter(template, work / "disguised_T1w.nii.gz"),
        "oasis-a": data / "brains" / "oasis-a_T1w.nii.gz",
        "oasis-b": data / "brains" / "oasis-b_T1w.nii.gz",
        "subject-13": synthesize(work, "13")[0],
    }
    corners = _corners(template)
    rows = {
        name: _measure_image(image, template, corners, number, work, threads)
        for number, (name, image) in enumerate(moving.items())
    }
    rows["template"]["from_truth_mm"] = {
        tool: float(_distances(points, corners).max())
        for tool, points in rows["template"]["corners"].items()
    }
    for row in rows.values():
        del row["corners"]
    show(_table(rows))
    return rows


def align(fixed: Path, moving: Path, output: Path, threads: int) -> Cost:
    """Align two brains with the command; return its cost."""
    command = [sys.executable, "-m", "nipype_quicksilver", "affine", "--quiet"]
    command += ["--fixed", fixed, "--moving", moving, "--output", output]
    return run([*command, "--num-threads", str(threads)], threads)


def _measure_image(
    path: Path, template: Path, corners: np.ndarray, number: int, work: Path, threads: int
) -> dict[str, Any]:
    """Align an image from several starts, which are written to its header."""
    random = np.random.default_rng(number)
    image, fixed = read_image(path), read_image(template)
    center = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    mapped: dict[str, list[np.ndarray]] = {tool: [] for tool in TOOLS}
    symmetry, bits = [], []
    for index in range(PERTURBATIONS):
        change = perturbation(random, center)
        moving = nifti(np.asanyarray(image.dataobj), change @ image.affine)
        matrix = affine.align(fixed, moving, num_threads=threads).matrix
        matrices = {"quicksilver": matrix}
        if index == 0:
            costs, others = _whole_commands(template, moving, work, threads)
            matrices |= others
        for tool, each in matrices.items():
            mapped[tool].append(apply_affine(np.linalg.inv(change) @ each, corners))
        if index < SYMMETRIC:
            inverse = affine.align(moving, fixed, num_threads=threads).matrix
            round_trip = apply_affine(inverse @ matrix, corners)
            symmetry.append(float(_distances(round_trip, corners).max()))
            single = affine.align(fixed, moving, num_threads=1).matrix
            bits.append(bool(np.array_equal(single, matrix)))
    median = np.median([np.median(points, axis=0) for points in mapped.values()], axis=0)
    return {
        "corners": mapped,
        "from_median_mm": {
            name: float(_distances(points, median).max()) for name, points in mapped.items()
        },
        "there_and_back_mm": max(symmetry),
        "same_bits": all(bits),
        "cpu": {tool: cost.cpu for tool, cost in costs.items()},
    }


def _whole_commands(
    template: Path, moving: Nifti1Image, work: Path, threads: int
) -> tuple[dict[str, Cost], dict[str, np.ndarray]]:
    """Align an image to the template by all tools; return costs, and matrices of external tools."""
    moved = work / "perturbed.nii.gz"
    write_image(moved, np.asanyarray(moving.dataobj), moving.affine)
    files = {tool: work / f"affine_{tool}.mat" for tool in TOOLS}
    costs = {
        "quicksilver": align(template, moved, files["quicksilver"], threads),
        "greedy": greedy.align_files(template, moved, files["greedy"], threads),
        "ants": ants.align(template, moved, files["ants"], threads),
    }
    return costs, {"greedy": np.loadtxt(files["greedy"]), "ants": read_affine(files["ants"])}


def perturbation(random: np.random.Generator, center: np.ndarray) -> np.ndarray:
    """Return a 4x4 matrix: rotation up to 45 degrees, scale from 0.8 to 1.2, shift up to 50 mm."""
    axis, shift = random.standard_normal((2, 3))
    turn = Rotation.from_rotvec(np.radians(random.uniform(0, 45)) * axis / np.linalg.norm(axis))
    linear = random.uniform(0.8, 1.2) * turn.as_matrix()
    shift *= random.uniform(0, 50) / np.linalg.norm(shift)
    return from_matvec(linear, center - linear @ center + shift)


def _alter(template: Path, path: Path) -> Path:
    """Write a template with another contrast, a bias field and noise."""
    image = nib.load(template)
    data = image.get_fdata()
    random = np.random.default_rng(0)
    ramp = np.linspace(-0.2, 0.2, data.shape[1])[None, :, None]
    noisy = (data / data.max()) ** 1.5 * np.exp(ramp) + 0.03 * random.standard_normal(data.shape)
    disguised = np.where(data > 0, np.maximum(noisy, 1e-3), 0).astype(np.float32)
    nib.save(nib.Nifti1Image(disguised, image.affine), path)
    return path


def _corners(path: Path) -> np.ndarray:
    image = nib.load(path)
    index = np.argwhere(np.asanyarray(image.dataobj) > 0)
    ends = np.stack([index.min(axis=0), index.max(axis=0)])
    picks = np.indices((2, 2, 2)).reshape(3, -1).T
    return apply_affine(image.affine, ends[picks, np.arange(3)])


def _distances(points: Any, center: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(points) - center, axis=-1)


def _table(rows: dict[str, Any]) -> Table:
    columns = ("truth mm", "median mm", "round trip mm", "same bits", "CPU s")
    table = Table("image", "tool", *columns, title="Affine, whole commands; at the corners")
    for name, row in rows.items():
        for tool in TOOLS:
            own = tool == "quicksilver"
            table.add_row(
                *(name, tool),
                f"{row['from_truth_mm'][tool]:.2f}" if "from_truth_mm" in row else "",
                f"{row['from_median_mm'][tool]:.2f}",
                f"{row['there_and_back_mm']:.4f}" if own else "",
                str(row["same_bits"]) if own else "",
                f"{row['cpu'][tool]:.1f}",
            )
    return table
