"""Networks on disk: weights as safetensors, with their card next to them.

A checkpoint is two files of one name: ``NAME.safetensors`` contains the weights, ``NAME.json`` the
card (:mod:`nipype_quicksilver.networks.card`) with the SHA-256 of the weights. Neither can contain
code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.networks.card import IMPORT_HINT, Card, card_path, read_card
from nipype_quicksilver.spatial.files import PathLike, sha256_of, staged
from nipype_quicksilver.spatial.records import parse_json

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Module and class of each architecture; the `parameters` of a card are its keyword arguments.
ARCHITECTURES = {
    "patch": "nipype_quicksilver.networks.patch_network:PatchNetwork",
    "force-unet": "nipype_quicksilver.networks.unet:ForceUNet",
}

# In bytes; safetensors rejects longer headers too.
_LONGEST_HEADER = 100_000_000


def build_network(architecture: str, parameters: dict[str, Any]) -> nn.Module:
    """Return a network of an architecture, with random weights.

    Parameters
    ----------
    architecture : str
        Name in :data:`ARCHITECTURES`.
    parameters : dict
        Keyword arguments of its class.

    Returns
    -------
    nn.Module

    Raises
    ------
    InputError
        If the architecture is not known or does not accept the parameters.

    Examples
    --------
    >>> build_network("patch", {"features": 2}).patch_size
    15
    """
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"architecture '{architecture}' is not known (known: {', '.join(ARCHITECTURES)}); "
            "update nipype-quicksilver"
        )
    module, _, name = ARCHITECTURES[architecture].partition(":")
    try:
        network: nn.Module = getattr(importlib.import_module(module), name)(**parameters)
    # Parameters from a file may be of any type.
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"architecture '{architecture}': its parameters are not valid: {reason}"
        ) from error
    return network


def save_checkpoint(
    path: PathLike, network: nn.Module, card: Card, *, dtype: torch.dtype | None = None
) -> Card:
    """Write the weights of a network and their card.

    Parameters
    ----------
    path : path-like
        ``NAME.safetensors``; the card is written to ``NAME.json``. The files get their names when
        both are complete.
    network : nn.Module
        Of the architecture and parameters in the card.
    card : Card
        Its `sha256` is set.
    dtype : torch.dtype, optional
        Data type of the weights in the file, for instance `torch.float16`, which halves its size;
        they are always loaded as float32. Default: that of the network.

    Returns
    -------
    Card
        The card as written.

    Raises
    ------
    InputError
        If a file cannot be written, or the name has another suffix.
    QuicksilverError
        If weights are not finite.
    ValueError
        If the card does not describe the network, or cannot be written as JSON.
    """
    from safetensors.torch import save

    card_file = card_path(path)
    card.check()
    state = {name: _stored(weights, dtype) for name, weights in network.state_dict().items()}
    _check_finite(state, path, QuicksilverError)
    if misfit := _misfit(card, state):
        raise ValueError(f"the card does not fit the network: {misfit}")
    data = save(state, metadata={"format": "pt"})
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    text = json.dumps(card.as_json(), indent=2, allow_nan=False, default=lambda item: item.tolist())
    with staged(card_file) as card_part:
        card_part.write_text(text + "\n", encoding="utf-8")
        with staged(path) as weights_part:
            weights_part.write_bytes(data)
    return card


def load_checkpoint(path: PathLike) -> tuple[nn.Module, Card]:
    """Read a network and its card.

    Parameters
    ----------
    path : path-like
        ``NAME.safetensors``, with ``NAME.json`` next to it.

    Returns
    -------
    network : nn.Module
        On the CPU, float32, in evaluation mode. Random number generators are not changed.
    card : Card

    Raises
    ------
    InputError
        If a file is missing, truncated, damaged or not a safetensors file, if the weights are not
        those of the card, or if the architecture is not known.
    """
    import torch

    path = Path(path)
    card_file = card_path(path)
    _check_header(path)
    card = read_card(path)
    if sha256_of(path) != card.sha256:
        raise InputError(
            f"{path}: its SHA-256 is not that of its card {card_file.name}: one of them is "
            "damaged or of another checkpoint; get both again"
        )
    state = _read_weights(path)
    try:
        misfit = _misfit(card, state)
        with torch.random.fork_rng(devices=[]):
            network = None if misfit else build_network(card.architecture, card.parameters)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if network is None:
        raise InputError(f"{path}: its weights do not fit its card: {misfit}; get both again")
    _check_finite(state, path, InputError)
    network.load_state_dict(state)
    return network.eval(), card


def count_weights(network: nn.Module) -> int:
    """Return the number of weights of a network.

    Examples
    --------
    >>> count_weights(build_network("patch", {"features": 1}))
    5664
    """
    return sum(weights.numel() for weights in network.parameters())


def _stored(weights: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Return weights as written to a file: contiguous, and without shared memory."""
    weights = weights.detach().cpu()
    if dtype is not None and weights.is_floating_point():
        weights = weights.to(dtype)
    return weights.contiguous().clone()


def _check_finite(
    state: dict[str, torch.Tensor], path: PathLike, kind: type[QuicksilverError]
) -> None:
    """Raise an error of some kind if weights are not finite."""
    for name, weights in state.items():
        if not weights.isfinite().all():
            raise kind(
                f"{path}: weights {name} contain NaN or infinite values; train the network again"
            )


def _misfit(card: Card, state: dict[str, torch.Tensor]) -> str:
    """Return the first mismatch between weights and architecture; empty if they match."""
    import torch

    with torch.device("meta"):  # shapes only: a wrong card must not allocate gigabytes
        expected = build_network(card.architecture, card.parameters).state_dict()
    for name, weights in expected.items():
        if name not in state:
            return f"{name} is missing"
        if state[name].shape != weights.shape:
            return f"{name} is {tuple(state[name].shape)}, not {tuple(weights.shape)}"
        if state[name].is_floating_point() != weights.is_floating_point():
            return f"{name} has type {state[name].dtype}"
    return next((f"{name} is not part of it" for name in state if name not in expected), "")


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(f"{path}: is damaged; get it again") from error


def _check_header(path: Path) -> None:
    """Raise an error if a file is not a complete safetensors file.

    Such a file consists of the length of its header in eight bytes, the header as JSON, and data.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 9 or length > _LONGEST_HEADER or start[8:] != b"{":
                _refuse(path, size)
            header = start[8:] + file.read(length - 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path of the checkpoint") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give the {path.suffix} file in it") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    expected = 8 + length
    if len(header) == length:
        expected += _data_size(header, path)
    if size < expected:
        raise InputError(
            f"{path}: is truncated ({size} bytes of at least {expected}); get it again"
        )


def _data_size(header: bytes, path: Path) -> int:
    """Return the number of bytes of data according to a header."""
    try:
        entries = parse_json(header)
        ends = [e["data_offsets"][1] for name, e in entries.items() if name != "__metadata__"]
        return int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: its header is damaged; get it again") from error


def _refuse(path: Path, size: int) -> NoReturn:
    """Raise the error for a file that is not a safetensors file."""
    if size == 0:
        raise InputError(f"{path}: is empty; get it again")
    raise InputError(f"{path}: is not a safetensors file, despite its name; {IMPORT_HINT}")
