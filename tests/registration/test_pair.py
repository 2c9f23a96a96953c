"""Files of a pair, read and checked."""

import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.pair import Frame, Pair, ScanFiles, paths_of, read_pair
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.transforms import write_affine


def test_all_files_are_read(pair):
    read = read_pair(
        ScanFiles(pair.fixed, pair.fixed_mask, pair.fixed_mask, pair.fixed_labels),
        ScanFiles(pair.moving, pair.moving_mask, labels=pair.moving_labels),
        pair.affine,
    )
    assert read.fixed.image.get_data_dtype() == np.float32
    for image in (read.fixed.mask, read.fixed.lesion, read.moving.mask):
        assert set(np.unique(image.dataobj)) == {0, 1}
    assert read.moving.lesion is None and read.frame is None
    assert set(np.unique(read.moving.labels.dataobj)) == {0, 1, 2}
    np.testing.assert_array_equal(read.affine[:3, 3], [3, 0, 0])


def test_images_alone_are_read(pair):
    read = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    assert read.fixed.mask is None and read.moving.labels is None and read.affine is None
    for matrix in (read.matrix, read.to_fixed, read.to_moving):
        np.testing.assert_array_equal(matrix, np.eye(4))


def test_unusable_files_are_refused(pair, tmp_path):
    with pytest.raises(InputError, match="give moving labels too"):
        read_pair(ScanFiles(pair.fixed, labels=pair.fixed_labels), ScanFiles(pair.moving))
    with pytest.raises(InputError, match=r"fixed_labels.nii.gz: not on the grid of"):
        read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving, labels=pair.fixed_labels))
    mirror = write_affine(tmp_path / "mirror.mat", np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"mirror.mat: contains a reflection"):
        read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving), mirror)
    with pytest.raises(InputError, match=r"none.nii: no such file"):
        read_pair(ScanFiles(pair.fixed, mask="none.nii"), ScanFiles(pair.moving))


def test_paths_are_absolute_and_in_the_order_of_the_summary(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = paths_of(ScanFiles("a.nii", labels="l.nii"), ScanFiles(pair.moving), "b.mat")
    assert list(paths) == [
        *("fixed", "moving", "fixed_mask", "moving_mask"),
        *("fixed_lesion_mask", "moving_lesion_mask", "fixed_labels", "moving_labels", "affine"),
    ]
    given = {name: path for name, path in paths.items() if path is not None}
    assert given == {
        "fixed": str(tmp_path / "a.nii"),
        "moving": str(pair.moving),
        "fixed_labels": str(tmp_path / "l.nii"),
        "affine": str(tmp_path / "b.mat"),
    }


def test_the_frame_comes_before_the_affine(pair):
    scans = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    to_fixed, affine = np.diag([2.0, 2, 2, 1]), np.eye(4)
    affine[:3, 3] = 1, 2, 3
    framed = Pair(scans.fixed, scans.moving, affine, Frame(Grid((8, 8, 8), np.eye(4)), to_fixed))
    np.testing.assert_array_equal(framed.to_fixed, to_fixed)
    np.testing.assert_array_equal(framed.to_moving @ [1, 1, 1, 1], [3, 4, 5, 1])
