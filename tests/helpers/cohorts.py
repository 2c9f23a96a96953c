"""Tiny cohorts: brains of 32 mm in BIDS data sets, registered in a second each."""

import json

import numpy as np

from nipype_quicksilver.spatial import images
from tests.conftest import labelled_brain

_MEANS = {2: 900, 3: 600, 10: 740, 4: 150, 16: 820}
_OTHER_SIDE = {2: 41, 3: 42, 10: 49, 4: 43}

#: Options with which a registration of two of these brains takes a second.
FAST = ("--brain-extraction", "none", "--affine", "none")
FAST += ("--method", "optimize", "--iterations", "8x2x0x0")


def tiny_brain(number):
    """Return the image and the labels of a brain, which differ with the number."""
    means = np.zeros(50)
    for code, mean in _MEANS.items():
        means[[code, _OTHER_SIDE.get(code, code)]] = mean
    labels = labelled_brain(number)
    noise = np.random.default_rng(number).normal(0, 15, labels.shape)
    return (means[labels] + noise * (labels > 0)).astype(np.float32), labels


def write_data_set(folder, participants):
    """Write a BIDS data set with a T1w image of each participant, and labels as derivatives."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {"Name": "tiny", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    for number in range(1, participants + 1):
        image, labels = tiny_brain(number)
        name = f"sub-{number:02d}"
        for root, suffix, data in (
            (folder, "T1w", image),
            (folder / "derivatives" / "labels", "dseg", labels),
        ):
            anat = root / name / "anat"
            anat.mkdir(parents=True)
            images.write_image(anat / f"{name}_{suffix}.nii.gz", data, np.eye(4))
    return folder


def write_fixed(folder):
    """Write a fixed image with its labels."""
    image, labels = tiny_brain(99)
    return (
        images.write_image(folder / "tpl-Tiny_T1w.nii.gz", image, np.eye(4)),
        images.write_image(folder / "tpl-Tiny_dseg.nii.gz", labels, np.eye(4)),
    )


def break_image(folder, participant):
    """Truncate the image of a participant; return its path and its bytes before."""
    path = folder / participant / "anat" / f"{participant}_T1w.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path, whole


def derivative_images(folder):
    """Return the bytes of all images among the derivatives, by their names."""
    files = folder.glob("sub-*/**/*.nii.gz")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
