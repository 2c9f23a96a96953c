"""Samples of a probabilistic network, and the uncertainty of their mean.

A network trained with dropout, which stays active, predicts another momentum each time. Their mean
is the prediction; the variance of the resulting maps measures the uncertainty of the network (Yang
et al. 2017, section 2.5). It does not include errors that all samples have in common, which are
estimated from the difference that remains between the images after warping.
"""

from __future__ import annotations

import torch
from torch import nn

from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.jacobians import gradient
from nipype_quicksilver.lddmm.similarity import LocalCorrelation, local_mean
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import build_network
from nipype_quicksilver.networks.prediction import Images

# Radius, in voxels of the working grid, of the windows in which images are compared, and of those
# in which the estimate is averaged: the error of a smooth map is smooth.
RADIUS = 2
SMOOTHING_RADIUS = 3

# Gradient, per millimetre, of an image whose robust maximum is 1, at which the image contributes as
# much information on the displacement as is known without it.
FLAT = 0.2

# Ratio of the mean error to the displacement that explains the remaining difference, as measured on
# pairs with known deformations: smaller displacements than the error often explain it.
ERROR_RATIO = 4.6


class RunningMoments:
    """Mean and variance of a sequence of tensors, without keeping them (Welford 1962).

    Examples
    --------
    >>> moments = RunningMoments()
    >>> for value in (1.0, 2.0, 6.0):
    ...     moments.add(torch.tensor([value]))
    >>> moments.mean, moments.variance()
    (tensor([3.]), tensor([7.]))
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, values: torch.Tensor) -> None:
        """Include a tensor."""
        self.count += 1
        if self.count == 1:
            self.mean, self._squares = values.clone(), torch.zeros_like(values)
            return
        before = values - self.mean
        self.mean += before / self.count
        self._squares.addcmul_(before, values - self.mean)

    def variance(self) -> torch.Tensor:
        """Return the unbiased variance of each element, for at least two tensors."""
        if self.count < 2:
            raise ValueError("a variance needs at least two samples")
        return self._squares / (self.count - 1)


def is_probabilistic(card: Card) -> bool:
    """Return whether the network of a card was trained with dropout."""
    return bool(card.parameters.get("dropout", 0.0))


def without_dropout(network: nn.Module, card: Card) -> nn.Module:
    """Return the deterministic network with the same weights.

    Dropout scales up the values that it keeps, so that both networks have the same weights.
    """
    if not is_probabilistic(card):
        return network
    with torch.random.fork_rng(devices=[]):
        other = build_network(card.architecture, {**card.parameters, "dropout": 0.0})
    other.load_state_dict(network.state_dict())
    return other.eval()


@torch.no_grad()
def residual_variance(images: Images, displacement: torch.Tensor) -> torch.Tensor:
    """Return the squared error of a map, estimated from the remaining image difference.

    In a window, the warped image leaves ``(1 - cc^2) var(T)`` of the target ``T`` unexplained. A
    displacement ``d`` would explain about ``(d grad T)^2`` of it, so that the unexplained variance
    divided by the mean of ``|grad T|^2`` is the square of the missing displacement (the normal
    flow of Horn and Schunck 1981), damped where the gradient is small. It is averaged around every
    voxel.

    Parameters
    ----------
    images : Images
        One pair.
    displacement : torch.Tensor
        Of ``phi^-1``, (1, 3, X, Y, Z), on the working grid.

    Returns
    -------
    torch.Tensor
        (1, 1, X, Y, Z), in the square of the spacing's unit, summed over the components.
    """
    fixed, moving, weight, moving_weight = images.at(1)
    spacing = images.spacing(1)
    moving, moving_weight = sample(
        torch.cat([moving, moving_weight], 1), displacement, spacing
    ).split(1, dim=1)
    weight = weight * moving_weight
    fraction = 1 - LocalCorrelation(fixed, RADIUS).squared(moving, weight)
    steepness = gradient(fixed, spacing)[:, 0].square().sum(dim=1, keepdim=True)
    parts = torch.cat([fixed, fixed.square(), steepness], dim=1)
    mean, square, steepness = local_mean(parts, weight, RADIUS).split(1, dim=1)
    unexplained = fraction.clamp_min(0) * (square - mean.square()).clamp_min(0)
    missing = ERROR_RATIO**2 * unexplained / (steepness + FLAT**2)
    return local_mean(missing, weight, SMOOTHING_RADIUS)
