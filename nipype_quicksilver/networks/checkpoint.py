"""Networks on disk: weights as safetensors, with their card beside them.

A checkpoint is two files of one name: ``NAME.safetensors`` holds the weights, ``NAME.json`` the
card (:mod:`nipype_quicksilver.networks.card`) with the SHA-256 of the weights. Neither can hold
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

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Where the class of each architecture is; a card's `parameters` are its keyword arguments.
ARCHITECTURES = {
    "patch": "nipype_quicksilver.networks.patch_network:PatchNetwork",
    "force-unet": "nipype_quicksilver.networks.unet:ForceUNet",
}

# A longer header is none: safetensors refuses it too.
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
        If there is no such architecture, or it has no such parameters.

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
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"architecture '{architecture}': its parameters are no good: {reason}"
        ) from error
    return network


def save_checkpoint(
    path: PathLike, network: nn.Module, card: Card, *, dtype: torch.dtype | None = None
) -> Card:
    """Write the weights of a network and their card.

    Parameters
    ----------
    path : path-like
        ``NAME.safetensors``; the card is written to ``NAME.json``. Each file appears under its name
        when both are complete.
    network : nn.Module
        Of the architecture and the parameters that the card names.
    card : Card
        Its `sha256` is filled in.
    dtype : torch.dtype, optional
        Of the weights in the file, for instance `torch.float16`, which halves it; they are loaded
        as float32 in any case. Their own unless given.

    Returns
    -------
    Card
        The card as it was written.

    Raises
    ------
    InputError
        If a file cannot be written, or the name has another ending.
    QuicksilverError
        If weights are not finite.
    ValueError
        If the card is not that of the network, or cannot be written as JSON.
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
        ``NAME.safetensors``, with ``NAME.json`` beside it.

    Returns
    -------
    network : nn.Module
        On the CPU, float32, in evaluation mode. No random number is drawn.
    card : Card

    Raises
    ------
    InputError
        If a file is missing, truncated, damaged or no safetensors file, if the weights are not
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
    """Return weights as a file holds them: in plain order, and no two in the same memory."""
    weights = weights.detach().cpu()
    if dtype is not None and weights.is_floating_point():
        weights = weights.to(dtype)
    return weights.contiguous().clone()


def _check_finite(
    state: dict[str, torch.Tensor], path: PathLike, kind: type[QuicksilverError]
) -> None:
    for name, weights in state.items():
        if not weights.isfinite().all():
            raise kind(
                f"{path}: weights {name} hold NaN or infinite values; train the network again"
            )


def _misfit(card: Card, state: dict[str, torch.Tensor]) -> str:
    """Return what does not fit between the weights and the architecture, or nothing."""
    import torch

    with torch.device("meta"):  # shapes only: a wrong card must not allocate gigabytes
        expected = build_network(card.architecture, card.parameters).state_dict()
    for name, weights in expected.items():
        if name not in state:
            return f"{name} is missing"
        if state[name].shape != weights.shape:
            return f"{name} is {tuple(state[name].shape)}, not {tuple(weights.shape)}"
        if state[name].is_floating_point() != weights.is_floating_point():
            return f"{name} holds {state[name].dtype}"
    return next((f"{name} is not part of it" for name in state if name not in expected), "")


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(f"{path}: is damaged; get it again") from error


def _check_header(path: Path) -> None:
    """Refuse what is no whole safetensors file, and say what it is instead.

    Such a file is the length of its header in eight bytes, the header as JSON, and the data.
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
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    whole = 8 + length
    if len(header) == length:
        whole += _data_size(header, path)
    if size < whole:
        raise InputError(f"{path}: is truncated ({size} bytes of at least {whole}); get it again")


def _data_size(header: bytes, path: Path) -> int:
    try:
        entries = json.loads(header)
        ends = [e["data_offsets"][1] for name, e in entries.items() if name != "__metadata__"]
        return int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: its header is damaged; get it again") from error


def _refuse(path: Path, size: int) -> NoReturn:
    if size == 0:
        raise InputError(f"{path}: is empty; get it again")
    raise InputError(f"{path}: is no safetensors file, whatever its name; {IMPORT_HINT}")
