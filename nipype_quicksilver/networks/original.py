"""Networks of the original Quicksilver project, brought into this one.

The layout that is accepted, a dictionary in a file of `torch.save` (``*.pth.tar``):

``network_feature``, ``patch_size``
    Whole numbers: features of the first block, side of a patch.
``state_dict``
    The weights by name. ``encoder_m_1`` and ``encoder_m_2`` are the blocks of the encoder of the
    moving patch, ``encoder_t_*`` those of the target's, each with the convolutions ``conv_input``,
    ``conv_inblock1``, ``conv_inblock2``, ``conv_pooling`` and the activations ``prelu1`` to
    ``prelu4``. ``decoder_x_1`` and ``decoder_x_2`` are the blocks of the decoder of the first
    component, ``decoder_y_*`` and ``decoder_z_*`` of the others, with ``conv_unpooling``,
    ``conv_inblock1``, ``conv_inblock2``, ``conv_output`` and the same activations, of which the
    last of the second block is not used.
``deformation_params``
    A dictionary: ``diffOpParams`` holds alpha, beta and gamma of the operator, ``time_steps`` or
    ``nTimeSteps`` the steps of the shoot.
``matlab_t7``
    Present where the network was trained on images whose axes are in reverse order: there the
    network is shown (z, y, x). The components of its momentum are in the order x, y, z all the
    same, so that the axes of its kernels are reversed and nothing else.

Files of PyTorch's first releases and of Python 2 are among them. They are read with
``weights_only=True``: nothing in them is run.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.spatial.files import PathLike

_ENCODERS = {"moving_encoder": "encoder_m", "target_encoder": "encoder_t"}
_DECODERS = {"decoders.0": "decoder_x", "decoders.1": "decoder_y", "decoders.2": "decoder_z"}

# Names of the layers of a block, here and there.
_ENCODER_BLOCK = {
    "convolution1": "conv_input",
    "activation1": "prelu1",
    "convolution2": "conv_inblock1",
    "activation2": "prelu2",
    "convolution3": "conv_inblock2",
    "activation3": "prelu3",
    "down": "conv_pooling",
    "down_activation": "prelu4",
}
_DECODER_BLOCK = {
    "up": "conv_unpooling",
    "up_activation": "prelu1",
    "convolution1": "conv_inblock1",
    "activation1": "prelu2",
    "convolution2": "conv_inblock2",
    "activation2": "prelu3",
    "convolution3": "conv_output",
    "activation3": "prelu4",
}

_DEFAULT_STEPS = 10


def read_original(
    path: PathLike,
    *,
    role: str = "prediction",
    dropout: float = 0.0,
    equalize: bool = True,
    licence: str = "that of the original file",
) -> tuple[PatchNetwork, Card]:
    """Read a network of the original project.

    Parameters
    ----------
    path : path-like
        ``*.pth.tar``, in the layout that this module describes.
    role : str
        ``prediction`` or ``correction``; the file does not tell.
    dropout : float
        0.2 for the probabilistic network, which has the same layout.
    equalize : bool
        Whether the network expects images with equalised histograms, as the training that the
        original project describes.
    licence : str
        Of the weights.

    Returns
    -------
    network : PatchNetwork
        For images (x, y, z), on the CPU.
    card : Card

    Raises
    ------
    InputError
        If the file cannot be read, holds anything but plain data, or is of another layout.
    """
    path = Path(path)
    content = _load(path)
    try:
        parameters: dict[str, Any] = {
            "features": _whole(content, "network_feature"),
            "dropout": dropout,
            "patch_size": _whole(content, "patch_size"),
        }
        network = PatchNetwork(**parameters)
        reverse = "matlab_t7" in content
        network.load_state_dict(_translated(network, content.get("state_dict"), reverse))
        deformation = content.get("deformation_params")
        if not isinstance(deformation, dict):
            raise ValueError("deformation_params is missing")
        card = Card(
            architecture="patch",
            parameters=parameters,
            role=role,
            spacing=1.0,
            velocity_factor=1,
            kernel=_kernel(deformation),
            steps=_steps(deformation),
            percentile=100.0,
            equalize=equalize,
            training={
                "source": path.name,
                "project": "original Quicksilver",
                "axes": "z, y, x (reversed at import)" if reverse else "x, y, z",
                "deformation_params": _plain(deformation),
            },
            validation={},
            licence=licence,
        )
        card.check()
    except ValueError as error:
        raise InputError(
            f"{path}: is no network of the original project in the layout known here: {error}"
        ) from error
    return network.eval(), card


def _load(path: Path) -> dict[Any, Any]:
    """Return the dictionary in a file, of plain data and tensors only."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the .pth.tar file in it")
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # on the age of the format
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path of the network") from error
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes of the unpickler
        reason = "holds code or objects beside weights" if _is_code(error) else "is damaged"
        raise InputError(
            f"{path}: {reason}, or is no file of torch; such a file is never run: give the "
            ".pth.tar of a network as the original project has it"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds a {type(content).__name__} in place of a dictionary with a state_dict; "
            "give the .pth.tar of a network"
        )
    return content


