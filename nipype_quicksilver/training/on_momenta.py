"""Training as in the 2017 paper: patches of optimised momenta are regressed from patches of images.

The loss is the mean absolute difference of the momentum (L1), the optimiser Adam. Every iteration
draws its patches from a seed of its own, so that a resumed training is bit-identical to an
uninterrupted one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nipype_quicksilver.errors import InputError, is_out_of_memory
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import cut_patches, select_windows
from nipype_quicksilver.training.trainer import Losses, Trainer

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchRecipe:
    """How a network of patches is trained.

    Attributes
    ----------
    iterations : int
        Number of iterations, of one batch each.
    batch_size : int
        Patches in a batch.
    learning_rate : float
        Learning rate of Adam.
    stride : int
        Voxels from one patch to the next along each axis.
    averaging : float
        Decay of the running average of the weights, which is what is kept; 0 keeps the last
        weights.
    seed : int
    """

    iterations: int = 20000
    batch_size: int = 64
    learning_rate: float = 1e-4
    stride: int = 14
    averaging: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class MomentumExample:
    """A pair of images and its momentum, all on the grid of the momentum.

    Attributes
    ----------
    moving, target : torch.Tensor
        (1, 1, X, Y, Z), 0 outside the brain.
    momentum : torch.Tensor
        (1, 3, X, Y, Z), components along the RAS axes, in the units of the engine.
    """

    moving: torch.Tensor
    target: torch.Tensor
    momentum: torch.Tensor


class MomentumTrainer(Trainer[PatchNetwork]):
    """A network of patches that is trained on momenta.

    Parameters
    ----------
    network : PatchNetwork
    examples : sequence of MomentumExample
    recipe : PatchRecipe
    rank, ranks : int
        Index of this process, and the number of processes that train the network together, each
        on patches of its own.
    """

    def __init__(
        self,
        network: PatchNetwork,
        examples: Sequence[MomentumExample],
        recipe: PatchRecipe,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(network, recipe, rank, ranks)
        self.recipe = recipe
        self.runner: nn.Module = network
        self.side = network.patch_size
        self.examples = [_channels(example) for example in examples]
        self.windows = [
            (index, window)
            for index, channels in enumerate(self.examples)
            for window in select_windows(channels[:, :2], self.side, recipe.stride)
        ]
        #: Patches that the device computes at once; fewer after it ran out of memory.
        self.at_once = recipe.batch_size

    def step(self) -> Losses:
        """Do one iteration."""
        seed = self._seed()
        generator = torch.Generator().manual_seed(seed)
        number = min(self.recipe.batch_size, len(self.windows))
        chosen = torch.randint(len(self.windows), (number,), generator=generator).tolist()
        while (loss := self._gradient(chosen, seed)) is None:
            pass  # try again with fewer patches at once
        self._finish_iteration()
        return Losses(self.iteration, loss)

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        """Return the mean absolute error of a network over all patches."""
        torch.manual_seed(self.recipe.seed)  # dropout
        device = next(network.parameters()).device
        total = 0.0
        for first in range(0, len(self.windows), self.at_once):
            patches = self._patches(range(first, min(first + self.at_once, len(self.windows))))
            patches = patches.to(device)
            predicted = network(patches[:, :1], patches[:, 1:2])
            total += float((predicted - patches[:, 2:]).abs().mean()) * len(patches)
        return total / len(self.windows)

    def zero_error(self) -> float:
        """Return the mean absolute momentum: the error of predicting no deformation."""
        total = sum(float(self._patches([k])[:, 2:].abs().mean()) for k in range(len(self.windows)))
        return total / len(self.windows)

    def _gradient(self, chosen: list[int], seed: int) -> float | None:
        """Compute the loss and the gradient of a batch in parts; None if memory ran out."""
        torch.manual_seed(seed)  # dropout
        self.optimizer.zero_grad(set_to_none=True)
        device = next(self.network.parameters()).device
        total = 0.0
        try:
            for first in range(0, len(chosen), self.at_once):
                patches = self._patches(chosen[first : first + self.at_once]).to(device)
                predicted = self.runner(patches[:, :1], patches[:, 1:2])
                fraction = len(patches) / len(chosen)
                loss = fraction * (predicted - patches[:, 2:]).abs().mean()
                loss.backward()
                total += float(loss.detach())
            return total
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self.ranks > 1:
                raise
        if self.at_once == 1:
            raise InputError(
                f"device {device}: its memory does not suffice for one patch; free some, or train "
                "on another device"
            )
        self.at_once = max(1, min(self.at_once, len(chosen)) // 2)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _logger.warning(
            "device %s: its memory does not suffice for the batch; continuing with %d patches at "
            "once, which gives the same gradient",
            device,
            self.at_once,
        )
        return None

    def _patches(self, chosen: Sequence[int]) -> torch.Tensor:
        """Return patches of the moving image, the target and the momentum, (N, 5, P, P, P)."""
        parts = []
        for k in chosen:
            index, window = self.windows[k]
            parts.append(cut_patches(self.examples[index], window[None], self.side))
        return torch.cat(parts)


def _channels(example: MomentumExample) -> torch.Tensor:
    """Return the moving image, the target and the momentum as channels, (1, 5, X, Y, Z)."""
    return torch.cat([example.moving, example.target, example.momentum], dim=1)
