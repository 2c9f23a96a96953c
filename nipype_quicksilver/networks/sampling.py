"""Samples of a probabilistic network, and how far off their mean may be.

A network trained with dropout that is kept on gives another momentum each time. Their mean is the
prediction; the spread of the maps that they lead to tells how sure the network is (Yang et al.
2017, section 2.5). It does not tell what the network cannot know, which shows in what is left
between the images once they are warped.
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

# Of the windows in which images are compared, in voxels of the working grid, and of those in which
# what they tell is averaged: an error of a smooth map is smooth.
RADIUS = 2
SMOOTHNESS = 3

# Gradient, per millimetre, of an image whose robust maximum is 1, at which it tells as much of a
# displacement as is known without it.
FLAT = 0.2

# From the displacement that explains what is left to the mean error, as measured on pairs whose
# deformation is known: much of an error can be explained by less.
TYPICAL_ERROR = 4.6


class RunningMoments:
    """Mean and variance of tensors that come one after the other (Welford 1962).

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
        """Take a tensor in; it is not kept."""
        self.count += 1
        if self.count == 1:
            self.mean, self._squares = values.clone(), torch.zeros_like(values)
            return
        before = values - self.mean
        self.mean += before / self.count
        self._squares.addcmul_(before, values - self.mean)

    def variance(self) -> torch.Tensor:
        """Return the unbiased variance of each element; of at least two tensors."""
        if self.count < 2:
            raise ValueError("a variance needs two samples at least")
        return self._squares / (self.count - 1)


def is_probabilistic(card: Card) -> bool:
    """Return whether the network of a card draws samples."""
    return bool(card.parameters.get("dropout", 0.0))


def without_dropout(network: nn.Module, card: Card) -> nn.Module:
    """Return the deterministic network of the same weights.

    Dropout scales up what it keeps, so that the weights serve both.
    """
    if not is_probabilistic(card):
        return network
    with torch.random.fork_rng(devices=[]):
        other = build_network(card.architecture, {**card.parameters, "dropout": 0.0})
    other.load_state_dict(network.state_dict())
    return other.eval()


@torch.no_grad()
def residual_variance(images: Images, displacement: torch.Tensor) -> torch.Tensor:
    """Return the squared error of a map that what is left between the images tells of.

    In a window, ``(1 - cc^2) var(T)`` of the target ``T`` is left unexplained by the warped image.
    A displacement ``d`` would explain about ``(d grad T)^2`` of it, so that the left-over divided
    by the mean of ``|grad T|^2`` is the square of the displacement that is missing (the normal flow
    of Horn and Schunck 1981), damped where there is no gradient to tell. It is averaged around
    every voxel.

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
    unexplained = 1 - LocalCorrelation(fixed, RADIUS).squared(moving, weight)
    slope = gradient(fixed, spacing)[:, 0].square().sum(dim=1, keepdim=True)
    parts = torch.cat([fixed, fixed.square(), slope], dim=1)
    mean, square, slope = local_mean(parts, weight, RADIUS).split(1, dim=1)
    left = unexplained.clamp_min(0) * (square - mean.square()).clamp_min(0)
    missing = TYPICAL_ERROR**2 * left / (slope + FLAT**2)
    return local_mean(missing, weight, SMOOTHNESS)
