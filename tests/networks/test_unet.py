"""The U-shaped network with forces as input."""

import itertools

import pytest
import torch

from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.networks import unet
from nipype_quicksilver.networks.forces import MovingImage
from nipype_quicksilver.networks.unet import LARGEST_MOMENTUM, ForceUNet

SHAPE = (20, 16, 24)  # on the velocity grid (10, 8, 12), of which two halvings need padding


def make(**parameters):
    torch.manual_seed(0)
    return ForceUNet(scales=(2, 4), widths=(4, 6, 8), **parameters)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    moving, target = torch.rand((2, 1, 1, *SHAPE), generator=generator)
    operator = KernelOperator(Kernel(), [n // 2 for n in SHAPE], 4.0)
    state = torch.zeros((1, 3, *operator.shape))
    return MovingImage(moving, torch.ones_like(moving), operator), target, state


def scrambled(network, size=1.0):
    """Give a network arbitrary weights."""
    torch.manual_seed(5)
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=size)
    return network


def test_shape_and_bounds_for_arbitrary_weights(inputs):
    momentum = scrambled(make())(*inputs).detach()
    assert momentum.shape == (1, 3, 10, 8, 12) and momentum.isfinite().all()
    assert float(momentum.abs().max()) <= LARGEST_MOMENTUM


def test_untrained_network_steps_along_the_force(inputs):
    """Before training the momentum reduces the dissimilarity to first order."""
    network = make()
    with torch.no_grad():
        momentum = network(*inputs)
    moving, target, _ = inputs
    force = moving.forces(target, [1, 2])
    force = force.unflatten(1, (2, 3)).sum(dim=1)
    cosine = torch.nn.functional.cosine_similarity(momentum.flatten(), force.flatten(), dim=0)
    assert float(cosine) > 0.9


def test_identical_images_need_no_momentum(inputs):
    moving, _, state = inputs
    with torch.no_grad():
        different = make()(*inputs)
        same = make()(moving, moving.image, state)
    assert float(same.abs().mean()) < 0.1 * float(different.abs().mean())


@pytest.mark.parametrize("parameters", [{}, {"tile": 2, "normalized": True}])
def test_every_weight_is_trained(inputs, parameters):
    network = scrambled(make(**parameters), 0.1)
    network(*inputs).square().sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None and weights.grad.abs().max() > 0, name


def test_tiles_keep_the_grid(inputs):
    """With tiles, of which two halvings need padding, gains are still per voxel."""
    network = make(tile=2, normalized=True)
    with torch.no_grad():
        momentum = network(*inputs)
        torch.nn.init.normal_(network.leave.weight, std=0.1)
        different = network(*inputs)
    assert momentum.shape == different.shape == (1, 3, 10, 8, 12)
    ratio = (different / momentum)[0, 0]
    assert float((ratio[::2] - ratio[1::2]).abs().mean()) > 0.01


def test_tiling_and_its_inverse():
    """Packing into channels and back is the identity, also for several channels."""
    fine = torch.arange(2 * 5 * 4 * 6 * 8.0).reshape(2, 5, 4, 6, 8)
    blocks = unet._space_to_depth(fine, 2)
    assert blocks.shape == (2, 40, 2, 3, 4)
    assert torch.equal(blocks[0, :8, 0, 0, 0], fine[0, 0, :2, :2, :2].flatten())
    assert torch.equal(unet._depth_to_space(blocks, 2), fine)


def test_the_last_pass_is_on_finer_images():
    generator = torch.Generator().manual_seed(1)
    moving, target = torch.rand((2, 1, 1, 40, 32, 48), generator=generator)
    weight = torch.ones_like(moving)
    operator = KernelOperator(Kernel(), (20, 16, 24), 2.0)
    state = torch.zeros((1, 3, *operator.shape))
    parameters = {"velocity": 2, "normalized": True, "passes": 3, "last_image": 1}
    network = scrambled(make(**parameters), 0.1)
    first, second, last = network.unroll()
    assert first is second is network and (first.image, last.image) == (2, 1)
    assert network.unroll(2) == [network] * 3
    several = make(**parameters, last_passes=2)
    assert [each.image for each in several.unroll()] == [2, 1, 1]
    with pytest.raises(ValueError, match="at most that of all"):
        make(**parameters, last_passes=4)
    coarser = [torch.nn.functional.avg_pool3d(each, 2) for each in (moving, weight, target)]
    inputs = [
        (MovingImage(image, where, operator), aim, state)
        for image, where, aim in (coarser, (moving, weight, target))
    ]
    with torch.no_grad():
        coarse, fine = first(*inputs[0]), last(*inputs[1])
    assert coarse.shape == fine.shape and not torch.allclose(coarse, fine)
    # Of all inputs, only the finest force is different.
    network.along.data[0] = 0
    for layer in (network.enter, network.leave):
        torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        coarse, fine = first(*inputs[0]), last(*inputs[1])
    torch.testing.assert_close(coarse, fine)


def test_dropout_samples_also_in_evaluation(inputs):
    network = scrambled(make(dropout=0.3)).eval()
    with torch.no_grad():
        torch.manual_seed(1)
        first, second = network(*inputs), network(*inputs)
        torch.manual_seed(1)
        again = network(*inputs)
        plain = scrambled(make()).eval()
        assert torch.equal(plain(*inputs), plain(*inputs))
    assert not torch.equal(first, second) and torch.equal(first, again)
    assert make(dropout=0.3).state_dict().keys() == make().state_dict().keys()


def test_invalid_factors_are_rejected():
    for parameters in ({"image": 2, "velocity": 3}, {"image": 2, "velocity": 4, "scales": (3,)}):
        with pytest.raises(ValueError, match="multiples of the image factor"):
            ForceUNet(**parameters)
    with pytest.raises(ValueError, match="divisor of the image factor"):
        ForceUNet(image=2, last_image=3)


def test_sizes_of_the_levels():
    network = ForceUNet()
    weights = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for (level, wide), (_, narrow) in itertools.pairwise(enumerate((32, 48, 64, 96))):
        assert weights[f"encoders.{level}.first.weight"] == (wide, wide, 3, 3, 3)
        assert weights[f"down.{level}.weight"] == (narrow, wide, 2, 2, 2)
