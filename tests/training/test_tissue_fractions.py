"""Label maps as fractions of classes: alignment, counting, and maps that are refused."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images
from nipype_quicksilver.training.tissue_fractions import (
    FULL,
    _centres,
    _filled,
    _least_squares_affine,
    count_fractions,
    read_tissue_fractions,
)
from nipype_quicksilver.training.tissues import read_tissue_table, rows_of_labels
from tests.conftest import labelled_brain

SHAPE = (32, 32, 32)


@pytest.fixture(scope="module")
def table():
    return read_tissue_table()


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_counting_is_that_of_a_plain_loop(factor):
    rows = np.random.default_rng(0).integers(-1, 5, (8, 12, 4)).astype(np.int16)
    fractions = count_fractions(rows, 5, factor)
    assert fractions.dtype == np.uint8 and fractions.shape == (
        5,
        8 // factor,
        12 // factor,
        4 // factor,
    )
    for index in np.ndindex(*fractions.shape):
        block = tuple(slice(i * factor, (i + 1) * factor) for i in index[1:])
        assert fractions[index] == round(FULL * (rows[block] == index[0]).mean())


def test_centres_are_those_of_scipy(table):
    labels = labelled_brain(3)
    affine = from_matvec(np.diag([-1.0, 2.0, 1.5]), [3, -4, 5])
    centres = _centres(rows_of_labels(labels, table), affine, len(table.labels))
    for row, label in enumerate(table.labels):
        if (labels == label).any():
            centre = ndimage.center_of_mass(labels == label)
            np.testing.assert_allclose(centres[row], apply_affine(affine, centre))
        else:
            assert np.isnan(centres[row]).all()


def test_filling_is_that_of_scipy():
    mask = np.random.default_rng(1).random((12, 13, 14)) > 0.4
    mask[2:10, 2:10, 2:10] = True
    mask[4:8, 4:8, 4:8] = False
    assert np.array_equal(_filled(mask), ndimage.binary_fill_holes(mask))


def test_affine_of_points():
    random = np.random.default_rng(2)
    source = random.normal(0, 40, (20, 3))
    matrix = from_matvec(np.eye(3) + random.normal(0, 0.1, (3, 3)), [3, 4, 5])
    target = apply_affine(matrix, source)
    source[3] = np.nan
    np.testing.assert_allclose(_least_squares_affine(source, target), matrix, atol=0.03, rtol=0)
    # In a plane nothing is known of the third axis, which stays as it is.
    flat = source * [1, 1, 0]
    matrix = _least_squares_affine(flat, flat + np.array([0, 0, 7]))
    np.testing.assert_allclose(matrix, from_matvec(np.eye(3), [0, 0, 7]), atol=1e-9)


def test_shares_of_a_brain(table, label_maps):
    shares = read_tissue_fractions(label_maps, table, shape=SHAPE, factor=2)
    assert len(shares) == 4
    whole = np.asanyarray(images.read_labels(label_maps[0]).dataobj)
    for label in (2, 41, 16):
        volume = shares[0][table.labels.index(label)].sum() / FULL * 8
        assert volume == pytest.approx((whole == label).sum(), rel=0.1)
    total = shares[0].astype(int).sum(axis=0)
    assert total.max() <= FULL + 2 and total[0].max() == 0 and total[8, 8, 8] >= FULL - 2


def test_orientation_and_position_do_not_matter(table, label_maps, tmp_path):
    labels = np.asanyarray(images.read_labels(label_maps[0]).dataobj)
    turned = np.moveaxis(labels[::-1], 0, 2)
    affine = np.zeros((4, 4))
    affine[0, 2], affine[1, 0], affine[2, 1], affine[3, 3] = -1, 1, 1, 1
    affine[:3, 3] = 100, -50, 20
    path = images.write_image(tmp_path / "turned.nii.gz", turned, affine)
    plain, other = read_tissue_fractions([label_maps[0], path], table, shape=SHAPE, factor=2)
    assert np.mean(np.abs(plain.astype(int) - other) > 2) < 1e-3


def test_maps_that_cannot_be_used(table, label_maps, tmp_path):
    labels = np.asanyarray(images.read_labels(label_maps[0]).dataobj)
    few = images.write_image(tmp_path / "few.nii.gz", np.where(labels == 2, 2, 999), np.eye(4))
    with pytest.raises(InputError, match=r"few.nii.gz: has 1 of the labels"):
        read_tissue_fractions([label_maps[0], few], table, shape=SHAPE, factor=2)
    with pytest.raises(InputError, match=r"only \d+% of this brain lies on the training grid"):
        read_tissue_fractions(label_maps[:2], table, shape=(16, 32, 32), factor=2)
    # Fluid far from the brain does not count: only a rim of it is kept.
    wet = images.write_image(tmp_path / "wet.nii.gz", np.where(labels > 0, labels, 24), np.eye(4))
    (_, fractions) = read_tissue_fractions([label_maps[1], wet], table, shape=SHAPE, factor=2)
    assert fractions[table.labels.index(24)].sum() / FULL * 8 < 0.5 * (labels == 0).sum()
    none = images.write_image(tmp_path / "none.nii.gz", np.where(labels > 0, 999, 0), np.eye(4))
    with pytest.raises(InputError, match=r"none.nii.gz: has 0 of the labels"):
        read_tissue_fractions([none, label_maps[0]], table, shape=SHAPE, factor=2)
