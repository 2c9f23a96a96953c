"""Shortcuts of the preparation against the plain way."""

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from scipy.ndimage import binary_dilation

from nipype_quicksilver.registration import preparation


def some_voxels(shape: tuple[int, int, int], share: float) -> np.ndarray:
    return np.random.default_rng(0).random(shape) < share


def test_the_weight_is_the_brains_dilated_and_without_the_lesion():
    fixed, moving, lesion = (some_voxels((9, 8, 7), share) for share in (0.01, 0.02, 0.3))
    weight = preparation.similarity_weight(fixed, moving, lesion)
    expected = binary_dilation(fixed | moving, iterations=preparation.DILATION) & ~lesion
    assert np.array_equal(weight, expected.astype(np.float32))


def test_the_ends_of_lines_have_the_box_of_all_voxels():
    inside = some_voxels((9, 8, 7), 0.1)
    affine = from_matvec(euler2mat(0.4, 0.5, 0.6) @ np.diag([1.0, -2, 3]), [4, 5, 6])
    ends = apply_affine(affine, preparation._ends_of_lines(inside))
    everything = apply_affine(affine, np.argwhere(inside))
    for edge in (np.min, np.max):
        assert np.array_equal(edge(ends, axis=0), edge(everything, axis=0))
