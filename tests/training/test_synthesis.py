"""Pairs of images synthesised from fractions of classes."""

from dataclasses import replace

import pytest
import torch

from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.training.synthesis import (
    Ranges,
    TrainingPair,
    TrainingScan,
    overlap_loss,
    pair_scans,
    synthesize_pair,
)
from tests.helpers.brains import SIDE, TISSUES, make_brain

SPACING = 2.0
STILL = Ranges(
    rotation=0, scaling=0, translation=0, common_rotation=0, geodesic=0, contrast=0, texture=0,
    noise=0, bias=0, other_contrast=0,
)  # fmt: skip


def synthesize(seed=0, ranges=None, first=None, second=None):
    first = make_brain() if first is None else first
    second = make_brain(0.7) if second is None else second
    generator = torch.Generator().manual_seed(seed)
    return synthesize_pair(first, second, TISSUES, ranges or Ranges(), SPACING, generator)


def overlap(pair, displacement=None, seed=0):
    if displacement is None:
        displacement = torch.zeros((1, 3, SIDE, SIDE, SIDE))
    generator = torch.Generator().manual_seed(seed)
    return float(overlap_loss(pair, displacement, TISSUES.scored, generator))


def tensors(pair):
    return [value for value in vars(pair).values() if isinstance(value, torch.Tensor)]


def test_deterministic_by_seed():
    first, again, other = synthesize(3), synthesize(3), synthesize(4)
    for a, b in zip(tensors(first), tensors(again), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.fixed, other.fixed)
    assert not torch.equal(first.moving_pose, other.moving_pose)


@pytest.mark.parametrize("seed", range(6))
def test_ranges_of_values(seed):
    pair = synthesize(seed)
    for image in (pair.fixed, pair.moving):
        assert image.shape == (1, 1, SIDE, SIDE, SIDE) and image.isfinite().all()
        assert float(image.min()) >= 0 and 0.9 < float(image.max()) <= 1.5
    assert set(pair.weight.unique().tolist()) == {0.0, 1.0}
    # Every voxel of either brain is compared.
    brains = (pair.fixed > 0) | (pair.moving > 0)
    assert (pair.weight[brains] == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_poses_belong_to_the_images(seed):
    """The image is that of the classes moved by the pose, with the intensities of tissues."""
    ranges = replace(Ranges(), contrast=0, texture=0, noise=0, bias=0, other_contrast=0)
    pair = synthesize(seed, ranges)
    means = torch.tensor(TISSUES.t1w)[list(TISSUES.groups)]
    for image, classes, pose in (
        (pair.fixed, pair.fixed_classes, pair.fixed_pose),
        (pair.moving, pair.moving_classes, pair.moving_pose),
    ):
        plain = torch.einsum("c,cxyz->xyz", means, classes)[None, None]
        inside = (image > 0) & (image < 1.5)
        right, wrong = (
            torch.stack([image[inside], sample(plain, sign * pose * SPACING, SPACING)[inside]])
            for sign in (1, -1)
        )
        agreement = float(torch.corrcoef(right)[0, 1])
        assert agreement > 0.9  # resolutions vary
        assert agreement > float(torch.corrcoef(wrong)[0, 1])


def test_contrasts():
    """Tissues have the intensities of T1w or T2w images, with the robust maximum at 1."""
    pair = synthesize(ranges=STILL)
    middle = SIDE // 2
    core, shell = pair.fixed[0, 0, middle, middle, middle], pair.fixed.max()
    assert float(core / shell) == pytest.approx(0.6 / 0.9, abs=0.15)
    brighter_core = set()
    for seed in range(12):
        other = synthesize(seed, replace(STILL, other_contrast=1))
        image = other.fixed[0, 0]
        brighter_core.add(bool(image[middle, middle, middle] > image[middle + 3, middle, middle]))
    assert brighter_core == {True, False}


def test_overlap_of_identical_brains():
    brain = make_brain()
    pair = synthesize(ranges=STILL, first=brain, second=brain.clone())
    # Some seeds mirror both brains, which stay identical.
    for seed in range(4):
        assert overlap(pair, seed=seed) == pytest.approx(0, abs=1e-4)


def test_overlap_of_distant_brains():
    brain = make_brain()
    pair = synthesize(ranges=STILL, first=brain, second=torch.roll(brain, 8, dims=1))
    assert overlap(pair) > 0.9


def test_overlap_is_complete_at_the_true_displacement():
    """Shifting by the distance between two brains makes the overlap complete."""
    first, second = make_brain(0.0), make_brain(2.0)
    none = torch.zeros((1, 3, SIDE, SIDE, SIDE))
    blank = torch.zeros((1, 1, SIDE, SIDE, SIDE))
    pair = TrainingPair(blank, blank, blank, first, second, none, none)
    right, wrong = none.clone(), none.clone()
    right[:, 0], wrong[:, 0] = 2, -2
    assert overlap(pair, right) == pytest.approx(0, abs=1e-3)
    assert overlap(pair, right) < overlap(pair) < overlap(pair, wrong)


def test_overlap_follows_the_poses():
    """The registration has to undo the pose of a brain; the loss does not."""
    brain = make_brain()
    none = torch.zeros((1, 3, SIDE, SIDE, SIDE))
    blank = torch.zeros((1, 1, SIDE, SIDE, SIDE))
    pose = none.clone()
    pose[:, 1] = 1.5  # the moving brain is shifted by -1.5 voxels
    pair = TrainingPair(blank, blank, blank, brain, brain, none, pose)
    inverse = none.clone()
    inverse[:, 1] = -1.5
    assert overlap(pair, inverse) == pytest.approx(0, abs=1e-3)
    assert overlap(pair) > 0.05


def test_overlap_has_a_gradient():
    pair = synthesize(ranges=STILL)
    displacement = torch.zeros((1, 3, SIDE, SIDE, SIDE), requires_grad=True)
    loss = overlap_loss(pair, displacement, TISSUES.scored, torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(loss, displacement)
    step = 1e-2
    lower = overlap(pair, -step * slope / slope.abs().max())
    higher = overlap(pair, step * slope / slope.abs().max())
    assert lower < loss.item() < higher


def make_scan(shift=0.0, classes=True):
    brain = make_brain(shift)
    image = torch.einsum("c,cxyz->xyz", torch.tensor([0.9, 0.9, 0.2, 0.6]), brain)[None, None]
    inside = (brain.sum(dim=0)[None, None] > 0.5).float()
    return TrainingScan(image * inside, inside, brain if classes else None)


def test_real_images():
    ranges = replace(Ranges(), common_rotation=0.0)
    generator = torch.Generator().manual_seed(0)
    pair = pair_scans(make_scan(), make_scan(0.7), ranges, SPACING, generator)
    expected = sample(make_scan().image, pair.fixed_pose * SPACING, SPACING)
    inside = pair.fixed > 0
    torch.testing.assert_close(pair.fixed[inside], expected[inside])
    assert 0 <= overlap(pair) < 1
    unknown = pair_scans(make_scan(classes=False), make_scan(), ranges, SPACING, generator)
    assert unknown.fixed_classes is None and unknown.moving_classes is None


def test_a_real_image_fits_itself():
    generator = torch.Generator().manual_seed(0)
    pair = pair_scans(make_scan(), make_scan(), STILL, SPACING, generator)
    assert overlap(pair) == pytest.approx(0, abs=1e-4)
