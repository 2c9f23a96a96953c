"""Label overlap and distance of transforms, against numbers counted by hand."""

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import measures, transforms


def labels(values, affine=None) -> nib.Nifti1Image:
    data = np.array(values, np.int32).reshape(-1, 1, 1)
    return nib.Nifti1Image(data, np.diag([2.0, 1, 1, 1]) if affine is None else affine)


def test_overlap_counted_by_hand():
    target = labels([1, 1, 1, 1, 70000, 70000, 0, 0, 3])
    source = labels([1, 1, 0, 70000, 70000, 70000, 70000, 5, 0])
    result = measures.label_overlap(target, source)
    first, second = result.labels["1"], result.labels["70000"]
    assert first.dice == pytest.approx(2 * 2 / (4 + 2))
    assert first.jaccard == pytest.approx(2 / 4)
    assert first.target_overlap == pytest.approx(2 / 4)
    assert (first.target_mm3, first.source_mm3) == (8, 4)
    assert second.dice == pytest.approx(2 * 2 / (2 + 4))
    assert second.target_overlap == 1
    assert result.labels["3"].dice == 0 and result.labels["3"].target_overlap == 0
    assert result.labels["5"].dice == 0 and result.labels["5"].target_overlap is None
    assert list(result.labels) == ["1", "3", "5", "70000"]
    assert result.mean.dice == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)
    assert result.mean.target_overlap == pytest.approx((0.5 + 1 + 0) / 3)
    assert result.total.dice == pytest.approx(2 * 4 / (7 + 7))
    assert result.total.target_overlap == pytest.approx(4 / 7)


def test_overlap_of_labels_of_64_bits():
    first, second = 2**53 + 1, 2**63 + 3
    target = nib.Nifti1Image(
        np.uint64([first, first, second]).reshape(3, 1, 1), np.eye(4), dtype="u8"
    )
    source = nib.Nifti1Image(
        np.int64([first, first - 1, 0]).reshape(3, 1, 1), np.eye(4), dtype="i8"
    )
    result = measures.label_overlap(target, source)
    assert {key: row.dice for key, row in result.labels.items()} == {
        str(first - 1): 0,
        str(first): pytest.approx(2 / 3),
        str(second): 0,
    }


def test_overlap_of_chosen_labels():
    target, source = labels([1, 1, 2, 0]), labels([1, 2, 2, 0])
    with pytest.warns(UserWarning, match=r"\[9\]"):
        result = measures.label_overlap(target, source, labels=[1, 9])
    assert list(result.labels) == ["1"]
    assert result.mean.dice == pytest.approx(2 / 3)


def test_overlap_refused():
    with pytest.raises(InputError, match="resample"):
        measures.label_overlap(labels([1, 2]), labels([1, 2], np.eye(4)))
    with pytest.raises(InputError, match="none of the labels"):
        measures.label_overlap(labels([0, 0]), labels([0, 0]))


def test_distance():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0], mask[3, 0, 0] = 1, 1
    image = nib.Nifti1Image(mask, np.diag([-1.0, 1, 1, 1]))
    identity = transforms.affine_transform(np.eye(4))
    stretched = transforms.affine_transform(np.diag([2.0, 1, 1, 1]))
    result = measures.transform_distance(identity, stretched, image)
    assert result.voxels == 17
    assert result.mean == pytest.approx(3 / 17)
    assert result.max == pytest.approx(3)
    assert 0 < result.p99 <= 3
    with pytest.raises(InputError, match="empty"):
        measures.transform_distance(identity, stretched, nib.Nifti1Image(mask * 0, np.eye(4)))


def test_spread():
    values = np.arange(101.0)
    assert measures.Spread.of(values) == measures.Spread(mean=50, p99=99, max=100)
