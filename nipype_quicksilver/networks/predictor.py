"""Prediction of the momentum of a pair of images by trained networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.folding import Lattice, damp, remove_folds
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import on_working_grid
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.similarity import mean_local_correlation
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.precision import convolution_precision
from nipype_quicksilver.networks.prediction import (
    Images,
    Network,
    State,
    run_networks,
    unroll_before_correction,
)
from nipype_quicksilver.networks.sampling import RunningMoments, residual_variance
from nipype_quicksilver.networks.unet import ForceUNet

# Number of times that a prediction which reduces the similarity is halved, before it is dropped.
HALVINGS = 6


@dataclass(frozen=True)
class Prediction:
    """The result of the networks for a pair of images.

    Attributes
    ----------
    state : torch.Tensor
        Whitened momentum, (1, 3, x, y, z). Its map has no folds on the working grid; if it is the
        start of an optimisation, it may have some.
    operator : KernelOperator
        On its grid.
    geodesic : Geodesic
        Shot from it, with both maps and the energies; of the start of an optimisation, from the
        state before it was damped.
    fraction : float
        Fraction of the networks' output that is used: less than 1 if all of it would make the
        images less similar than without deformation, as may happen with two images of one person.
    """

    state: torch.Tensor
    operator: KernelOperator
    geodesic: Geodesic
    fraction: float


@dataclass(frozen=True)
class SampleProgress:
    """Number of samples that have been drawn, and number of all samples."""

    sample: int
    samples: int


@dataclass(frozen=True)
class Samples(Prediction):
    """The mean of the samples of a probabilistic network, and their variance.

    Attributes
    ----------
    variance : torch.Tensor
        (1, 3, X, Y, Z), on the working grid, in squared units of the spacing: variance of each
        component of the displacement ``phi^-1`` over the shot samples, plus a third of
        :func:`sampling.residual_variance`.
    """

    variance: torch.Tensor


@dataclass(frozen=True)
class Predictor:
    """Networks, with the LDDMM model for which they were trained.

    Attributes
    ----------
    prediction : Network
    correction : Network or None
    card : Card
        Of the prediction network; model and intensities are the same for both.
    files : tuple of str
        Paths of the checkpoints.
    """

    prediction: Network
    correction: Network | None
    card: Card
    files: tuple[str, ...] = ()

    def networks(self, corrections: int, *, final: bool = True) -> list[Network]:
        """Return the networks in the order in which they are applied.

        Parameters
        ----------
        corrections : int
            0 is LP, 1 is LPC, N is LPCn, in which the second and later corrections are last passes
            only, since the remaining error is fine. Before a correction network the prediction
            network has `PASSES_BEFORE_CORRECTION` passes at most; without a correction network it
            corrects itself (LPP).
        final : bool
            False if an optimisation continues from the prediction: then only the passes of a
            correction on its finest images are applied, since the optimiser is faster than the
            others.
        """
        passes = list(self.prediction.unroll())
        if not corrections:
            return passes
        again = list((self.correction or self.prediction).unroll())
        if self.correction is not None:
            passes = unroll_before_correction([self.prediction])
        if not final:
            again = [network for network in again if network.image == again[-1].image]
        return [*passes, *again, *again[-1:] * (corrections - 1)]

    def to(self, device: torch.device) -> Predictor:
        """Return the same predictor on a device."""
        correction = None if self.correction is None else _to_device(self.correction, device)
        return replace(self, prediction=_to_device(self.prediction, device), correction=correction)

    @torch.no_grad()
    def predict(
        self,
        images: Images,
        corrections: int,
        lattice: Lattice | None = None,
        *,
        final: bool = True,
    ) -> Prediction:
        """Return the whitened momentum of a pair, whose map has no folds on the working grid.

        Parameters
        ----------
        images : Images
            One pair, normalised as described by the card.
        corrections : int
            See :meth:`networks`.
        lattice : Lattice, optional
            The voxels at which the map will be sampled, and where it must not fold either.
        final : bool
            False if an optimisation continues from the prediction, see :meth:`networks`. Then the
            state is damped once where it folds, and remaining folds are left to the optimiser.

        Returns
        -------
        Prediction
        """
        state = self._run(images, corrections, final=final)
        return self._finish(images, state, corrections, lattice, final)

    @torch.no_grad()
    def sample(
        self,
        images: Images,
        corrections: int,
        number: int,
        progress: Callable[[SampleProgress], None] | None = None,
        lattice: Lattice | None = None,
    ) -> Samples:
        """Return mean and variance of samples, of which one at a time is in memory.

        Parameters
        ----------
        images : Images
            One pair, normalised as described by the card.
        corrections : int
            See :meth:`networks`.
        number : int
            Number of samples, at least 2; torch's global generator provides the random numbers.
        progress : callable, optional
            Called after each sample.
        lattice : Lattice, optional
            As for :meth:`predict`.

        Returns
        -------
        Samples
        """
        states, displacements = RunningMoments(), RunningMoments()
        factor = self.velocity_factor(corrections)
        for index in range(number):
            state, operator = self._run(images, corrections)
            # On its own grid, which is fast, and accurate enough for a sample of the variance.
            state, geodesic = remove_folds(state, operator, steps=self.card.steps, factor=None)
            states.add(state)
            displacements.add(on_working_grid(geodesic.inverse, operator, factor))
            if progress is not None:
                progress(SampleProgress(index + 1, number))
        mean = self._finish(images, (states.mean, operator), corrections, lattice)
        residual = residual_variance(
            images, on_working_grid(mean.geodesic.inverse, operator, factor)
        )
        return Samples(**vars(mean), variance=displacements.variance() + residual / 3)

    def velocity_factor(self, corrections: int) -> int:
        """Return the factor by which the predicted momentum's grid is coarser than the working one.

        Parameters
        ----------
        corrections : int
            See :meth:`networks`.
        """
        return self.networks(corrections)[-1].velocity

    def _run(self, images: Images, corrections: int, *, final: bool = True) -> State:
        """Apply the networks."""
        networks = self.networks(corrections, final=final)
        kernel = Kernel(**self.card.kernel)
        with convolution_precision(images.at(self.prediction.image)[0].device):
            result = run_networks(networks, images, kernel, self.card.steps)
        assert result is not None
        return result

    def _finish(
        self,
        images: Images,
        predicted: State,
        corrections: int,
        lattice: Lattice | None,
        final: bool = True,
    ) -> Prediction:
        """Remove the folds of a prediction, and shorten one that makes the images less similar."""
        factor = self.velocity_factor(corrections)
        momentum, operator = predicted
        before = _similarity(images, factor)
        for fraction in [0.5**n for n in range(HALVINGS)] + [0.0]:
            state, geodesic = self._without_folds(
                fraction * momentum, operator, final, factor, lattice
            )
            if fraction == 0 or _similarity(images, factor, geodesic.inverse) >= before:
                break
        return Prediction(state, operator, geodesic, fraction)

    def _without_folds(
        self,
        state: torch.Tensor,
        operator: KernelOperator,
        final: bool,
        factor: int,
        lattice: Lattice | None,
    ) -> tuple[torch.Tensor, Geodesic]:
        """Return a state without folds, or one that is only damped, and its geodesic."""
        steps = self.card.steps
        if final:
            return remove_folds(state, operator, steps=steps, factor=factor, lattice=lattice)
        # The barrier of the optimiser removes the folds at a smaller loss of similarity.
        geodesic = shoot(operator.apply(state, -0.5), operator, steps=steps, energies=True)
        return damp(state, geodesic, operator), geodesic


def _similarity(images: Images, factor: int, displacement: torch.Tensor | None = None) -> float:
    """Return the local correlation of two images on a pooled grid, after warping the moving one."""
    fixed, moving, weight, moving_weight = images.at(factor)
    if displacement is not None:
        warped = sample(torch.cat([moving, moving_weight], 1), displacement, images.spacing(factor))
        moving, moving_weight = warped.split(1, dim=1)
    return mean_local_correlation(fixed, moving, weight * moving_weight)


def _to_device(network: Network, device: torch.device) -> Network:
    return network.to(device) if isinstance(network, ForceUNet) else network
