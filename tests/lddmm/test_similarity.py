"""Similarity measures: zero for equal images, and invariant where they should be."""

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, uniform_filter

from nipype_quicksilver.lddmm.grids import bounding_box, embed
from nipype_quicksilver.lddmm.settings import MEASURES
from nipype_quicksilver.lddmm.similarity import (
    LocalCorrelation,
    box_max,
    box_mean,
    mean_local_correlation,
    measure,
    pooled_mean,
)

SHAPE = (1, 1, 12, 13, 14)


def texture(seed: int) -> torch.Tensor:
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return box_mean(image, 1)


@pytest.mark.parametrize("name", MEASURES)
def test_equal_images_are_similar_and_others_are_not(name: str) -> None:
    fixed, weight = texture(0), torch.ones(SHAPE, dtype=torch.float64)
    compare = measure(name, fixed)  # type: ignore[arg-type]
    same, other = float(compare(fixed, weight)), float(compare(texture(1), weight))
    assert same == pytest.approx(0, abs=0.01 * weight.numel())
    assert other > 5 * same + 1


@pytest.mark.parametrize("name", MEASURES)
def test_a_voxel_without_weight_does_not_count(name: str) -> None:
    fixed, moving = texture(0), texture(1)
    weight = torch.zeros(SHAPE, dtype=torch.float64)
    weight[..., 9:] = 1
    changed = moving.clone()
    changed[..., : 5 if name == "mind" else 9] = 7  # MIND's patches reach two voxels further
    compare = measure(name, fixed)  # type: ignore[arg-type]
    assert float(compare(moving, weight)) == pytest.approx(float(compare(changed, weight)))


@pytest.mark.parametrize("name", MEASURES)
def test_batch_equals_loop(name: str) -> None:
    fixed = torch.cat([texture(0), texture(1)])
    moving = torch.cat([texture(2), texture(3)])
    weight = torch.rand(fixed.shape, generator=torch.Generator().manual_seed(4)).double()
    together = measure(name, fixed)(moving, weight)  # type: ignore[arg-type]
    assert together.shape == (2,)
    for i in range(2):
        part = slice(i, i + 1)
        alone = measure(name, fixed[part])(moving[part], weight[part])  # type: ignore[arg-type]
        assert float(together[i]) == pytest.approx(float(alone))


def test_local_correlation_ignores_gain_and_offset() -> None:
    fixed, weight = texture(0), torch.ones(SHAPE, dtype=torch.float64)
    plain = LocalCorrelation(fixed).squared(texture(1), weight)
    changed = LocalCorrelation(fixed).squared(-3 * texture(1) + 0.4, weight)
    # The variance floor is 1e-6 where the texture's local variance is about 1e-3.
    assert torch.allclose(plain, changed, atol=1e-2)
    assert mean_local_correlation(fixed, fixed, weight) == pytest.approx(1, abs=5e-3)


def test_local_correlation_of_one_window_agrees_with_numpy() -> None:
    fixed, moving = texture(0), texture(1)
    weight = torch.ones(SHAPE, dtype=torch.float64)
    result = LocalCorrelation(fixed).squared(moving, weight)[0, 0, 6, 6, 6]
    window = (0, 0, *(slice(4, 9),) * 3)
    expected = np.corrcoef(fixed[window].ravel(), moving[window].ravel())[0, 1] ** 2
    assert float(result) == pytest.approx(expected, rel=5e-3)


def test_self_similarity_is_invariant_to_inverted_contrast() -> None:
    """MIND considers inverted intensities similar, the squared difference does not."""
    fixed, weight = texture(0), torch.ones(SHAPE, dtype=torch.float64)
    for name, similar in (("mind", True), ("ssd", False)):
        compare = measure(name, fixed)  # type: ignore[arg-type]
        inverted, other = float(compare(1 - fixed, weight)), float(compare(texture(1), weight))
        assert (inverted < 0.05 * other) == similar


def test_box_mean_agrees_with_scipy() -> None:
    image = texture(2)
    expected = uniform_filter(image[0, 0].numpy(), size=5, mode="constant")
    assert np.allclose(box_mean(image, 2)[0, 0].numpy(), expected)


@pytest.mark.parametrize("name", MEASURES)
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    compare = measure(name, texture(0))  # type: ignore[arg-type]
    weight = torch.rand(SHAPE, dtype=torch.float64)
    moving = texture(1).requires_grad_()
    (gradient,) = torch.autograd.grad(compare(moving, weight).sum(), moving)
    direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        slope = (
            compare(moving + 1e-6 * direction, weight) - compare(moving - 1e-6 * direction, weight)
        ) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_an_unknown_measure_is_rejected() -> None:
    with pytest.raises(ValueError, match="not a similarity measure"):
        measure("nmi", texture(0))  # type: ignore[arg-type]


def test_box_mean_of_a_gpu_equals_that_of_a_cpu() -> None:
    generator = torch.Generator().manual_seed(5)
    image = torch.rand((2, 3, 9, 8, 7), generator=generator, dtype=torch.float64)
    for radius in (1, 2):
        assert torch.allclose(pooled_mean(image, radius), box_mean(image, radius), rtol=1e-12)


def test_box_mean_does_not_depend_on_its_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand((2, 3, 9, 8, 7), generator=torch.Generator().manual_seed(5))
    whole = box_mean(image, 2)
    monkeypatch.setattr("nipype_quicksilver.lddmm.similarity.SLAB", 2 * 3 * 8 * 7 * 2)
    assert torch.equal(box_mean(image, 2), whole)


def test_box_max_agrees_with_scipy() -> None:
    image = torch.rand((1, 1, 9, 8, 7), generator=torch.Generator().manual_seed(5))
    expected = maximum_filter(image[0, 0].numpy(), 5, mode="nearest")
    assert np.array_equal(box_max(image, 2)[0, 0].numpy(), expected)


def test_regions_without_weight_can_be_cropped() -> None:
    """Neither value nor gradient depend on the images outside the box with weight."""
    fixed, moving = texture(3), texture(4)
    weight = torch.zeros_like(fixed)
    weight[..., 3:9, 4:6, 2:11] = 0.5
    weight[..., 4:6, 4:9, 3] = 1
    box = bounding_box(weight)
    whole, part = LocalCorrelation(fixed), LocalCorrelation(fixed[box])
    torch.testing.assert_close(part(moving[box], weight[box]), whole(moving, weight))
    derivative = part.gradient_wrt_fixed(moving[box], weight[box])
    torch.testing.assert_close(
        embed(derivative, box, fixed.shape[2:]), whole.gradient_wrt_fixed(moving, weight)
    )
    assert (
        not whole(moving, 0 * weight).any()
        and not whole.gradient_wrt_fixed(moving, 0 * weight).any()
    )
