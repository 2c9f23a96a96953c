"""Samples of a probabilistic network, and what many of them tell without being kept.

A network trained with dropout that is kept on gives another momentum each time. Their mean is the
prediction; the spread of the maps that they lead to tells how sure it is (Yang et al. 2017,
section 2.5).
"""

from __future__ import annotations

import torch
from torch import nn

from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import build_network


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
