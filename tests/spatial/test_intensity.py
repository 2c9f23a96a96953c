"""Normalised intensities."""

import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.intensity import UPPER_BOUND, foreground, normalize

RNG = np.random.default_rng(2)


def test_robust_maximum_is_one_whatever_the_scale():
    data = RNG.random((10, 10, 10)) * 700 + 1
    mask = np.zeros(data.shape, bool)
    mask[2:8] = True
    data[0] = 1e6  # outside
    data[3, 3, 3] = 1e5  # an outlier
    result = normalize(data, mask)
    assert result.dtype == np.float32
    assert not result[~mask].any()
    assert np.percentile(result[mask], 99.5) == pytest.approx(1, abs=1e-3)
    assert result.max() == np.float32(UPPER_BOUND) == result[3, 3, 3]
    np.testing.assert_allclose(normalize(data * 0.01, mask), result, atol=1e-5)


def test_negative_values_are_shifted():
    data = RNG.normal(size=(12, 12, 12))
    result = normalize(data, np.ones(data.shape))
    assert result.min() == 0
    assert np.percentile(result, 0.5) == pytest.approx(0, abs=5e-3)
    assert np.median(result) == pytest.approx(0.5, abs=0.05)


def test_equalized_values_are_uniform():
    data = np.exp(RNG.normal(size=(20, 20, 20)))
    result = normalize(data, np.ones(data.shape), equalize=True)
    np.testing.assert_allclose(np.quantile(result, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)
    order = np.argsort(data.ravel())
    assert np.all(np.diff(result.ravel()[order]) >= 0)


def test_foreground():
    data = np.array([[[0.0, 1.0, -1.0, np.nan]]])
    assert foreground(data).tolist() == [[[False, True, True, False]]]
    assert normalize(data, percentile=100).ravel().tolist() == [0, 1, 0, 0]


def test_refused():
    with pytest.raises(InputError, match="empty"):
        normalize(np.ones((3, 3, 3)), np.zeros((3, 3, 3)))
    with pytest.raises(InputError, match="contrast"):
        normalize(np.zeros((3, 3, 3)), np.ones((3, 3, 3)))
