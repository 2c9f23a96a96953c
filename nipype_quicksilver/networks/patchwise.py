"""A network of patches, applied to whole images."""

from __future__ import annotations

import torch

from nipype_quicksilver.networks.forces import MovingImage
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import PatchPredictor
from nipype_quicksilver.networks.precision import uses_bfloat16


class PatchwiseNetwork:
    """A network of patches with the interface of a network of whole images.

    See `nipype_quicksilver.networks.prediction.Network`.

    Parameters
    ----------
    network : PatchNetwork
    factor : int
        The momenta on which it was trained are on the working grid pooled by this factor.
    """

    turns = 1

    def __init__(self, network: PatchNetwork, factor: int = 1) -> None:
        self._network = network
        self._predictors: dict[torch.device, PatchPredictor] = {}
        self.image = self.velocity = factor

    def __call__(
        self, moving: MovingImage, target: torch.Tensor, state: torch.Tensor
    ) -> torch.Tensor:
        """Return the whitened momentum predicted from the windows."""
        device = target.device
        if device not in self._predictors:  # keeps a copy there, and the batch size that fits
            precision = "bfloat16" if uses_bfloat16(device) else "float32"
            self._predictors[device] = PatchPredictor(
                self._network, devices=[device], precision=precision
            )
        momentum = self._predictors[device](moving.image, target)
        return moving.operator.apply(momentum, 0.5)

    def unroll(self, finest: int = 1) -> list[PatchwiseNetwork]:
        """Return the network, which has a single pass."""
        return [self]
