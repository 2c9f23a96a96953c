"""Normalised intensities."""

import numpy as np
import pytest
from scipy import ndimage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.intensity import (
    UPPER_BOUND,
    background,
    foreground,
    normalize,
    with_matching_contrast,
)

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


def test_the_background_is_what_fills_the_border():
    brain = np.full((8, 8, 8), 16.0)
    brain[2:6, 2:6, 2:6] = 100
    assert background(brain) == 16
    assert foreground(brain).sum() == 4**3
    head = np.random.default_rng(0).uniform(1, 5, (8, 8, 8))
    assert background(head) == background(np.full((4, 4, 4), 7.0)) == 0
    brain[brain == 16] = np.nan
    assert background(brain) == 0 and foreground(brain).sum() == 4**3


def test_foreground():
    data = np.array([[[0.0, 1.0, -1.0, np.nan]]])
    assert foreground(data).tolist() == [[[False, True, True, False]]]
    assert normalize(data, percentile=100).ravel().tolist() == [0, 1, 0, 0]


def test_refused():
    with pytest.raises(InputError, match="empty"):
        normalize(np.ones((3, 3, 3)), np.zeros((3, 3, 3)))
    with pytest.raises(InputError, match="contrast"):
        normalize(np.zeros((3, 3, 3)), np.ones((3, 3, 3)))


def ball_of_tissues(white, gray, fluid, shift=0.0):
    """Return white matter within gray within fluid, 0 outside, with some noise."""
    index = np.indices((40, 40, 40)) - 19.5 - np.array([shift, 0, 0]).reshape(3, 1, 1, 1)
    radius = np.sqrt((index**2).sum(axis=0))
    image = np.select([radius < 9, radius < 13, radius < 17], [white, gray, fluid], 0.0)
    return normalize(image + np.where(image > 0, RNG.normal(scale=0.01, size=image.shape), 0))


T1W, T2W = (0.9, 0.6, 0.15), (0.45, 0.65, 1.0)


@pytest.mark.parametrize("order", [1, -1])
def test_opposite_contrast_is_inverted_where_the_rim_is_bright(order):
    """The dark background is then next to dark fluid, as in the other image."""
    pair = [ball_of_tissues(*T1W), ball_of_tissues(*T2W, shift=1.0)][::order]
    *matched, which = with_matching_contrast(*pair)
    assert which == ("moving", "fixed")[::order][0]
    kept, changed = matched[::order]
    assert kept is pair[::order][0]
    t2w = pair[::order][1]
    both = (kept > 0) & (t2w > 0)
    assert (
        np.corrcoef(kept[both], t2w[both])[0, 1] < 0 < np.corrcoef(kept[both], changed[both])[0, 1]
    )
    assert not changed[t2w == 0].any()
    assert np.percentile(changed[t2w > 0], 99.5) == pytest.approx(1, abs=1e-3)
    white, fluid = changed[20, 19, 19], changed[20, 19, 35]
    assert white > 0.8 and fluid < 0.2


def test_the_edge_of_an_inverted_brain_is_not_bright():
    """Voxels that mix fluid and outside would be bright among dark fluid and dark outside."""
    t2w = ball_of_tissues(*T2W)
    edge = (t2w > 0) & ~ndimage.binary_erosion(t2w > 0)
    mixed = np.where(edge, 0.3, t2w)
    assert with_matching_contrast(ball_of_tissues(*T1W), mixed)[1][edge].max() < 0.2


def test_equal_contrasts_are_not_changed():
    for contrast in (T1W, T2W):
        pair = ball_of_tissues(*contrast), ball_of_tissues(*contrast, shift=1.0)
        fixed, moving, which = with_matching_contrast(*pair)
        assert which is None and fixed is pair[0] and moving is pair[1]


def test_contrast_is_not_changed_without_contrast_or_overlap():
    ball = ball_of_tissues(*T1W)
    flat, elsewhere = (ball > 0).astype(np.float32), np.zeros_like(ball)
    elsewhere[0, 0, :5] = 1, 0.5, 0.2, 0.1, 0.3
    for other in (flat, elsewhere):
        assert with_matching_contrast(ball, other)[2] is None
