"""Mending folds: where they are, and nowhere else."""

import pytest
import torch
from torch.nn.functional import max_pool3d, pad

from nipype_quicksilver.lddmm import folding as module
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
    mended, geodesic = unfold(folding, operator, steps=STEPS, factor=2)
    after = shot(mended, operator).inverse
    torch.testing.assert_close(geodesic.inverse, after)
    for factor in (1, 2):
        assert smallest(after, operator, factor) > 0
    change = (mended - folding).abs().amax(dim=1)[0]
    assert change[8:12, 8:12, 8:12].max() > 0.1
    # The momentum is another one near the knot only; the kernel falls off from there.
    assert change[28:40, 28:40, 28:40].max() == 0
    assert (after - before)[..., 28:40, 28:40, 28:40].abs().max() < 1e-4 * after.abs().max()


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("strength", [0, 0.1, 0.3, 3])
def test_folds_are_those_of_all_corners(factor, strength, monkeypatch):
    """Slab by slab, they are what the determinants of the whole tell."""
    monkeypatch.setattr(module, "SLAB", 3 * 90 * factor**3)
    generator = torch.Generator().manual_seed(1)
    field = strength * torch.randn((2, 3, 8, 9, 10), generator=generator).double()
    spacing = (1.0, 1.2, 0.8)
    fine = upsample(field, factor)
    corners = corner_determinants(fine, [h / factor for h in spacing])
    cells = (corners <= 0).any(dim=1, keepdim=True).double()
    expected = max_pool3d(pad(cells, (0, 1, 0, 1, 0, 1)), factor)
    assert torch.equal(module._folds(field, spacing, factor), expected)
    assert expected.any() == (strength >= 0.3)


def test_what_does_not_fold_is_left_alone(operator):
    state = operator.apply(smooth_velocity(SIZE, 1.0, seed=2, largest=0.4), -0.5)
    assert unfold(state, operator, steps=STEPS, factor=2)[0] is state
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
    assert not unfold(wild, operator, steps=STEPS, factor=1)[0].any()
