"""Fusion of label maps, label tables and volumes."""

import csv

import numpy as np
import pytest
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import FUSIONS
from nipype_quicksilver.spatial import fusion
from nipype_quicksilver.spatial.images import nifti

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


def label_map(values, dtype=np.uint8):
    data = np.zeros((6, 6, 6), dtype)
    data[1:5, 1:5, 1:5] = np.asarray(values, dtype)
    return nifti(data, AFFINE)


def at(image):
    return np.asanyarray(image.dataobj)[2, 2, 2]


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_the_majority_wins(method):
    fused = fusion.fuse_labels([label_map(v) for v in (7, 9, 9)], method=method)
    assert at(fused) == 9
    data = np.asanyarray(fused.dataobj)
    assert data.dtype == np.uint8 and set(np.unique(data)) == {0, 9}
    np.testing.assert_array_equal(fused.affine, AFFINE)


def test_the_first_map_decides_a_tie():
    assert at(fusion.fuse_labels([label_map(7), label_map(9)])) == 7
    assert at(fusion.fuse_labels([label_map(9), label_map(7)])) == 9


@pytest.mark.parametrize("method", FUSIONS)
def test_a_tie_is_between_the_most_frequent_labels(method):
    """The first map decides among the labels with the most votes only."""
    noise = nifti(np.random.default_rng(1).uniform(1, 2, (6, 6, 6)).astype(np.float32), AFFINE)
    for values, winner in (((1, 3, 3, 2, 2), 3), ((1, 2, 3, 3, 2), 2)):
        labels = [label_map(value) for value in values]
        images = [noise] * len(labels)
        fused = fusion.fuse_labels(labels, method=method, target=noise, images=images)
        assert at(fused) == winner


def test_a_tie_is_decided_in_each_voxel_separately():
    first = np.full((4, 4, 4), 1)
    first[1, 1, 1] = 2
    assert at(fusion.fuse_labels([label_map(first), label_map(1)])) == 2


@pytest.mark.parametrize("large", [np.int64(-(2**53) - 1), np.uint64(2**63 + 3)])
def test_maps_of_64_bits_with_and_without_sign(large):
    small = label_map(7, np.uint64 if large < 0 else np.int64)
    fused = fusion.fuse_labels([label_map(large, large.dtype), small, small])
    data = np.asanyarray(fused.dataobj)
    assert data.dtype == large.dtype and at(fused) == 7
    other = fusion.fuse_labels([label_map(large, large.dtype), small])
    assert at(other) == large


def test_labels_that_no_type_holds_are_refused():
    labels = [label_map(-1, np.int64), label_map(2**63 + 3, np.uint64)]
    with pytest.raises(InputError, match=r"below 0 and above 2\^63; use smaller"):
        fusion.fuse_labels(labels)


@pytest.mark.parametrize("method", FUSIONS)
@pytest.mark.parametrize(
    ("dtype", "label"),
    [
        (np.uint16, 300),
        (np.int32, 70000),
        (np.int64, 2**53 + 1),
        (np.uint64, 2**63 + 3),
        (np.int16, -5),
    ],
)
def test_types_and_large_labels_are_kept(method, dtype, label):
    labels = [label_map(label, dtype)] * 3
    noise = nifti(np.random.default_rng(1).uniform(1, 2, (6, 6, 6)).astype(np.float32), AFFINE)
    fused = fusion.fuse_labels(labels, method=method, target=noise, images=[noise] * 3)
    assert np.asanyarray(fused.dataobj).dtype == dtype
    np.testing.assert_array_equal(fused.dataobj, labels[0].dataobj)


def test_weights_follow_local_similarity():
    random = np.random.default_rng(2)
    shape = (24, 12, 12)
    target = ndimage.gaussian_filter(random.normal(size=shape), 1) + 1
    noise = ndimage.gaussian_filter(random.normal(size=(3, *shape)), (0, 1, 1, 1))
    left = np.arange(24)[:, None, None] < 12
    # The first atlas is right on the left side, the second on the right side, the third nowhere;
    # two of three are wrong everywhere.
    labels = [np.where(left, 1, 2), np.where(left, 2, 1), np.full(shape, 2)]
    labels = [nifti(np.broadcast_to(data, shape).astype(np.uint8), AFFINE) for data in labels]
    images = [
        np.where(left, target, noise[0] + 1),
        np.where(left, noise[1] + 1, target),
        noise[2] + 1,
    ]
    images = [nifti(data.astype(np.float32), AFFINE) for data in images]
    target = nifti(target.astype(np.float32), AFFINE)
    fused = fusion.fuse_labels(labels, method="weighted", target=target, images=images)
    assert np.mean(np.asanyarray(fused.dataobj) == 1) > 0.9
    assert np.mean(np.asanyarray(fusion.fuse_labels(labels).dataobj) == 2) == 1


def test_staple_weights_reliable_maps():
    random = np.random.default_rng(3)
    truth = ndimage.gaussian_filter(random.normal(size=(20, 20, 20)), 2) > 0
    errors = (0.02, 0.02, 0.4, 0.4, 0.4)
    maps = [np.where(random.random(truth.shape) < error, ~truth, truth) for error in errors]
    labels = [nifti((1 + data).astype(np.uint8), AFFINE) for data in maps]
    right = [
        np.mean(np.asanyarray(fusion.fuse_labels(labels, method=m).dataobj) == 1 + truth)
        for m in ("majority", "staple")
    ]
    assert right[1] > 0.97 and right[1] > right[0]


def test_maps_that_cannot_be_fused_are_refused():
    one = label_map(1)
    with pytest.raises(InputError, match="no label map"):
        fusion.fuse_labels([])
    with pytest.raises(InputError, match="not on the grid"):
        fusion.fuse_labels([one, nifti(np.zeros((5, 6, 6), np.uint8), AFFINE)])
    with pytest.raises(InputError, match="zero in every voxel"):
        fusion.fuse_labels([label_map(0)])
    with pytest.raises(InputError, match="needs the target"):
        fusion.fuse_labels([one], method="weighted")
    with pytest.raises(InputError, match="'mean' is unknown"):
        fusion.fuse_labels([one], method="mean")


def test_label_tables(tmp_path):
    lut = tmp_path / "LUT.txt"
    lut.write_text("# No. Label R G B A\n\n0 Unknown 0 0 0\n17 Left-Hippocampus 220 216 20 # x\n")
    assert fusion.read_label_names(lut) == {0: "Unknown", 17: "Left-Hippocampus"}
    tsv = fusion.write_label_table(tmp_path / "dseg.tsv", {17: "Left Hippocampus", 70000: "x"})
    assert fusion.read_label_names(tsv) == {17: "Left Hippocampus", 70000: "x"}
    for name, text in (("a.tsv", "a\tb\n1\t2\n"), ("b.txt", "one two\n"), ("c.txt", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name):
            fusion.read_label_names(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        fusion.read_label_names(tmp_path / "missing.tsv")


def test_volumes(tmp_path):
    path = fusion.write_volumes(tmp_path / "v.tsv", label_map(300, np.uint16), {300: "a", 4: "b"})
    rows = list(csv.DictReader(path.open(), delimiter="\t"))
    assert rows == [
        {"index": "4", "name": "b", "voxels": "0", "volume_mm3": "0.000"},
        {"index": "300", "name": "a", "voxels": "64", "volume_mm3": "128.000"},
    ]
