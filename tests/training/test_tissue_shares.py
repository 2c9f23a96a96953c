"""Label maps as shares of classes: aligned, counted, refused."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images
from nipype_quicksilver.training.tissue_shares import (
    FULL,
    TissueTable,
    _centres,
    _filled,
    _least_squares_affine,
    count_shares,
    read_tissue_shares,
    read_tissue_table,
    rows_of_labels,
)
from tests.conftest import labelled_brain

SHAPE = (32, 32, 32)


@pytest.fixture(scope="module")
def table():
    return read_tissue_table()


def test_shipped_table(table):
    assert len(set(table.labels)) == len(table.labels) == len(table.tissues)
    assert len(table.t1w) == len(table.t2w) == max(table.tissues) + 1
    left, right = table.labels.index(2), table.labels.index(41)
    assert table.tissues[left] == table.tissues[right]
    assert {2, 3, 17, 53} <= set(table.labels[: table.scored])
    assert 24 not in table.labels[: table.scored]


COLUMNS = "label\tname\ttissue\tt1w\tt2w\tscored\n"


@pytest.mark.parametrize(
    "content",
    [
        "label\tname\n1\tone\n",
        "",
        "label\ttissue\tt1w\nx\ty\tz\n",
        COLUMNS,
        COLUMNS + "-1\tone\tone\t1\t1\t1\n",
    ],
)
def test_tables_that_cannot_be_used(content, tmp_path):
    path = tmp_path / "tissues.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"tissues.tsv: is no table of tissues"):
        read_tissue_table(path)
    with pytest.raises(InputError, match=r"missing.tsv: cannot be read"):
        read_tissue_table(tmp_path / "missing.tsv")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_rows_of_labels(table, dtype):
    labels = np.arange(0, 256, dtype=dtype) if dtype == np.uint8 else np.arange(600).astype(dtype)
    expected = [table.labels.index(n) if n in table.labels else -1 for n in labels]
    assert rows_of_labels(labels, table).tolist() == expected
    if np.issubdtype(dtype, np.signedinteger):
        assert (rows_of_labels(-labels[1:], table) == -1).all()


def test_the_table_may_have_labels_that_the_type_of_a_map_cannot_hold(table):
    assert max(table.labels) > 127
    labels = np.array([2, 41, 0, -1], np.int8)
    expected = [table.labels.index(2), table.labels.index(41), -1, -1]
    assert rows_of_labels(labels, table).tolist() == expected
    own = TissueTable((2, 255), (0, 1), (1.0, 0.5), (0.5, 1.0), 2)
    assert rows_of_labels(np.array([2, 255, 254], np.uint8), own).tolist() == [0, 1, -1]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_counting_is_that_of_a_plain_loop(factor):
    rows = np.random.default_rng(0).integers(-1, 5, (8, 12, 4)).astype(np.int16)
    shares = count_shares(rows, 5, factor)
    assert shares.dtype == np.uint8 and shares.shape == (5, 8 // factor, 12 // factor, 4 // factor)
    for index in np.ndindex(*shares.shape):
        block = tuple(slice(i * factor, (i + 1) * factor) for i in index[1:])
        assert shares[index] == round(FULL * (rows[block] == index[0]).mean())


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
    found = _least_squares_affine(flat, flat + np.array([0, 0, 7]))
    np.testing.assert_allclose(found, from_matvec(np.eye(3), [0, 0, 7]), atol=1e-9)


def test_shares_of_a_brain(table, label_maps):
    shares = read_tissue_shares(label_maps, table, shape=SHAPE, factor=2)
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
    plain, other = read_tissue_shares([label_maps[0], path], table, shape=SHAPE, factor=2)
    assert np.mean(np.abs(plain.astype(int) - other) > 2) < 1e-3


def test_maps_that_cannot_be_used(table, label_maps, tmp_path):
    labels = np.asanyarray(images.read_labels(label_maps[0]).dataobj)
    few = images.write_image(tmp_path / "few.nii.gz", np.where(labels == 2, 2, 999), np.eye(4))
    with pytest.raises(InputError, match=r"few.nii.gz: has 1 of the labels"):
        read_tissue_shares([label_maps[0], few], table, shape=SHAPE, factor=2)
    with pytest.raises(InputError, match=r"only \d+% of this brain lie on the training's grid"):
        read_tissue_shares(label_maps[:2], table, shape=(16, 32, 32), factor=2)
    # Much fluid far from the brain is no reason: only a rim of it is kept.
    wet = images.write_image(tmp_path / "wet.nii.gz", np.where(labels > 0, labels, 24), np.eye(4))
    (_, shares) = read_tissue_shares([label_maps[1], wet], table, shape=SHAPE, factor=2)
    assert shares[table.labels.index(24)].sum() / FULL * 8 < 0.5 * (labels == 0).sum()
    none = images.write_image(tmp_path / "none.nii.gz", np.where(labels > 0, 999, 0), np.eye(4))
    with pytest.raises(InputError, match=r"none.nii.gz: has 0 of the labels"):
        read_tissue_shares([none, label_maps[0]], table, shape=SHAPE, factor=2)


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "tissues.tsv"
    path.write_text(
        "label\tname\ttissue\tt1w\tt2w\tscored\n"
        "5\tb\tsecond\t0.5\t0.6\t0\n0\tnone\tfirst\t0.1\t0.2\t1\n7\tc\tsecond\t0.9\t0.9\t1\n"
    )
    table = read_tissue_table(path)
    assert table == TissueTable((0, 7, 5), (0, 1, 1), (0.1, 0.9), (0.2, 0.9), 2)
