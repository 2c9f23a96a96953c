"""Mutual information against its definition, and the images that are compared."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing import brain_images
from nipype_quicksilver.preprocessing.brain_images import BrainImage
from nipype_quicksilver.preprocessing.mutual_information import (
    BINS,
    mutual_information,
    mutual_information_of_pair,
)
from nipype_quicksilver.spatial.images import nifti

RNG = np.random.default_rng(1)


def entropy(*samples):
    bins = np.stack([np.minimum((s * BINS).astype(int), BINS - 1) for s in samples])
    _, counts = np.unique(bins, axis=1, return_counts=True)
    p = counts / counts.sum()
    return -np.sum(p * np.log(p))


def test_mutual_information_is_the_difference_of_entropies():
    first = RNG.random(5000)
    second = np.clip(first + RNG.normal(0, 0.2, 5000), 0, 1)
    expected = entropy(first) + entropy(second) - entropy(first, second)
    assert mutual_information(first, second) == pytest.approx(expected)
    assert mutual_information(first, first) == pytest.approx(entropy(first))
    assert mutual_information(first, np.zeros(5000)) == pytest.approx(0, abs=1e-12)


def test_aligned_brains_have_more_mutual_information(fixed, moved):
    shift = from_matvec(np.eye(3), [6, -4, 5])
    pair = BrainImage.of(fixed, None), BrainImage.of(moved(shift), None)
    aligned, headers = (mutual_information_of_pair(pair, m) for m in (shift, np.eye(4)))
    assert aligned > headers + 0.2


def test_brains_are_prepared(fixed):
    image = BrainImage.of(fixed, None)
    inside = np.asanyarray(fixed.dataobj) > 0
    assert image.volume == pytest.approx(inside.sum() * 64)
    data = np.asanyarray(image.image.dataobj)
    assert data[data > 0].min() >= np.float32(0.1) and data.max() == pytest.approx(1)
    assert data.size < inside.size  # it is cropped
    points = apply_affine(fixed.affine, np.argwhere(inside))
    np.testing.assert_allclose(image.center, points.mean(axis=0), atol=3)
    corners = image.corners()
    np.testing.assert_allclose(corners.min(axis=0), points.min(axis=0), atol=2)
    np.testing.assert_allclose(corners.max(axis=0), points.max(axis=0), atol=2)
    # A matrix maps points of the grid to the image.
    shift = from_matvec(np.eye(3), [8, 0, 0])
    grid = brain_images.common_grid((image, image), (np.eye(4), shift), 4.0)
    moved, same = image.resampled(grid, shift), image.resampled(grid)
    np.testing.assert_allclose(moved[:-2], same[2:], atol=1e-5)


def test_the_common_grid_does_not_depend_on_the_order(fixed, moved):
    shift = from_matvec(np.eye(3), [30, 0, 0])
    pair = BrainImage.of(fixed, None), BrainImage.of(moved(shift), None)
    to_images = (np.eye(4), shift)
    grid = brain_images.common_grid(pair, to_images, 4.0)
    exchanged = brain_images.common_grid(pair[::-1], to_images[::-1], 4.0)
    assert grid.equals(exchanged, tol=0)
    for image, matrix in zip(pair, to_images, strict=True):
        points = apply_affine(np.linalg.inv(matrix), image.corners())
        index = apply_affine(np.linalg.inv(grid.affine), points)
        assert (index >= 4).all() and (index <= np.array(grid.shape) - 5).all()


def test_flat_and_tiny_brains_are_refused(fixed):
    flat = nifti((np.asanyarray(fixed.dataobj) > 0).astype(np.float32), fixed.affine)
    with pytest.raises(InputError, match="has no contrast in its brain; check the mask"):
        BrainImage.of(flat, None)
    tiny = nifti(np.asanyarray(fixed.dataobj), fixed.affine @ np.diag([0.1, 0.1, 0.1, 1]))
    with pytest.raises(InputError, match="too little to align"):
        BrainImage.of(tiny, None)
