"""Loading of trained networks: the shipped ones, or a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from nipype_quicksilver.data import CORRECTION, PREDICTION, PROBABILISTIC, shipped_network
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import load_checkpoint
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patchwise import PatchwiseNetwork
from nipype_quicksilver.networks.prediction import Network
from nipype_quicksilver.networks.predictor import Predictor
from nipype_quicksilver.networks.sampling import is_probabilistic, without_dropout
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE


def load_predictor(
    prediction: PathLike | None = None,
    correction: PathLike | None = None,
    *,
    probabilistic: bool = False,
    with_correction: bool = True,
) -> Predictor:
    """Load networks.

    Parameters
    ----------
    prediction : path-like, optional
        Checkpoint (``.safetensors``) of the prediction network. Default: the shipped one.
    correction : path-like, optional
        Checkpoint of the correction network. Default: the shipped one for the shipped prediction
        network, none for another.
    probabilistic : bool
        Keep dropout active, to draw samples. Otherwise networks that were trained with dropout
        predict without it.
    with_correction : bool
        False to load the prediction network alone.

    Returns
    -------
    Predictor

    Raises
    ------
    InputError
        If a checkpoint cannot be used, if the two do not belong together, or if a prediction
        network without dropout is to be sampled.
    """
    if prediction is None:
        prediction = _existing(shipped_network(PROBABILISTIC if probabilistic else PREDICTION))
        if with_correction and correction is None:
            correction = _existing(shipped_network(CORRECTION))
    used = (prediction, correction if with_correction else None)
    paths = [Path(path) for path in used if path is not None]
    loaded = [load_checkpoint(path) for path in paths]
    cards = [card for _, card in loaded]
    if probabilistic and not is_probabilistic(cards[0]):
        raise InputError(
            f"{paths[0]}: has no dropout, so that all its samples are the same; give a network "
            "trained with dropout, or request no samples"
        )
    networks = [
        _for_whole_images(network if probabilistic else without_dropout(network, card), card)
        for network, card in loaded
    ]
    for path, network, card in zip(paths, networks, cards, strict=True):
        _check_grid(path, network, card)
    if len(cards) == 2 and _model(cards[0]) != _model(cards[1]):
        raise InputError(
            f"{paths[1]}: was trained for another kernel, grid or normalisation than "
            f"{paths[0]}; give two networks that belong together"
        )
    if len(networks) == 2 and networks[0].velocity % networks[1].velocity:
        raise InputError(f"{paths[1]}: its grid is coarser than that of {paths[0]}; swap them")
    return Predictor(
        prediction=networks[0],
        correction=networks[1] if len(networks) == 2 else None,
        card=cards[0],
        files=tuple(str(path) for path in paths),
    )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path}: is not part of this installation; give a prediction network")
    return path


def _check_grid(path: Path, network: Network, card: Card) -> None:
    """Raise an error if the grid of a network is not that of its card or not supported."""
    if network.velocity != card.velocity_factor:
        raise InputError(
            f"{path}: its momentum is on a grid coarser by {network.velocity}, but according to "
            f"its card by {card.velocity_factor}; correct the card"
        )
    if MULTIPLE % network.velocity or MULTIPLE % network.image:
        raise InputError(
            f"{path}: needs a grid coarser by {max(network.velocity, network.image)}; only "
            f"divisors of {MULTIPLE} fit the working grid"
        )


def _for_whole_images(network: torch.nn.Module, card: Card) -> Network:
    """Return a loaded network as one of whole images."""
    if isinstance(network, PatchNetwork):
        return PatchwiseNetwork(network, card.velocity_factor)
    assert isinstance(network, ForceUNet)
    return network


def _model(card: Card) -> Sequence[object]:
    """Return the properties that networks applied together must have in common."""
    intensity = (card.percentile, card.equalize, card.match_contrast)
    return card.kernel, card.steps, card.spacing, intensity
