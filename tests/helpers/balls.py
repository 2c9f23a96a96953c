"""Coarse images of balls, and the arguments of their registration."""

import nibabel as nib
import numpy as np

from nipype_quicksilver.spatial.grids import Grid

# The images are far smaller than heads: they have no skull, and are aligned.
ALONE = {"--brain-extraction": "none", "--affine": "none"}
GRID = Grid((12, 14, 10), np.diag([2.0, 2.0, 2.0, 1.0]))


def ball(center=(0.5, 0.5, 0.5)):
    index = np.moveaxis(np.indices(GRID.shape), 0, -1) / (np.array(GRID.shape) - 1)
    distance = np.linalg.norm(index - center, axis=-1)
    return (np.where(distance < 0.4, 100 - 50 * distance, 0)).astype(np.float32)


def write(path, data, affine=GRID.affine, code=1):
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, path)
    return path


def listed(arguments):
    return [item for pair in arguments.items() for item in pair]
