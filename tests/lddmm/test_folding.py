"""Repair of folds: where they are, and nowhere else."""

import numpy as np
import pytest
import torch
from nibabel.eulerangles import euler2mat
from scipy.ndimage import map_coordinates
from torch.nn.functional import max_pool3d, pad

from nipype_quicksilver.lddmm import folding as module
from nipype_quicksilver.lddmm.folding import Lattice, damp, remove_folds
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.jacobians import corner_determinants
from nipype_quicksilver.lddmm.maps import on_working_grid
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from tests.lddmm.conftest import operator_on, smooth_velocity

SIZE, STEPS = 48, 3


def shoot_state(state, operator, *, both=False):
    return shoot(operator.apply(state, -0.5), operator, steps=STEPS, both=both)


def smallest(displacement, operator, factor=1):
    fine = upsample(displacement, factor)
    return corner_determinants(fine, [h / factor for h in operator.spacing]).min()


@pytest.fixture
def operator():
    return operator_on(SIZE)


@pytest.fixture
def knot(operator):
    """Noise in one corner of the grid, which causes folds from an amplitude of about 20."""
    state = torch.zeros((1, 3, *operator.shape), dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    state[..., 8:12, 8:12, 8:12] = torch.randn((1, 3, 4, 4, 4), generator=generator).double()
    return state


@pytest.fixture
def folding(operator, knot):
    """A smooth state with a knot that folds."""
    return operator.apply(smooth_velocity(SIZE, 1.0, seed=2, largest=0.4), -0.5) + 30 * knot


def test_folds_are_removed_locally(operator, folding):
    before = shoot_state(folding, operator).inverse
    assert smallest(before, operator) < 0
    repaired, geodesic = remove_folds(folding, operator, steps=STEPS, factor=2)
    after = shoot_state(repaired, operator).inverse
    torch.testing.assert_close(geodesic.inverse, after)
    for factor in (1, 2):
        assert smallest(after, operator, factor) > 0
    change = (repaired - folding).abs().amax(dim=1)[0]
    assert change[8:12, 8:12, 8:12].max() > 0.1
    # The momentum changes near the knot only; the effect of the kernel decays from there.
    assert change[28:40, 28:40, 28:40].max() == 0
    assert (after - before)[..., 28:40, 28:40, 28:40].abs().max() < 1e-4 * after.abs().max()


def test_a_written_map_is_changed_less_than_a_sample(operator, knot):
    """Damping is weak at first if a map is written; otherwise strong, also around the folds."""
    state = 20 * knot
    assert smallest(shoot_state(state, operator).inverse, operator) < 0
    changes = []
    for factor in (2, None):
        repaired, geodesic = remove_folds(state, operator, steps=STEPS, factor=factor)
        assert smallest(geodesic.inverse, operator) > 0
        changes.append(float((repaired - state).norm()))
    assert changes[0] < 0.8 * changes[1]


def test_a_fold_is_damped_where_the_map_shrinks(operator):
    """Ten voxels of fixed space map to one of moving space, and one of them folds."""
    centre, state = SIZE // 2, torch.ones((1, 3, *operator.shape), dtype=torch.float64)
    axes = [torch.arange(SIZE, dtype=torch.float64) - centre] * 3
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    inverse, forward = -0.9 * positions, 9 * positions
    inverse[0, 0, centre + 4, centre, centre] += 2
    damped = damp(state, Geodesic(inverse, forward), operator)
    changed = (damped != state).any(dim=1)[0].nonzero()
    # The fold originates at most 2.4 voxels from the centre; one voxel around is damped too.
    assert len(changed) and int((changed - centre).abs().max()) <= 4


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("strength", [0, 0.1, 0.3, 3])
def test_folds_are_those_of_all_corners(factor, strength, monkeypatch):
    """Computed slab by slab, they equal those of the determinants of the whole field."""
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


def rotated_lattice(center, width, *, mirrored=False):
    """Voxels of four fifths the size, rotated about all axes, around a point of a grid."""
    linear = torch.tensor(euler2mat(0.4, 0.5, 0.3) * 0.8)
    if mirrored:
        linear = linear * torch.tensor([1, -1, 1])
    start = center - linear @ torch.full((3,), (width - 1) / 2, dtype=torch.double)
    return Lattice(torch.cat([linear, start[:, None]], dim=1), (width,) * 3)


def slices(factor):
    """Voxels of one working voxel in plane and six across, on a grid of 24 coarser voxels."""
    linear = torch.diag(torch.tensor([1.0, 1.0, 6.0])).double()
    start = torch.tensor([[0.3], [0.2], [1.0]]).double()
    return Lattice(torch.cat([linear, start], dim=1), (24 * factor - 1,) * 2 + (4 * factor,))


def corners_on(lattice, displacement, operator, factor):
    """Jacobians by one-sided differences on a lattice, with scipy's interpolation."""
    field = on_working_grid(displacement, operator, factor)[0].numpy()
    index = np.indices(lattice.shape).reshape(3, -1)
    matrix = lattice.matrix.numpy()
    positions = matrix[:, :3] @ index + matrix[:, 3:]
    shifts = np.stack([map_coordinates(c, positions, order=1, mode="nearest") for c in field])
    mapped = positions + shifts / np.array([[h / factor] for h in operator.spacing])
    mapped_index = np.linalg.solve(matrix[:, :3], mapped - matrix[:, 3:])
    shift = torch.from_numpy(mapped_index - index).reshape(1, 3, *lattice.shape)
    return corner_determinants(shift, 1.0)[0]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_folds_on_a_lattice_are_those_of_its_corners(mirrored, factor, strength):
    operator = operator_on(24)
    generator = torch.Generator().manual_seed(1)
    field = strength * torch.randn((1, 3, 24, 24, 24), generator=generator).double()
    lattice = rotated_lattice(12.0 * factor, 12 * factor, mirrored=mirrored)
    corners = corners_on(lattice, field, operator, factor)
    first = (corners <= 0).any(dim=0).nonzero().double()
    positions = first @ lattice.matrix[:, :3].T + lattice.matrix[:, 3]
    expected = torch.zeros(24, 24, 24)
    expected[tuple(((positions + 0.5) / factor - 0.5).round().long().T)] = 1
    folded = module._folds_on_lattice(lattice, field, operator, factor)[0, 0]
    assert folded.any() == expected.any() == (strength == 0.5)
    # All corners of a folded cell are marked, not only the first one.
    assert bool((folded >= expected).all())
    around = max_pool3d(expected[None], 5, stride=1, padding=2)[0]
    assert bool((folded <= around).all())


@pytest.mark.parametrize("factor", [1, 2])
def test_a_fold_is_detected_in_the_slices_on_both_sides(factor):
    """A knot in one slice folds all cells that reach it, however far their first voxels are."""
    operator = operator_on(24)
    lattice = slices(factor)
    knot = torch.zeros((1, 3, 24, 24, 24), dtype=torch.double)
    middle = round((1 + 6 * 2 * factor + 0.5) / factor - 0.5)  # of the third slice
    knot[0, 0, 11, 12, middle] = 3
    folded = (corners_on(lattice, knot, operator, factor) <= 0).any(dim=0)
    slices_that_fold = folded.nonzero()[:, 2].unique().tolist()
    assert slices_that_fold == [2 * factor - 1, 2 * factor]
    cells = module._suspicious_cells(lattice, knot, operator, factor).long()
    suspicious = torch.zeros(folded.shape, dtype=torch.bool)
    suspicious[tuple(cells.T)] = True
    assert bool(suspicious[folded].all())


def test_a_single_slice_has_no_folds():
    operator = operator_on(24)
    field = torch.randn((1, 3, 24, 24, 24), generator=torch.Generator().manual_seed(1)).double()
    alone = Lattice(slices(1).matrix, (23, 23, 1))
    assert not module._folds_on_lattice(alone, field, operator, 1).any()


def test_no_folds_where_maps_fall_to_zero_at_the_border(operator):
    """In the rim, the map in files is steeper than that of the geodesic."""
    velocity = smooth_velocity(SIZE, 1.0, seed=2, largest=0.0)
    velocity[:, 0] = -9.0  # a translation, except for the voxels of the border, which stay
    state = operator.apply(velocity, -0.5)
    translated = shoot_state(state, operator).inverse
    assert smallest(translated, operator) > 0.9
    assert corner_determinants(on_working_grid(translated, operator, 1)).min() < 0
    repaired, _ = remove_folds(state, operator, steps=STEPS, factor=1)
    written = on_working_grid(shoot_state(repaired, operator).inverse, operator, 1)
    assert corner_determinants(written).min() > 0


def test_no_folds_on_another_lattice(operator, folding, monkeypatch):
    # As if there were no folds on the grid itself.
    monkeypatch.setattr(module, "_folds", lambda field, *_: torch.zeros_like(field[:, :1]))
    lattice, options = rotated_lattice(20.0, 24), {"steps": STEPS, "factor": 2}
    _, geodesic = remove_folds(folding, operator, **options)
    assert corners_on(lattice, geodesic.inverse, operator, 2).min() < 0
    repaired, geodesic = remove_folds(folding, operator, **options, lattice=lattice)
    assert corners_on(lattice, geodesic.inverse, operator, 2).min() > 0
    change = (repaired - folding).abs().amax(dim=1)[0]
    assert change[8:12, 8:12, 8:12].max() > 0.1
    assert change[28:40, 28:40, 28:40].max() == 0


def test_a_map_without_folds_is_not_changed(operator):
    state = operator.apply(smooth_velocity(SIZE, 1.0, seed=2, largest=0.4), -0.5)
    for lattice in (None, rotated_lattice(47.5, 60)):
        assert remove_folds(state, operator, steps=STEPS, factor=2, lattice=lattice)[0] is state
    assert damp(state, shoot_state(state, operator, both=True), operator) is state


def test_damping_reduces_the_number_of_folds(operator, folding):
    geodesic = shoot_state(folding, operator, both=True)
    damped = shoot_state(damp(folding, geodesic, operator), operator).inverse
    folds = [
        (corner_determinants(field, operator.spacing) <= 0).sum()
        for field in (geodesic.inverse, damped)
    ]
    assert folds[1] < folds[0]


def test_a_geodesic_that_diverged_ends_without_folds():
    operator = operator_on(8)
    state = torch.full((1, 3, 8, 8, 8), torch.nan, dtype=torch.float64)
    assert not remove_folds(state, operator, steps=STEPS, factor=1)[0].any()
