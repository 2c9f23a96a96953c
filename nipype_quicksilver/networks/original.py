"""Import of networks of the original Quicksilver project.

The accepted layout is a dictionary in a file of `torch.save` (``*.pth.tar``):

``network_feature``, ``patch_size``
    Integers: features of the first block, side of a patch.
``state_dict``
    The weights by name. ``encoder_m_1`` and ``encoder_m_2`` are the blocks of the encoder of the
    moving patch, ``encoder_t_*`` those of the target's, each with the convolutions ``conv_input``,
    ``conv_inblock1``, ``conv_inblock2``, ``conv_pooling`` and the activations ``prelu1`` to
    ``prelu4``. ``decoder_x_1`` and ``decoder_x_2`` are the blocks of the decoder of the first
    component, ``decoder_y_*`` and ``decoder_z_*`` of the others, with ``conv_unpooling``,
    ``conv_inblock1``, ``conv_inblock2``, ``conv_output`` and the same activations, of which the
    last of the second block is not used.
``deformation_params``
    A dictionary: ``diffOpParams`` contains alpha, beta and gamma of the operator, ``time_steps`` or
    ``nTimeSteps`` the number of time steps of the shooting.
``matlab_t7``
    Present if the network was trained on images with axes in reverse order (z, y, x). The
    components of its momentum are in the order x, y, z nevertheless, so that only the axes of its
    kernels are reversed.

Some of these files were written by PyTorch's first releases and Python 2. They are read with
``weights_only=True``: code in them is not run.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.spatial.files import PathLike

_ENCODERS = {"moving_encoder": "encoder_m", "target_encoder": "encoder_t"}
_DECODERS = {"decoders.0": "decoder_x", "decoders.1": "decoder_y", "decoders.2": "decoder_z"}

# Names of the layers of a block, in this project and in the original one.
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
        ``*.pth.tar``, in the layout described in this module.
    role : str
        ``prediction`` or ``correction``; it is not recorded in the file.
    dropout : float
        0.2 for the probabilistic network, which has the same layout.
    equalize : bool
        Whether the network expects images with equalised histograms, as in the training described
        by the original project.
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
        If the file cannot be read, contains anything but plain data, or has another layout.
    """
    path = Path(path)
    content = _load(path)
    try:
        parameters: dict[str, Any] = {
            "features": _integer(content, "network_feature"),
            "dropout": dropout,
            "patch_size": _integer(content, "patch_size"),
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
            f"{path}: is not a network of the original project in a known layout: {error}"
        ) from error
    return network.eval(), card


def _load(path: Path) -> dict[Any, Any]:
    """Return the dictionary in a file of plain data and tensors only."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the .pth.tar file in it")
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about the old format
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path of the network") from error
    except PermissionError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = "contains code or objects besides weights" if _is_code(error) else "is damaged"
        raise InputError(
            f"{path}: {reason}, or is not a file of torch; its content was not run: give the "
            ".pth.tar of a network of the original project"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: contains a {type(content).__name__} instead of a dictionary with a "
            "state_dict; "
            "give the .pth.tar of a network"
        )
    return content


def _is_code(error: Exception) -> bool:
    """Return whether torch refused to run something in a file."""
    return "Unsupported" in str(error) or "weights_only" in str(error)


def _integer(content: dict[Any, Any], key: str) -> int:
    """Return an integer of a dictionary."""
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} is missing or not an integer")
    return value


def _translated(network: PatchNetwork, state: Any, reverse: bool) -> dict[str, torch.Tensor]:
    """Return weights under the names of this project's network, for images (x, y, z)."""
    if not isinstance(state, dict):
        raise ValueError("state_dict is missing")
    remaining = dict(state)
    result = {}
    expected = network.state_dict()
    for name, original in _names():
        weights = remaining.pop(original, None)
        if name not in expected:
            continue  # an activation after the output, which the original does not use
        if not isinstance(weights, torch.Tensor):
            raise ValueError(f"{original} is missing in state_dict")
        if weights.shape != expected[name].shape:
            shapes = f"{tuple(weights.shape)}, not {tuple(expected[name].shape)}"
            raise ValueError(f"{original} is {shapes}")
        if not weights.is_floating_point() or not weights.isfinite().all():
            raise ValueError(f"{original} contains NaN, infinite or non-real numbers")
        if reverse and weights.dim() == 5:
            weights = weights.permute(0, 1, 4, 3, 2)
        result[name] = weights
    if remaining:
        raise ValueError(f"{next(iter(remaining))} in state_dict is not known")
    return result


def _names() -> Iterator[tuple[str, str]]:
    """Yield the names of all weights, in this project and in the original one."""
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
    """Return the parameters of the kernel."""
    values = deformation.get("diffOpParams")
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError("deformation_params lacks diffOpParams of three numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError(
            "diffOpParams in deformation_params contains values that are not finite numbers"
        )
    alpha, beta, gamma = (float(value) for value in values)
    return Kernel(alpha, beta, gamma, power=1.0).as_dict()


def _steps(deformation: dict[Any, Any]) -> int:
    """Return the number of time steps."""
    steps = deformation.get("time_steps", deformation.get("nTimeSteps", _DEFAULT_STEPS))
    if not isinstance(steps, int | float) or steps != int(steps):
        raise ValueError("the time steps in deformation_params are not an integer")
    return int(steps)


def _plain(deformation: dict[Any, Any]) -> dict[str, Any]:
    """Return the entries of a dictionary that can be written as JSON."""
    return {
        str(key): list(value) if isinstance(value, list | tuple) else value
        for key, value in deformation.items()
        if isinstance(value, str | int | list | tuple)
        or (isinstance(value, float) and math.isfinite(value))
    }
