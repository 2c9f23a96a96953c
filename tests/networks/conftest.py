import pytest


@pytest.fixture
def card():
    """The card of a tiny patch network."""
    from nipype_quicksilver.networks.card import Card

    return Card(
        architecture="patch",
        parameters={"features": 2},
        role="prediction",
        spacing=1.0,
        velocity_factor=2,
        kernel={"alpha": 0.01, "beta": 0.01, "gamma": 0.001, "power": 1.0},
        steps=10,
        percentile=99.5,
        equalize=False,
        training={"data": "two spheres", "recipe": {"epochs": 1}},
        validation={"dice": 0.7},
        licence="Apache-2.0",
    )


@pytest.fixture
def network():
    """A tiny patch network with known weights."""
    import torch

    from nipype_quicksilver.networks.patch_network import PatchNetwork

    torch.manual_seed(3)
    return PatchNetwork(features=2)


@pytest.fixture
def saved(tmp_path, network, card):
    """A checkpoint on disk."""
    from nipype_quicksilver.networks.checkpoint import save_checkpoint

    path = tmp_path / "a net.safetensors"
    save_checkpoint(path, network, card)
    return path
