"""Validation of networks that are trained end to end."""

import math

import pytest
import torch

from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.training.end_to_end import EndToEndRecipe
from nipype_quicksilver.training.synthesis import Ranges, TrainingScan
from nipype_quicksilver.training.validation import ValidationPairs, mean_over_pairs, validate
from tests.helpers.brains import TISSUES, make_brain

RECIPE = EndToEndRecipe(low_precision=False)
BRAINS = [make_brain(shift) for shift in (-0.8, 0.0, 0.9)]


def make_network():
    torch.manual_seed(0)
    return ForceUNet(scales=(2, 4), widths=(4, 6))


def test_validation_is_reproducible_and_can_be_divided():
    pairs = ValidationPairs(BRAINS, [], TISSUES, Ranges(), 3)
    network = make_network()
    rows = validate([network], pairs, RECIPE)
    assert len(pairs) == len(rows) == 3 and rows == validate([network], pairs, RECIPE)
    parts = [validate([network], pairs, RECIPE, rank=rank, ranks=2) for rank in range(2)]
    assert parts == [rows[::2], rows[1::2]]


def test_pairs_of_brains_and_of_scans():
    """Each brain is registered to the next one; a single brain makes no pair."""
    scans = [TrainingScan(brain[:1][None], (brain[:1][None] > 0.1).float()) for brain in BRAINS]
    assert len(ValidationPairs(BRAINS, scans, TISSUES, Ranges(), 2)) == 4
    assert len(ValidationPairs(BRAINS[:1], scans, TISSUES, Ranges(), 8)) == 3
    pairs = ValidationPairs(BRAINS[:1], scans, TISSUES, Ranges(), 8)
    assert pairs.pair(0, 2.0, torch.device("cpu")).fixed_classes is None
    pairs = ValidationPairs(BRAINS, [], TISSUES, Ranges(), 8)
    last = pairs.pair(2, 2.0, torch.device("cpu"))
    assert torch.equal(last.fixed_classes, BRAINS[2])
    assert torch.equal(last.moving_classes, BRAINS[0])


def test_means():
    rows = [
        {"loss": 1.0, "overlap": math.nan, "smallest_jacobian": 0.5},
        {"loss": 3.0, "overlap": 0.25, "smallest_jacobian": -0.5},
    ]
    assert mean_over_pairs(rows) == {"loss": 2.0, "overlap": 0.25, "smallest_jacobian": -0.5}
    assert math.isnan(mean_over_pairs(rows[:1])["overlap"])
    assert mean_over_pairs(rows[1:])["loss"] == pytest.approx(3)
