"""Brain extraction on heads with a known brain, and its consistency on real heads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.table import Table

from benchmarks.data import SUBJECTS, data_folder, synthesize_head
from benchmarks.measuring import Cost, run
from benchmarks.tables import show

# Changes of a real head, which must not change its brain mask.
CHANGES: dict[str, Callable[[Any], Any]] = {
    "orientation": lambda image: nib.as_closest_canonical(image).slicer[::-1, :, ::-1],
    "intensity": lambda image: nib.Nifti1Image(
        (7.3 * image.get_fdata()).astype(np.float32), image.affine
    ),
}


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Extract brains of synthetic and real heads; print and return the figures."""
    rows: dict[str, Any] = {}
    for subject in SUBJECTS:
        head, truth, tissue = synthesize_head(work, subject)
        mask = work / f"subject-{subject}_extracted.nii.gz"
        cost = extract(head, mask, threads)
        extracted, inside, matter = (_load(path) for path in (mask, truth, tissue))
        rows[subject] = {
            "dice": _dice(extracted, inside),
            "recall": float(np.mean(extracted[matter])),
            **_summary(mask),
            **vars(cost),
        }
    for head in sorted((data_folder() / "heads").glob("*.nii.gz")):
        rows[head.name.removesuffix("_T1w.nii.gz")] = _consistency(head, work, threads)
    show(_table(rows))
    return rows


def extract(head: Path, mask: Path, threads: int) -> Cost:
    """Extract a brain with the command, from files to files."""
    command = [sys.executable, "-m", "nipype_quicksilver", "extract-brain", "--quiet"]
    command += ["--input", head, "--output-mask", mask, "--output-json", _json(mask)]
    return run([*command, "--num-threads", str(threads)], threads)


def _consistency(head: Path, work: Path, threads: int) -> dict[str, Any]:
    """Return the overlap between the masks of a head and of the same head with changes."""
    usual = work / f"{head.name.removesuffix('.nii.gz')}_mask.nii.gz"
    row: dict[str, Any] = vars(extract(head, usual, threads)) | _summary(usual)
    image = nib.load(head)
    expected = nib.as_closest_canonical(nib.load(usual))
    for name, change in CHANGES.items():
        changed, mask = work / f"changed_{name}.nii.gz", work / f"changed_{name}_mask.nii.gz"
        nib.save(change(image), changed)
        extract(changed, mask, threads)
        extracted = nib.as_closest_canonical(nib.load(mask))
        row[name] = _dice(np.asanyarray(extracted.dataobj) > 0, np.asanyarray(expected.dataobj) > 0)
    return row


def _json(mask: Path) -> Path:
    return mask.with_name(mask.name.replace(".nii.gz", ".json"))


def _summary(mask: Path) -> dict[str, Any]:
    summary = json.loads(_json(mask).read_text())
    return {"how": summary["how"], "volume_ml": summary["volume_ml"]}


def _load(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj) > 0


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.sum(first & second) / (np.sum(first) + np.sum(second)))


def _table(rows: dict[str, Any]) -> Table:
    keys = {"dice": 4, "recall": 4, "orientation": 4, "intensity": 4}
    keys |= {"volume_ml": 0, "cpu": 1, "memory": 2}
    table = Table("head", *keys, title="Brain extraction, whole commands")
    for name, row in rows.items():
        cells = [f"{row[key]:.{digits}f}" if key in row else "" for key, digits in keys.items()]
        table.add_row(name, *cells)
    return table
