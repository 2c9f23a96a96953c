"""Mending folds: where they are, and nowhere else."""

import pytest
import torch

from nipype_quicksilver.lddmm.fields import corner_determinants, upsample
from nipype_quicksilver.lddmm.folding import calm, unfold
from nipype_quicksilver.lddmm.shooting import shoot
from tests.lddmm.conftest import operator_on, smooth_velocity

SIZE, STEPS = 48, 3


def shot(state, operator, *, both=False):
    return shoot(operator.apply(state, -0.5), operator, steps=STEPS, both=both)


def smallest(displacement, operator, factor=1):
    fine = upsample(displacement, factor)
    return corner_determinants(fine, [h / factor for h in operator.spacing]).min()


@pytest.fixture
def operator():
    return operator_on(SIZE)


@pytest.fixture
def folding(operator):
    """A gentle state with a knot that folds in one corner of the grid."""
    state = operator.apply(smooth_velocity(SIZE, 1.0, seed=2, largest=0.4), -0.5)
    knot = torch.zeros_like(state)
    generator = torch.Generator().manual_seed(5)
    knot[..., 8:12, 8:12, 8:12] = torch.randn((1, 3, 4, 4, 4), generator=generator).double()
    return state + 30 * knot


def test_what_folds_is_mended_there_only(operator, folding):
    before = shot(folding, operator).inverse
    assert smallest(before, operator) < 0
    mended = unfold(folding, operator, steps=STEPS, factor=2)
    after = shot(mended, operator).inverse
    for factor in (1, 2):
        assert smallest(after, operator, factor) > 0
    change = (mended - folding).abs().amax(dim=1)[0]
    assert change[8:12, 8:12, 8:12].max() > 0.1
    # The momentum is another one near the knot only; the kernel falls off from there.
    assert change[28:40, 28:40, 28:40].max() == 0
    assert (after - before)[..., 28:40, 28:40, 28:40].abs().max() < 1e-4 * after.abs().max()


def test_what_does_not_fold_is_left_alone(operator):
    state = operator.apply(smooth_velocity(SIZE, 1.0, seed=2, largest=0.4), -0.5)
    assert unfold(state, operator, steps=STEPS, factor=2) is state
    assert calm(state, shot(state, operator, both=True), operator) is state


def test_calming_leaves_fewer_folds(operator, folding):
    geodesic = shot(folding, operator, both=True)
    calmed = shot(calm(folding, geodesic, operator), operator).inverse
    folds = [
        (corner_determinants(field, operator.spacing) <= 0).sum()
        for field in (geodesic.inverse, calmed)
    ]
    assert folds[1] < folds[0]


def test_a_geodesic_that_blew_up_ends_without_folds():
    operator = operator_on(8)
    wild = torch.full((1, 3, 8, 8, 8), torch.nan, dtype=torch.float64)
    assert not unfold(wild, operator, steps=STEPS, factor=1).any()
