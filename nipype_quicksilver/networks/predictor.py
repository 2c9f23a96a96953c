"""Trained networks, ready to predict: the shipped pair, or a user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nipype_quicksilver.data import CORRECTION, PREDICTION, PROBABILISTIC, shipped_network
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.folding import Lattice, calm, unfold
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import on_working_grid
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.similarity import mean_local_correlation
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import load_checkpoint
from nipype_quicksilver.networks.forces import Moving
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import PatchPredictor
from nipype_quicksilver.networks.prediction import (
    Images,
    Network,
    State,
    before_correction,
    run_networks,
)
from nipype_quicksilver.networks.sampling import (
    RunningMoments,
    is_probabilistic,
    residual_variance,
    without_dropout,
)
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE

# Times that a prediction is halved which makes the images less alike, before none of it is left.
HALVINGS = 6


class PatchedImages:
    """A network of patches as one of whole images.

    Parameters
    ----------
    network : PatchNetwork
    factor : int
        From the working grid to that of the momenta that it was trained on.
    """

    turns = 1

    def __init__(self, network: PatchNetwork, factor: int = 1) -> None:
        self._network = network
        self._predictors: dict[torch.device, PatchPredictor] = {}
        self.image = self.velocity = factor

    def __call__(self, moving: Moving, target: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the whitened momentum that the windows predict."""
        device = target.device
        if device not in self._predictors:  # it keeps a copy there, and the batches that fit
            precision = "bfloat16" if convolves_in_bfloat16(device) else "float32"
            self._predictors[device] = PatchPredictor(
                self._network, devices=[device], precision=precision
            )
        momentum = self._predictors[device](moving.image, target)
        return moving.operator.apply(momentum, 0.5)

    def in_passes(self, finest: int = 1) -> list[PatchedImages]:
        """Return the one pass."""
        return [self]


@dataclass(frozen=True)
class Predicted:
    """What the networks see in a pair of images.

    Attributes
    ----------
    state : torch.Tensor
        Whitened momentum, whose map has no folds on the working grid; a start may have some.
    operator : KernelOperator
        Of its grid.
    geodesic : Geodesic
        Shot from it, with both maps and the energies; of a start, before its folds were calmed.
    share : float
        How much is left of what the networks saw: less than 1 where all of it would have made the
        images less alike than they are without, as may happen with two images of one person.
    """

    state: torch.Tensor
    operator: KernelOperator
    geodesic: Geodesic
    share: float


@dataclass(frozen=True)
class Drawn:
    """How many samples have been drawn, of how many."""

    sample: int
    samples: int


@dataclass(frozen=True)
class Samples(Predicted):
    """The mean of the samples of a probabilistic network, and how they spread.

    Attributes
    ----------
    variance : torch.Tensor
        (1, 3, X, Y, Z), on the working grid: variance of each component of the displacement
        ``phi^-1`` over the shot samples, and a third of what :func:`sampling.residual_variance`
        tells, in the square of the spacing's unit.
    """

    variance: torch.Tensor


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

    def networks(self, corrections: int, *, finely: bool = True) -> list[Network]:
        """Return the networks in the order in which they are applied.

        Parameters
        ----------
        corrections : int
            0 is LP, 1 is LPC, N is LPCn, of which the second and later ones are last passes only:
            what is left is fine. Before a correction network the prediction network is applied
            `UNTIL_CORRECTION` times at most; without one it corrects itself (LPP).
        finely : bool
            False where an optimiser goes on from there: then only those passes of a correction are
            applied that look at its finest images, since it finds sooner what the others add.
        """
        passes = list(self.prediction.in_passes())
        if not corrections:
            return passes
        again = list((self.correction or self.prediction).in_passes())
        if self.correction is not None:
            passes = before_correction([self.prediction])
        if not finely:
            again = [network for network in again if network.image == again[-1].image]
        return [*passes, *again, *again[-1:] * (corrections - 1)]

    def to(self, device: torch.device) -> Predictor:
        """Return the same on a device."""
        correction = None if self.correction is None else _moved(self.correction, device)
        return replace(self, prediction=_moved(self.prediction, device), correction=correction)

    @torch.no_grad()
    def predict(
        self,
        images: Images,
        corrections: int,
        lattice: Lattice | None = None,
        *,
        finely: bool = True,
    ) -> Predicted:
        """Return the whitened momentum of a pair, whose map has no folds on the working grid.

        Parameters
        ----------
        images : Images
            One pair, normalised as the card says.
        corrections : int
            See :meth:`networks`.
        lattice : Lattice, optional
            Where the map will be sampled, and shall not fold either.
        finely : bool
            False where the momentum is a start only: see :meth:`networks`; then folds are calmed
            once, and those that are left are the optimiser's.

        Returns
        -------
        Predicted
        """
        found = self._run(images, corrections, finely=finely)
        return self._finished(images, found, corrections, lattice, finely)

    @torch.no_grad()
    def sample(
        self,
        images: Images,
        corrections: int,
        number: int,
        progress: Callable[[Drawn], None] | None = None,
        lattice: Lattice | None = None,
    ) -> Samples:
        """Return what so many samples of the networks tell; no more than one is kept at a time.

        Parameters
        ----------
        images : Images
            One pair, normalised as the card says.
        corrections : int
            See :meth:`networks`.
        number : int
            At least 2; random numbers are those of torch's own generator.
        progress : callable, optional
            Called after each sample.
        lattice : Lattice, optional
            As for :meth:`predict`.

        Returns
        -------
        Samples
        """
        states, displacements = RunningMoments(), RunningMoments()
        factor = self.velocity(corrections)
        for index in range(number):
            state, operator = self._run(images, corrections)
            # On its own grid, which is cheap and enough for a sample of the spread.
            state, geodesic = unfold(state, operator, steps=self.card.steps, factor=None)
            states.add(state)
            displacements.add(on_working_grid(geodesic.inverse, operator, factor))
            if progress is not None:
                progress(Drawn(index + 1, number))
        mean = self._finished(images, (states.mean, operator), corrections, lattice)
        residual = residual_variance(
            images, on_working_grid(mean.geodesic.inverse, operator, factor)
        )
        return Samples(**vars(mean), variance=displacements.variance() + residual / 3)

    def velocity(self, corrections: int) -> int:
        """Return by how much the predicted momentum's grid is coarser than the working grid."""
        return self.networks(corrections)[-1].velocity

    def _run(self, images: Images, corrections: int, *, finely: bool = True) -> State:
        networks = self.networks(corrections, finely=finely)
        kernel = Kernel(**self.card.kernel)
        with convolutions(images.at(self.prediction.image)[0].device):
            result = run_networks(networks, images, kernel, self.card.steps)
        assert result is not None
        return result

    def _finished(
        self,
        images: Images,
        found: State,
        corrections: int,
        lattice: Lattice | None,
        finely: bool = True,
    ) -> Predicted:
        """Mend the folds of a prediction, and shorten one that makes the images less alike."""
        factor = self.velocity(corrections)
        state, operator = found
        before = _likeness(images, factor)
        for share in [0.5**n for n in range(HALVINGS)] + [0.0]:
            mended, geodesic = self._mended(share * state, operator, finely, factor, lattice)
            if share == 0 or _likeness(images, factor, geodesic.inverse) >= before:
                break
        return Predicted(mended, operator, geodesic, share)

    def _mended(
        self,
        state: torch.Tensor,
        operator: KernelOperator,
        finely: bool,
        factor: int,
        lattice: Lattice | None,
    ) -> tuple[torch.Tensor, Geodesic]:
        """Return a state without folds, and its geodesic; a start may keep some."""
        steps = self.card.steps
        if finely:
            return unfold(state, operator, steps=steps, factor=factor, lattice=lattice)
        # The optimiser's barrier mends them, and loses less likeness.
        geodesic = shoot(operator.apply(state, -0.5), operator, steps=steps, energies=True)
        return calm(state, geodesic, operator), geodesic


