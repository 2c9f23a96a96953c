"""Pairs to register: T1-weighted brains made from label maps, and two real ones."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

# Mean intensity of each tissue by aseg code of the left side.
INTENSITIES = {
    "T1w": {
        **{2: 0.90, 3: 0.60, 4: 0.15, 5: 0.20, 7: 0.86, 8: 0.57, 10: 0.74, 11: 0.66, 12: 0.70},
        **{13: 0.80, 14: 0.15, 15: 0.15, 16: 0.82, 17: 0.61, 18: 0.60, 24: 0.12, 25: 0.55},
        **{26: 0.63, 28: 0.78, 30: 0.40, 72: 0.15, 85: 0.60, 136: 0.70, 163: 0.30},
    },
    "T2w": {
        **{2: 0.40, 3: 0.60, 4: 1.00, 5: 0.98, 7: 0.42, 8: 0.58, 10: 0.52, 11: 0.55, 12: 0.50},
        **{13: 0.36, 14: 1.00, 15: 1.00, 16: 0.44, 17: 0.62, 18: 0.61, 24: 0.96, 25: 0.70},
        **{26: 0.57, 28: 0.45, 30: 0.25, 72: 1.00, 85: 0.48, 136: 0.55, 163: 0.85},
    },
}
RIGHT = {2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54}
RIGHT |= {25: 57, 26: 58, 28: 60, 30: 62, 136: 137, 163: 164}

# The same for tissues around the brain: skin, soft tissue, bone, marrow, vessels, eyes, air.
OUTSIDE = {511: 0.55, 507: 0.75, 515: 0.10, 516: 0.55, 514: 0.45, 506: 0.30, 508: 0.45, 509: 0.35}
OUTSIDE |= {502: 0.06, 512: 0.20, 530: 0.40}

# The structures whose overlap is reported: aseg without the third and fourth ventricle.
STRUCTURES = (
    *(2, 3, 4, 7, 8, 10, 11, 12, 13, 16, 17, 18, 26, 28),
    *(41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60),
)

# The cortical regions of neuromorphometrics.
_UNUSED = {110, 111, 126, 127, 130, 131, 158, 159, 188, 189}
CORTICAL_REGIONS = tuple(code for code in range(100, 208) if code not in _UNUSED)

SUBJECTS = ("13", "14", "15", "16")


@dataclass(frozen=True)
class Pair:
    """Files of a fixed and a moving brain, and their label maps if they have any."""

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None


def data_folder() -> Path:
    """Return the folder that ``QUICKSILVER_DATA`` names, or end the program."""
    folder = os.environ.get("QUICKSILVER_DATA", "")
    if not Path(folder, "labels").is_dir():
        sys.exit("benchmarks: set QUICKSILVER_DATA to the folder with labels/ and brains/")
    return Path(folder)


def pairs(work: Path) -> list[Pair]:
    """Return the pairs of the benchmarks; missing images from label maps are made in a folder."""
    made = {subject: synthesize(work, subject) for subject in SUBJECTS}
    result = []
    for fixed, moving in zip(SUBJECTS, (*SUBJECTS[1:], SUBJECTS[0]), strict=True):
        (image, labels), (other, other_labels) = made[fixed], made[moving]
        result.append(Pair(f"{fixed}-{moving}", image, other, labels, other_labels))
    return [*result, real_pair()]


def real_pair() -> Pair:
    """Return the pair of real brains."""
    brains = data_folder() / "brains"
    return Pair("real", brains / "oasis-a_T1w.nii.gz", brains / "oasis-b_T1w.nii.gz")


def manual_pairs() -> list[Pair]:
    """Return pairs of the real brains with labels drawn by hand, in the order of their names."""
    images = sorted((data_folder() / "real" / "manual").glob("*_T1w.nii.gz"))
    return [
        Pair(
            f"{fixed.name.split('_')[0]}-{moving.name.split('_')[0]}",
            *(fixed, moving),
            *(path.with_name(path.name.replace("T1w", "dseg-aseg")) for path in (fixed, moving)),
        )
        for fixed, moving in zip(images[::2], images[1::2], strict=True)
    ]


def with_cortical_regions(pair: Pair) -> Pair:
    """Return one of these pairs with the labels that have cortical regions."""
    paths = (pair.fixed, pair.moving)
    labels = [p.with_name(p.name.replace("T1w", "dseg-neuromorphometrics")) for p in paths]
    return Pair(pair.name, *paths, *labels)


def synthesize(work: Path, subject: str, contrast: str = "T1w") -> tuple[Path, Path]:
    """Make a skull-stripped image of a label map, cropped to 10 mm around the brain.

    Tissue means vary by 2% between subjects, every voxel by 3.5% of the range within a tissue;
    partial volume, a bias field of about 10% and noise of 2% follow.

    Returns
    -------
    image, labels : Path
        On one grid of 1 mm.
    """
    image_path, labels_path = (work / f"subject-{subject}_{n}.nii.gz" for n in (contrast, "dseg"))
    if image_path.exists() and labels_path.exists():
        return image_path, labels_path
    random = np.random.default_rng(int(subject))
    source = nib.load(data_folder() / "labels" / f"subject-{subject}_dseg.nii.gz")
    labels = np.asanyarray(source.dataobj).astype(np.int16)
    brain = (labels > 0) & (labels < 200) & (labels != 24)
    ball = ndimage.generate_binary_structure(3, 1)
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(brain, ball, iterations=4))

    means, spread = np.zeros(1000), np.zeros(1000)
    for left, mean in INTENSITIES[contrast].items():
        for code in {left, RIGHT.get(left, left)}:
            means[code], spread[code] = mean * (1 + 0.02 * random.standard_normal()), 0.035
    image = means[labels] + spread[labels] * random.standard_normal(labels.shape)
    image[mask & (labels >= 200)] = INTENSITIES[contrast][24]
    image = ndimage.gaussian_filter(image * mask, 0.6)
    coarse = random.standard_normal((5, 5, 5))
    bias = ndimage.zoom(coarse, [n / 5 for n in labels.shape], order=3)
    image = image * np.exp(0.1 * bias) + 0.02 * random.standard_normal(labels.shape)

    occupied = np.argwhere(mask)
    low, high = np.maximum(occupied.min(0) - 10, 0), occupied.max(0) + 11
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    image = np.clip(image, 0, None) * mask
    cropped = nib.Nifti1Image(image.astype(np.float32), source.affine).slicer[box]
    tissue = nib.Nifti1Image((labels * brain).astype(np.int16), source.affine).slicer[box]
    nib.save(cropped, image_path)
    nib.save(tissue, labels_path)
    return image_path, labels_path


def synthesize_head(work: Path, subject: str) -> tuple[Path, Path, Path]:
    """Make a T1-weighted image of a whole head from a label map.

    Returns
    -------
    image, intracranial, tissue : Path
        The head; the true mask of brain extraction, with the fluid; the mask without the fluid.
    """
    names = ("head_T1w", "intracranial_mask", "tissue_mask")
    paths = tuple(work / f"subject-{subject}_{name}.nii.gz" for name in names)
    if all(path.exists() for path in paths):
        return paths
    random = np.random.default_rng(100 + int(subject))
    source = nib.load(data_folder() / "labels" / f"subject-{subject}_dseg.nii.gz")
    labels = np.asanyarray(source.dataobj).astype(np.int16)
    tissue = (labels > 0) & (labels < 200) & (labels != 24)
    ball = ndimage.generate_binary_structure(3, 1)
    within = tissue | (labels == 24)
    intracranial = ndimage.binary_fill_holes(ndimage.binary_closing(within, ball, iterations=3))

    means, spread = np.zeros(1000), np.full(1000, 0.035)
    spread[0] = 0
    for left, mean in INTENSITIES["T1w"].items():
        for code in {left, RIGHT.get(left, left)}:
            means[code] = mean * (1 + 0.02 * random.standard_normal())
    for code, mean in OUTSIDE.items():
        means[code], spread[code] = mean * (1 + 0.1 * random.standard_normal()), 0.08
    # Muscle and fat have one label: a random texture of a few millimetres distinguishes them.
    texture = ndimage.gaussian_filter(random.standard_normal(labels.shape), 3)
    image = means[labels] + spread[labels] * random.standard_normal(labels.shape)
    image += np.where(labels == 507, 0.2 * texture / texture.std(), 0)
    image = ndimage.gaussian_filter(np.clip(image, 0, None), 0.6)
    bias = ndimage.zoom(random.standard_normal((5, 5, 5)), [n / 5 for n in labels.shape], order=3)
    image *= np.exp(0.1 * bias)
    noise = 0.02 * random.standard_normal((2, *labels.shape))
    image = np.hypot(image + noise[0], noise[1])  # of the magnitude, as in air
    for path, volume in zip(paths, (image * 1000, intracranial, tissue), strict=True):
        dtype = np.int16 if path is paths[0] else np.uint8
        nib.save(nib.Nifti1Image(volume.astype(dtype), source.affine), path)
    return paths
