"""Small, untrained networks of the architecture of the package: they follow the mean force."""

from pathlib import Path

import torch

from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import save_checkpoint
from nipype_quicksilver.networks.unet import ForceUNet

STEPS = 3


def tiny_unet(*, velocity=4, first_step=0.5, dropout=0.0, noise=0.0, seed=0, **parameters):
    """Return a network and its parameters; `noise` is added to its first weights."""
    parameters = {
        "image": 2,
        "velocity": velocity,
        "scales": [2, 4],
        "widths": [4, 8],
        "first_step": first_step,
        "dropout": dropout,
        **parameters,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ForceUNet(**parameters)
        with torch.no_grad():
            for weights in network.parameters():
                weights += noise * torch.randn_like(weights)
    return network.eval(), parameters


def card_of(parameters, *, architecture="force-unet", role="prediction", **changes):
    """Return the card of a network."""
    content = {
        "architecture": architecture,
        "parameters": parameters,
        "role": role,
        "spacing": 1.0,
        "velocity_factor": parameters.get("velocity", 1),
        "kernel": Kernel().as_dict(),
        "steps": STEPS,
        "percentile": 99.5,
        "equalize": False,
        "training": {},
        "validation": {},
        "licence": "Apache-2.0",
    }
    return Card(**{**content, **changes})


def save_unet(path: Path, *, changes=None, **options) -> Path:
    """Write a checkpoint; `changes` are of its card."""
    network, parameters = tiny_unet(**options)
    save_checkpoint(path, network, card_of(parameters, **(changes or {})))
    return path
