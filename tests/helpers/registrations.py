"""Registrations of the small pair that take seconds."""

from dataclasses import replace

import nibabel as nib
import numpy as np

import nipype_quicksilver
from nipype_quicksilver.lddmm.settings import Settings, Stage

# The tests are about what surrounds the engine: a few iterations are enough.
SETTINGS = Settings(stages=(Stage(4, 4, 12), Stage(2, 2, 8)))
QUICK = replace(SETTINGS, stages=(Stage(4, 4, 3), Stage(2, 4, 2)))


def register(fixed, moving, *, settings=QUICK, **options):
    """Register two images by optimisation, without brain extraction, on the CPU."""
    # The pair is far smaller than a head: it is aligned, and has masks or no skull.
    defaults = {"brain_extraction": "none", "affine": None}
    options = {**defaults, "method": "optimize", "device": "cpu", **options}
    return nipype_quicksilver.register(fixed, moving, settings=settings, **options)


def options_of(pair):
    """Return masks, affine and labels of the small pair, as options of `register`."""
    names = ("fixed_mask", "moving_mask", "affine", "fixed_labels", "moving_labels")
    return {name: getattr(pair, name) for name in names}


def load(path):
    """Return the voxels of an image file."""
    return np.asanyarray(nib.load(path).dataobj)
