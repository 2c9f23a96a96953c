"""Sampling, its adjoint and composition, against closed forms."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from nipype_quicksilver.lddmm import fields
from tests.lddmm.conftest import SHAPE, SPACING, coordinates, smooth_displacement


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sampling_agrees_with_scipy(threads: int) -> None:
    shape = (12, 10, 9)  # the first axis is divided into slabs
    image = torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(0)).double()
    displacement = smooth_displacement(1.3, shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sampled = fields.sample(image, displacement, SPACING)
    finally:
        torch.set_num_threads(before)
    spacing = np.array(SPACING)[:, None, None, None]
    index = (coordinates(shape)[0] + displacement[0]).numpy() / spacing
    for channel in range(2):
        expected = map_coordinates(image[0, channel].numpy(), index, order=1, mode="nearest")
        assert np.allclose(sampled[0, channel].numpy(), expected, atol=1e-12)


def test_nearest_sampling_keeps_labels() -> None:
    labels = torch.randint(0, 9, (1, 1, *SHAPE)).double()
    result = fields.sample(labels, smooth_displacement(0.4), SPACING, mode="nearest")
    assert set(result.unique().tolist()) <= set(labels.unique().tolist())


def test_batch_equals_loop() -> None:
    images = torch.rand((3, 1, *SHAPE), dtype=torch.float64)
    displacements = torch.cat([smooth_displacement(s) for s in (0.2, 0.9, 1.7)])
    together = fields.sample(images, displacements, SPACING)
    alone = [fields.sample(images[i : i + 1], displacements[i : i + 1], SPACING) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("start, stop", [((2, 0, 8), (6, 4, 12)), ((0, 2, 4), (8, 10, 6))])
def test_sampling_in_a_box_equals_sampling(start, stop) -> None:
    image, displacement = torch.rand((1, 2, *SHAPE)).double(), smooth_displacement(1.3)
    box = (slice(None), slice(None), *map(slice, start, stop))
    part = fields.sample(image, displacement[box], SPACING, box=box)
    assert torch.equal(part, fields.sample(image, displacement, SPACING)[box])


def test_translations_compose_by_addition() -> None:
    first = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    first = first.expand(1, 3, *SHAPE)
    assert torch.allclose(fields.compose(first, 2 * first, SPACING), 3 * first)


@pytest.mark.parametrize("function", [fields.sample, fields.push])
def test_gradients_do_not_depend_on_threads(function):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 2, 16, 12, 12), generator=generator)
    displacement = 2 * torch.randn((1, 3, 16, 12, 12), generator=generator)
    threads, gradients = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            inputs = (image.clone().requires_grad_(), displacement.clone().requires_grad_())
            sampled = function(*inputs).square().sum()
            gradients.append(torch.autograd.grad(sampled, inputs))
    finally:
        torch.set_num_threads(threads)
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))


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


def test_pushing_is_periodic() -> None:
    density = torch.rand((2, 1, *SHAPE), generator=torch.Generator().manual_seed(0)).double()
    shift = torch.tensor([-3.0, 2.0, 1.0], dtype=torch.float64)
    displacement = (shift * torch.tensor(SPACING)).reshape(1, 3, 1, 1, 1).expand(2, 3, *SHAPE)
    pushed = fields.push(density, displacement, SPACING)
    assert torch.allclose(pushed, density.roll((-3, 2, 1), dims=(2, 3, 4)), atol=1e-12)


@pytest.mark.parametrize("size", [4, 5])  # several slabs, and a single one
def test_gradient_of_pushing(size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    density = torch.randn((1, 2, size, 4, 3), generator=generator).double().requires_grad_()
    displacement = torch.randn((1, 3, size, 4, 3), generator=generator).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, u: fields.push(m, u, 1.5), (density, displacement))
