"""Memory of `quicksilver apply` on 4-D series, by the number of volumes."""

import os
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import from_matvec
from rich.table import Table

from benchmarks.measuring import run
from benchmarks.tables import show
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image

#: The series of a multiband run, and the template onto whose grid it is resampled.
SERIES = Grid((64, 64, 36), from_matvec(np.diag([-3.5, 3.5, 4]), [112, -112, -72]))
TEMPLATE = Grid((193, 229, 193), from_matvec(np.eye(3), [-96, -132, -78]))
VOLUMES = (10, 40)
#: Number of volumes of a whole run, which takes long.
WHOLE = 600


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Resample series of several lengths onto 1 mm, through a deformation."""
    return _measure(work, threads, VOLUMES)


def measure_whole(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Resample a whole run onto 1 mm; some ten minutes of CPU time."""
    return _measure(work, threads, (WHOLE,))


def _measure(work: Path, threads: int, numbers: tuple[int, ...]) -> dict[str, Any]:
    reference, transform = _template(work), _transform(work)
    columns = ("volumes", "size of the result, GB", "CPU s", "wall s", "peak GB")
    table = Table(*columns, title="Series, from files to files")
    figures: dict[str, Any] = {}
    for number in numbers:
        output = work / f"series-{number}-warped.nii.gz"
        command = [sys.executable, "-m", "nipype_quicksilver", "apply", "--transform", transform]
        command += ["--input", _series(work, number), "--reference", reference]
        cost = run([*command, "--output", output], threads)
        gigabytes = number * np.prod(TEMPLATE.shape) * 4 / 1e9
        os.unlink(output)
        figures[str(number)] = cost.__dict__
        cells = (f"{gigabytes:.1f}", f"{cost.cpu:.0f}", f"{cost.wall:.0f}", f"{cost.memory:.2f}")
        table.add_row(str(number), *cells)
    show(table)
    return figures


def _series(work: Path, number: int) -> Path:
    """Write a series of steps, int16, compressed; its result compresses well, too."""
    path = work / f"series-{number}.nii.gz"
    if path.exists():
        return path
    random = np.random.default_rng(0)
    distance = np.linalg.norm(SERIES.coordinates() / [70, 90, 70], axis=-1)
    head = 800 * np.clip(1.2 - distance, 0, 1)
    data = np.empty((*SERIES.shape, number), np.int16, order="F")
    for t in range(number):
        data[..., t] = 200 * np.rint(head / 200) + random.integers(0, 100)
    nib.save(nib.Nifti1Image(data, SERIES.affine), path)
    return path


def _template(work: Path) -> Path:
    return write_image(work / "template.nii.gz", np.ones(TEMPLATE.shape, np.uint8), TEMPLATE.affine)


def _transform(work: Path) -> Path:
    """Write a composite of an affine and a field on the grid of the template, on 2 mm."""
    grid = TEMPLATE.subsampled(2)
    field = 4 * np.sin(grid.coordinates() / 25).astype(np.float32)
    affine = from_matvec(np.diag([1.05, 0.95, 1]), [2, -3, 1])
    chain = [transforms.affine_transform(affine), transforms.displacement_transform(field, grid)]
    return transforms.write_composite(work / "composite.h5", transforms.compose(chain))
