"""Synthetic data sets with the folders and formats of the real ones."""

import gzip
import shutil

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from tests.conftest import brain

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -17, -21, -15
SHAPE = (18, 22, 16)


def subject(number):
    """Return image and labels of a person."""
    points = apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
    return brain(0.95 * points + np.sin(points[..., [1, 2, 0]] / 8 + number))


def analyze(stem, data):
    """Write an Analyze image of two files, without a world coordinate system."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    image = nib.AnalyzeImage(data, np.diag([-2.0, 2.0, 2.0, 1.0]))
    nib.save(image, f"{stem}.img")
    stem.with_name(f"{stem.name}.mat").unlink(missing_ok=True)


def compress(path):
    """Compress one file of a pair."""
    with open(path, "rb") as source, gzip.open(f"{path}.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    path.unlink()


def nifti(stem, data, suffix=".nii.gz"):
    """Write a NIfTI image."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), f"{stem}{suffix}")


def cumc12(root, numbers=(1, 2, 3)):
    """Brains and atlases in Analyze format."""
    for number in numbers:
        image, labels = subject(number)
        analyze(root / "Brains" / f"m{number}", image)
        analyze(root / "Atlases" / f"m{number}", labels.astype(np.int16))
    return root


def mgh10(root, numbers=(1, 2)):
    """Heads with masks."""
    for number in numbers:
        image, labels = subject(number)
        nifti(root / "Heads" / f"g{number}", image)
        nifti(root / "BrainMasks" / f"g{number}", (labels > 0).astype(np.uint8))
        nifti(root / "Atlases" / f"g{number}", labels)
    return root


def lpba40(root, numbers=(1, 3)):
    """One volume of a series, header plain and voxels compressed."""
    for number in numbers:
        image, labels = subject(number)
        folder = root / "delineation_space" / f"S{number:02d}"
        for name, data in (("skullstripped", image), ("structure.label", labels)):
            stem = folder / f"S{number:02d}.delineation.{name}"
            analyze(stem, data[..., None].astype(np.int16))
            compress(stem.with_name(f"{stem.name}.img"))
    return root


def ibsr18(root, numbers=(1, 2)):
    """NIfTI of one folder per person, plain."""
    for number in numbers:
        image, labels = subject(number)
        stem = root / "IBSR_nifti_stripped" / f"IBSR_{number:02d}" / f"IBSR_{number:02d}"
        nifti(stem.with_name(f"{stem.name}_ana_strip"), image, ".nii")
        nifti(stem.with_name(f"{stem.name}_seg_ana"), labels, ".nii")
        nifti(stem.with_name(f"{stem.name}_segTRI_ana"), labels, ".nii")
    return root


def in_one_space(root, letter="l", numbers=(2, 4)):
    """Brains that are aligned to a template."""
    for number in numbers:
        image, labels = subject(number)
        nifti(root / "brain_affine_icbm" / f"{letter}{number}", image, ".nii")
        nifti(root / "label_affine_icbm" / f"{letter}{number}", labels, ".nii")
    return root
