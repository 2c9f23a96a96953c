"""Inversion of displacement fields."""

import torch

from nipype_quicksilver.lddmm.fields import compose
from nipype_quicksilver.lddmm.inversion import invert
from tests.lddmm.conftest import SPACING, smooth_displacement


def test_inverse_composes_to_the_identity() -> None:
    displacement = smooth_displacement(0.8)
    inverse = invert(displacement, torch.zeros_like(displacement), SPACING, iterations=20)
    residual = compose(displacement, inverse, SPACING)
    assert residual.abs().max() < 1e-10
