"""Sampling, composition and inversion against closed forms."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from nipype_quicksilver.lddmm import fields
from tests.lddmm.conftest import SHAPE, SPACING, coordinates, smooth_displacement


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sampling_agrees_with_scipy(threads: int) -> None:
    shape = (12, 10, 9)  # the first axis is cut into slabs
    image = torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(0)).double()
    displacement = smooth_displacement(1.3, shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = fields.sample(image, displacement, SPACING)
    finally:
        torch.set_num_threads(before)
    spacing = np.array(SPACING)[:, None, None, None]
    index = (coordinates(shape)[0] + displacement[0]).numpy() / spacing
    for channel in range(2):
        expected = map_coordinates(image[0, channel].numpy(), index, order=1, mode="nearest")
        assert np.allclose(ours[0, channel].numpy(), expected, atol=1e-12)


def test_nearest_sampling_keeps_labels() -> None:
    labels = torch.randint(0, 9, (1, 1, *SHAPE)).double()
    result = fields.sample(labels, smooth_displacement(0.4), SPACING, mode="nearest")
    assert set(result.unique().tolist()) <= set(labels.unique().tolist())


def test_a_batch_equals_a_loop() -> None:
    images = torch.rand((3, 1, *SHAPE), dtype=torch.float64)
    displacements = torch.cat([smooth_displacement(s) for s in (0.2, 0.9, 1.7)])
    together = fields.sample(images, displacements, SPACING)
    alone = [fields.sample(images[i : i + 1], displacements[i : i + 1], SPACING) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_bounding_box_holds_all_weight_and_ends_at_multiples() -> None:
    weight = torch.zeros((2, 1, *SHAPE))
    weight[0, 0, 3, 4, 5] = weight[1, 0, 6, 4, 11] = 0.5
    whole = (slice(None), slice(None))
    assert fields.bounding_box(weight) == (*whole, slice(3, 7), slice(4, 5), slice(5, 12))
    expected = (*whole, slice(0, 8), slice(4, 8), slice(4, 12))
    assert fields.bounding_box(weight, 4) == expected
    assert fields.bounding_box(weight, 5)[2] == slice(0, 9)  # where the grid ends
    assert fields.bounding_box(weight, 2, margin=1)[2:] == (slice(2, 8), slice(2, 6), slice(4, 12))
    assert fields.bounding_box(0 * weight)[2:] == tuple(slice(0, n) for n in SHAPE)


def test_a_box_of_a_field_is_placed_where_it_was_cut_out() -> None:
    field = torch.rand((2, 3, *SHAPE))
    box = (slice(None), slice(None), slice(2, 6), slice(0, 4), slice(8, 12))
    again = fields.placed(field[box], box, SHAPE)
    assert again.shape == field.shape and torch.equal(again[box], field[box])
    assert float(again.sum()) == pytest.approx(float(field[box].sum()))


@pytest.mark.parametrize("start, stop", [((2, 0, 8), (6, 4, 12)), ((0, 2, 4), (8, 10, 6))])
def test_sampling_in_a_box_is_a_part_of_sampling(start, stop) -> None:
    image, displacement = torch.rand((1, 2, *SHAPE)).double(), smooth_displacement(1.3)
    box = (slice(None), slice(None), *map(slice, start, stop))
    part = fields.sample(image, displacement[box], SPACING, box=box)
    assert torch.equal(part, fields.sample(image, displacement, SPACING)[box])


@pytest.mark.parametrize("start, stop", [((0, 0, 0), (18, 20, 24)), ((3, 4, 7), (4, 9, 22))])
def test_upsampling_a_box_is_a_part_of_upsampling(start, stop) -> None:
    field = smooth_displacement(1.3)
    box = (slice(None), slice(None), *map(slice, start, stop))
    for factor in (1, 2):
        part = fields.upsample_within(field, factor, box)
        assert torch.equal(part, fields.upsample(field, factor)[box])


def test_translations_compose_by_addition() -> None:
    first = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    first = first.expand(1, 3, *SHAPE)
    assert torch.allclose(fields.compose(first, 2 * first, SPACING), 3 * first)


def test_inverse_composes_to_the_identity() -> None:
    displacement = smooth_displacement(0.8)
    inverse = fields.invert(displacement, torch.zeros_like(displacement), SPACING, iterations=20)
    residual = fields.compose(displacement, inverse, SPACING)
    assert residual.abs().max() < 1e-10


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_keeps_linear_functions_and_undoes_pooling(factor: int) -> None:
    x = torch.arange(8, dtype=torch.float64)[None, None, :, None, None].expand(1, 1, 8, 8, 8)
    fine = fields.upsample(fields.pool(x, factor), factor)
    inner = slice(factor, -factor)
    assert torch.allclose(fine[:, :, inner], x[:, :, inner])


def test_upsampling_agrees_with_torch() -> None:
    field = torch.rand((1, 3, 5, 6, 7), dtype=torch.float64)
    expected = torch.nn.functional.interpolate(
        field, scale_factor=4, mode="trilinear", align_corners=False
    )
    assert torch.allclose(fields.upsample(field, 4), expected)


@pytest.mark.parametrize("function", [fields.sample, fields.push])
def test_gradients_do_not_depend_on_threads(function):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 2, 16, 12, 12), generator=generator)
    displacement = 2 * torch.randn((1, 3, 16, 12, 12), generator=generator)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            inputs = (image.clone().requires_grad_(), displacement.clone().requires_grad_())
            sampled = function(*inputs).square().sum()
            found.append(torch.autograd.grad(sampled, inputs))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_pushing_is_the_adjoint_of_sampling() -> None:
    generator = torch.Generator().manual_seed(0)
    inner = (slice(None), slice(None), *(slice(3, -3),) * 3)
    density = torch.zeros((1, 2, 12, 13, 14), dtype=torch.float64)
    density[inner] = torch.rand(density[inner].shape, generator=generator, dtype=torch.float64)
    function = torch.rand(density.shape, generator=generator, dtype=torch.float64)
    displacement = 2 * torch.rand((1, 3, 12, 13, 14), generator=generator).double() - 1
    pushed = fields.push(density, displacement, SPACING)
    sampled = fields.sample(function, displacement, SPACING)
    assert float((pushed * function).sum()) == pytest.approx(float((density * sampled).sum()))


def test_what_is_pushed_over_the_border_comes_back_on_the_other_side() -> None:
    density = torch.rand((2, 1, *SHAPE), generator=torch.Generator().manual_seed(0)).double()
    shift = torch.tensor([-3.0, 2.0, 1.0], dtype=torch.float64)
    displacement = (shift * torch.tensor(SPACING)).reshape(1, 3, 1, 1, 1).expand(2, 3, *SHAPE)
    pushed = fields.push(density, displacement, SPACING)
    assert torch.allclose(pushed, density.roll((-3, 2, 1), dims=(2, 3, 4)), atol=1e-12)


@pytest.mark.parametrize("size", [4, 5])  # in slabs, and in one
def test_gradient_of_pushing(size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    density = torch.randn((1, 2, size, 4, 3), generator=generator).double().requires_grad_()
    displacement = torch.randn((1, 3, size, 4, 3), generator=generator).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, u: fields.push(m, u, 1.5), (density, displacement))
