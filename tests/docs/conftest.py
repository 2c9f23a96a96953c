"""The files that the documentation names: brains, label maps and networks, all of them tiny."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

#: Iterations of each stage in place of those that a whole brain needs.
STAGES = "2x1x1x0"

#: Names in the documentation, and which of the sources below is taken for them.
FILES = {
    "fixed_T1w.nii.gz": "fixed",
    "moving_T1w.nii.gz": "moving",
    "T1w.nii.gz": "moving",
    "head.nii.gz": "fixed",
    "MNI152.nii.gz": "fixed",
    "fixed_brain.nii.gz": "natural_fixed",
    "moving_brain.nii.gz": "natural_moving",
    "fixed_labels.nii.gz": "fixed_labels",
    "moving_labels.nii.gz": "moving_labels",
    "points.csv": "points",
    "moving_points.csv": "points",
    "affine.mat": "affine",
    "warp.nii.gz": "warp",
    "fixed_conformed.nii.gz": "conformed_fixed",
    "moving_conformed.nii.gz": "conformed_moving",
    "prediction.safetensors": "prediction_network",
    "OASIS_predict.pth.tar": "original",
    "OASIS_correct.pth.tar": "original",
    "dataset.json": "",
}