def _is_code(error: Exception) -> bool:
    return "Unsupported" in str(error) or "weights_only" in str(error)


def _whole(content: dict[Any, Any], key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} is missing or no whole number")
    return value


def _translated(network: PatchNetwork, state: Any, reverse: bool) -> dict[str, torch.Tensor]:
    """Return weights under the names of a network of ours, for images (x, y, z)."""
    if not isinstance(state, dict):
        raise ValueError("state_dict is missing")
    left = dict(state)
    result = {}
    expected = network.state_dict()
    for name, original in _names():
        weights = left.pop(original, None)
        if name not in expected:
            continue  # the activation that the original has after its output, and does not use
        if not isinstance(weights, torch.Tensor):
            raise ValueError(f"{original} is missing in state_dict")
        if weights.shape != expected[name].shape:
            shapes = f"{tuple(weights.shape)}, not {tuple(expected[name].shape)}"
            raise ValueError(f"{original} is {shapes}")
        if not weights.is_floating_point() or not weights.isfinite().all():
            raise ValueError(f"{original} holds NaN, infinite or no real numbers")
        if reverse and weights.dim() == 5:
            weights = weights.permute(0, 1, 4, 3, 2)
        result[name] = weights
    if left:
        raise ValueError(f"{next(iter(left))} in state_dict is not known")
    return result


def _names() -> Iterator[tuple[str, str]]:
    """Yield the names of all weights, here and there."""
    for parts, layers in ((_ENCODERS, _ENCODER_BLOCK), (_DECODERS, _DECODER_BLOCK)):
        for part, original_part in parts.items():
            for block in (0, 1):
                for layer, original_layer in layers.items():
                    name = f"{part}.{block}.{layer}"
                    original = f"{original_part}_{block + 1}.{original_layer}"
                    yield f"{name}.weight", f"{original}.weight"
                    if "prelu" not in original_layer:
                        yield f"{name}.bias", f"{original}.bias"


def _kernel(deformation: dict[Any, Any]) -> dict[str, float]:
    values = deformation.get("diffOpParams")
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError("deformation_params lacks diffOpParams of three numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("diffOpParams in deformation_params holds something else than numbers")
    alpha, beta, gamma = (float(value) for value in values)
    return {"alpha": alpha, "beta": beta, "gamma": gamma, "power": 1.0}


def _steps(deformation: dict[Any, Any]) -> int:
    steps = deformation.get("time_steps", deformation.get("nTimeSteps", _DEFAULT_STEPS))
    if not isinstance(steps, int | float) or steps != int(steps):
        raise ValueError("the time steps in deformation_params are no whole number")
    return int(steps)


def _plain(deformation: dict[Any, Any]) -> dict[str, Any]:
    """Return what of a dictionary can be written as JSON."""
    return {
        str(key): list(value) if isinstance(value, list | tuple) else value
        for key, value in deformation.items()
        if isinstance(value, str | int | list | tuple)
        or (isinstance(value, float) and math.isfinite(value))
    }
