"""Trained networks, ready to predict: the shipped pair, or a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.folding import unfold
from nipype_quicksilver.lddmm.kernel import Kernel, KernelOperator
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import load_checkpoint
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import PatchPredictor
from nipype_quicksilver.networks.prediction import Images, Network, State, run_networks
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.spatial.files import PathLike

#: The shipped networks, in the package's data.
PREDICTION, CORRECTION = "prediction.safetensors", "correction.safetensors"


class PatchedImages:
    """A network of patches as one of whole images.

    Parameters
    ----------
    network : PatchNetwork
    """

    image = velocity = passes = 1

    def __init__(self, network: PatchNetwork) -> None:
        self._network = network

    def __call__(
        self,
        moving: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
        state: torch.Tensor,
        operator: KernelOperator,
    ) -> torch.Tensor:
        """Return the whitened momentum that the windows predict."""
        momentum = PatchPredictor(self._network, devices=[moving.device])(moving, target)
        return operator.apply(momentum, 0.5)


@dataclass(frozen=True)
class Predictor:
    """Networks and the LDDMM model that they were trained for.

    Attributes
    ----------
    prediction : Network
    correction : Network or None
    card : Card
        Of the prediction network; model and intensities are the same for both.
    files : tuple of str
        Where they came from.
    """

    prediction: Network
    correction: Network | None
    card: Card
    files: tuple[str, ...] = ()

    def networks(self, corrections: int) -> list[Network]:
        """Return the networks in the order in which they are applied.

        Parameters
        ----------
        corrections : int
            0 is LP, 1 is LPC, N is LPCn. Without a correction network the prediction network
            corrects itself (LPP).
        """
        return [self.prediction] + [self.correction or self.prediction] * corrections

    def to(self, device: torch.device) -> Predictor:
        """Return the same on a device."""
        correction = None if self.correction is None else _moved(self.correction, device)
        return replace(self, prediction=_moved(self.prediction, device), correction=correction)

    @torch.no_grad()
    def predict(self, images: Images, corrections: int) -> State:
        """Return the whitened momentum of a pair, whose map has no folds on the working grid.

        Parameters
        ----------
        images : Images
            One pair, normalised as the card says.
        corrections : int
            See :meth:`networks`.

        Returns
        -------
        State
        """
        kernel, steps = Kernel(**self.card.kernel), self.card.steps
        networks = self.networks(corrections)
        result = run_networks(networks, images, kernel, steps)
        assert result is not None
        state, operator = result
        factor = networks[-1].velocity
        return unfold(state, operator, steps=steps, factor=factor), operator


def shipped_networks() -> tuple[Path, Path]:
    """Return the checkpoints of the prediction and the correction network in the package."""
    folder = Path(str(files("nipype_quicksilver.data"))) / "networks"
    return folder / PREDICTION, folder / CORRECTION


def load_predictor(
    prediction: PathLike | None = None, correction: PathLike | None = None
) -> Predictor:
    """Load networks.

    Parameters
    ----------
    prediction : path-like, optional
        Checkpoint (``.safetensors``) of the prediction network; the shipped one unless given.
    correction : path-like, optional
        Of the correction network; the shipped one for the shipped prediction network, none for
        another.

    Returns
    -------
    Predictor

    Raises
    ------
    InputError
        If a checkpoint cannot be used, or the two do not belong together.
    """
    if prediction is None:
        prediction, shipped = shipped_networks()
        correction = correction or shipped
    paths = [Path(path) for path in (prediction, correction) if path is not None]
    loaded = [load_checkpoint(path) for path in paths]
    networks = [_of_whole_images(network) for network, _ in loaded]
    cards = [card for _, card in loaded]
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


def _moved(network: Network, device: torch.device) -> Network:
    return network.to(device) if isinstance(network, ForceUNet) else network


def _of_whole_images(network: torch.nn.Module) -> Network:
    if isinstance(network, PatchNetwork):
        return PatchedImages(network)
    assert isinstance(network, ForceUNet)
    return network


def _model(card: Card) -> Sequence[object]:
    return card.kernel, card.steps, card.spacing, card.percentile, card.equalize
