"""The network of the paper, layer by layer."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nipype_quicksilver.networks.patch_network import PatchNetwork, SamplingDropout

ENCODER = ["1>64", "64>64", "64>64", "64>64/2", "64>128", "128>128", "128>128", "128>128/2"]
DECODER = ["256>256*2", "256>256", "256>256", "256>128", "128>128*3", "128>128", "128>128", "128>1"]


@pytest.fixture(scope="module")
def patches():
    generator = torch.Generator().manual_seed(0)
    return torch.rand((2, 2, 1, 15, 15, 15), generator=generator)


def small(**parameters):
    torch.manual_seed(1)
    return PatchNetwork(features=2, **parameters)


def describe(layer):
    """Return a convolution as text: features, and stride or side where they are not usual."""
    text = f"{layer.in_channels}>{layer.out_channels}"
    if isinstance(layer, nn.ConvTranspose3d):
        assert (layer.stride, layer.padding) == ((2,) * 3, (1,) * 3)
        return f"{text}*{layer.kernel_size[0]}"
    if layer.stride == (2,) * 3:
        assert (layer.kernel_size, layer.padding) == ((2,) * 3, (1,) * 3)
        return f"{text}/2"
    assert (layer.kernel_size, layer.padding, layer.stride) == ((3,) * 3, (1,) * 3, (1,) * 3)
    return text


def convolutions(module):
    return [
        layer for layer in module.modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)
    ]


def test_has_the_layers_of_the_paper():
    network = PatchNetwork()
    assert sum(weights.numel() for weights in network.parameters()) == 21_826_344
    assert [describe(layer) for layer in convolutions(network.moving_encoder)] == ENCODER
    assert [describe(layer) for layer in convolutions(network.target_encoder)] == ENCODER
    assert len(network.decoders) == 3
    for decoder in network.decoders:
        assert [describe(layer) for layer in convolutions(decoder)] == DECODER
    assert all(layer.bias is not None for layer in convolutions(network))
    kinds = {type(module) for module in network.modules() if not list(module.children())}
    assert kinds == {nn.Conv3d, nn.ConvTranspose3d, nn.PReLU, SamplingDropout}
    # Every convolution has an activation of one weight, except for the three outputs.
    activations = [module for module in network.modules() if isinstance(module, nn.PReLU)]
    assert len(activations) == len(convolutions(network)) - 3
    assert all(activation.num_parameters == 1 for activation in activations)


def test_patches_shrink_to_five_voxels_and_are_restored(patches):
    network = small()
    shapes = []
    for layer in convolutions(network.moving_encoder) + convolutions(network.decoders[0]):
        layer.register_forward_hook(lambda *call: shapes.append(call[2].shape[2]))
    assert network(*patches).shape == (2, 3, 15, 15, 15)
    assert shapes == [15, 15, 15, 8, 8, 8, 8, 5, 8, 8, 8, 8, 15, 15, 15, 15]


def test_costs_nearly_six_million_multiplications_a_voxel():
    with torch.device("meta"):
        network = PatchNetwork()
        patch = torch.empty(1, 1, 15, 15, 15)
        with FlopCounterMode(display=False) as counter:
            network(patch, patch)
    assert counter.get_total_flops() / 2 / 15**3 == pytest.approx(5.7e6, rel=0.02)


def test_each_input_has_its_encoder_and_each_component_its_decoder(patches):
    network = small()
    for component in range(3):
        network.zero_grad()
        network(*patches)[:, component].sum().backward()
        used = [bool(decoder[1].up.weight.grad.any()) for decoder in network.decoders]
        assert used == [i == component for i in range(3)]
    moving, target = patches
    features = network.moving_encoder(moving), network.target_encoder(target)
    expected = torch.cat([decoder(torch.cat(features, 1)) for decoder in network.decoders], 1)
    assert torch.equal(network(moving, target), expected)
    assert not torch.allclose(network(target, moving), expected)


def test_dropout_is_active_in_evaluation_mode(patches):
    network = small(dropout=0.2).eval()
    torch.manual_seed(0)
    first, second = network(*patches), network(*patches)
    torch.manual_seed(0)
    assert not torch.allclose(first, second)
    assert torch.equal(network(*patches), first)


def test_dropout_follows_the_inner_activations_only():
    network = small(dropout=0.2)
    for encoder in (network.moving_encoder, network.target_encoder):
        for block in encoder:
            names = list(block._modules)
            assert [i for i, name in enumerate(names) if "dropout" in name] == [2, 5, 8]
            assert names[-2:] == ["down", "down_activation"]
    for decoder in network.decoders:
        first, last = (list(block._modules) for block in decoder)
        assert first[:2] == last[:2] == ["up", "up_activation"]
        assert sum("dropout" in name for name in first) == 3
        assert sum("dropout" in name for name in last) == 2
        assert last[-1] == "convolution3"


def test_both_versions_have_the_same_weights(patches):
    deterministic, probabilistic = small(), small(dropout=0.2)
    probabilistic.load_state_dict(deterministic.state_dict())
    expected = deterministic(*patches)
    assert torch.equal(deterministic(*patches), expected)
    mean = torch.stack([probabilistic(*patches) for _ in range(400)]).mean(dim=0)
    assert (mean - expected).abs().mean() < 0.2 * expected.abs().mean()


def test_sampling_dropout_keeps_the_mean():
    torch.manual_seed(0)
    values = SamplingDropout(0.2).eval()(torch.ones(100_000))
    assert sorted(values.unique().tolist()) == [0, 1.25]
    assert values.mean() == pytest.approx(1, abs=0.01)
    assert repr(SamplingDropout(0.2)) == "SamplingDropout(p=0.2)"


@pytest.mark.parametrize("side", [7, 11, 19])
def test_other_patch_sizes(side):
    patch = torch.zeros(1, 1, side, side, side)
    assert small(patch_size=side)(patch, patch).shape == (1, 3, side, side, side)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"patch_size": 16}, "3 more than a multiple of 4"),
        ({"patch_size": -1}, "3 more than a multiple of 4"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"features": 0}, "feature"),
    ],
)
def test_invalid_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        PatchNetwork(**parameters)


def test_a_patch_that_does_not_fit():
    patch = torch.zeros(1, 1, 15, 15, 16)
    with pytest.raises(ValueError, match=r"\(15, 15, 16\) does not fit"):
        small()(patch, patch)