def _likeness(images: Images, factor: int, displacement: torch.Tensor | None = None) -> float:
    """Return the local correlation of two images on a grid, the second one warped there."""
    fixed, moving, weight, moving_weight = images.at(factor)
    if displacement is not None:
        warped = sample(torch.cat([moving, moving_weight], 1), displacement, images.spacing(factor))
        moving, moving_weight = warped.split(1, dim=1)
    return mean_local_correlation(fixed, moving, weight * moving_weight)


def convolutions(device: torch.device) -> torch.autocast:
    """Return a context in which a processor that multiplies in bfloat16 convolves in it.

    That takes half the time, networks are trained in it, and maps differ by .003 mm on average.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=convolves_in_bfloat16(device))


def convolves_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device is a processor that multiplies in bfloat16."""
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def load_predictor(
    prediction: PathLike | None = None,
    correction: PathLike | None = None,
    *,
    probabilistic: bool = False,
    correcting: bool = True,
) -> Predictor:
    """Load networks.

    Parameters
    ----------
    prediction : path-like, optional
        Checkpoint (``.safetensors``) of the prediction network; the shipped one unless given.
    correction : path-like, optional
        Of the correction network; the shipped one for the shipped prediction network, none for
        another.
    probabilistic : bool
        Keep dropout on, to draw samples; networks that were trained with it predict without it
        otherwise.
    correcting : bool
        False where the prediction alone is wanted: there is no correction network then.

    Returns
    -------
    Predictor

    Raises
    ------
    InputError
        If a checkpoint cannot be used, the two do not belong together, or the prediction network
        has no dropout and is to be sampled.
    """
    if prediction is None:
        prediction = _existing(shipped_network(PROBABILISTIC if probabilistic else PREDICTION))
        if correcting and correction is None:
            correction = _existing(shipped_network(CORRECTION))
    used = (prediction, correction if correcting else None)
    paths = [Path(path) for path in used if path is not None]
    loaded = [load_checkpoint(path) for path in paths]
    cards = [card for _, card in loaded]
    if probabilistic and not is_probabilistic(cards[0]):
        raise InputError(
            f"{paths[0]}: has no dropout, so that its samples are all the same; give a network "
            "trained with dropout, or ask for no samples"
        )
    networks = [
        _of_whole_images(network if probabilistic else without_dropout(network, card), card)
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
        raise InputError(f"{path}: the package comes without it; give a prediction network")
    return path


def _check_grid(path: Path, network: Network, card: Card) -> None:
    if network.velocity != card.velocity_factor:
        raise InputError(
            f"{path}: its momentum is on a grid coarser by {network.velocity}, by its card "
            f"{card.velocity_factor}; correct the card"
        )
    if MULTIPLE % network.velocity or MULTIPLE % network.image:
        raise InputError(
            f"{path}: works on a grid coarser by {max(network.velocity, network.image)}; only "
            f"divisors of {MULTIPLE} fit the working grid"
        )


def _moved(network: Network, device: torch.device) -> Network:
    return network.to(device) if isinstance(network, ForceUNet) else network


def _of_whole_images(network: torch.nn.Module, card: Card) -> Network:
    if isinstance(network, PatchNetwork):
        return PatchedImages(network, card.velocity_factor)
    assert isinstance(network, ForceUNet)
    return network


def _model(card: Card) -> Sequence[object]:
    intensity = (card.percentile, card.equalize, card.like_contrast)
    return card.kernel, card.steps, card.spacing, intensity
