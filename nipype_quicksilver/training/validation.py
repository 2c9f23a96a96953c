"""Validation of a network that is trained end to end, on brains that it was not trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nipype_quicksilver.networks.prediction import Images, run_networks, unroll_networks
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.training.end_to_end import (
    EndToEndRecipe,
    fractions_on,
    scan_on,
    training_loss,
)
from nipype_quicksilver.training.synthesis import (
    Ranges,
    TrainingPair,
    TrainingScan,
    pair_scans,
    synthesize_pair,
)
from nipype_quicksilver.training.tissues import TissueTable


@dataclass(frozen=True)
class ValidationPairs:
    """Pairs of brains for validation, each brain with the next one; they are always the same.

    Attributes
    ----------
    brains : sequence of torch.Tensor
        Fractions of classes, as `EndToEndTrainer` has them.
    scans : sequence of TrainingScan
        Real images.
    table : TissueTable
    ranges : Ranges
        How much the images vary.
    largest : int
        Largest number of pairs, of brains and of scans each.
    """

    brains: Sequence[torch.Tensor]
    scans: Sequence[TrainingScan]
    table: TissueTable
    ranges: Ranges
    largest: int

    def __len__(self) -> int:
        return len(self._list())

    def _list(self) -> list[tuple[bool, int, int]]:
        """Return for each pair whether it is of real images, and the indices of its members."""
        return [
            (real, k, (k + 1) % len(members))
            for real, members in ((False, self.brains), (True, self.scans))
            if len(members) > 1
            for k in range(min(self.largest, len(members)))
        ]

    def pair(self, index: int, spacing: float, device: torch.device) -> TrainingPair:
        """Return a pair: the same at every call.

        Parameters
        ----------
        index : int
        spacing : float
            Voxel size of the training grid, in millimetres.
        device : torch.device
            Device of the result.
        """
        real, first, second = self._list()[index]
        generator = torch.Generator().manual_seed(index)
        if real:
            fixed, moving = (scan_on(self.scans[k], device) for k in (first, second))
            return pair_scans(fixed, moving, self.ranges, spacing, generator)
        brains = [fractions_on(self.brains[k], device) for k in (first, second)]
        return synthesize_pair(brains[0], brains[1], self.table, self.ranges, spacing, generator)


@torch.no_grad()
def validate(
    networks: Sequence[ForceUNet],
    pairs: ValidationPairs,
    recipe: EndToEndRecipe,
    *,
    identity: bool = False,
    rank: int = 0,
    ranks: int = 1,
) -> list[dict[str, float]]:
    """Return the numbers of the training's loss for each pair.

    Parameters
    ----------
    networks : sequence of ForceUNet
        In the order in which they are applied.
    pairs : ValidationPairs
    recipe : EndToEndRecipe
    identity : bool
        Measure no deformation instead of the prediction.
    rank, ranks : int
        Index of this process, and the number of processes, each of which measures other pairs.

    Returns
    -------
    list of dict
        ``loss``, ``dissimilarity``, ``energy``, ``overlap`` (mean Dice; NaN without labels),
        ``smallest_jacobian`` of each pair of this process.
    """
    device = next(networks[-1].parameters()).device
    rows = []
    for index in range(rank, len(pairs), ranks):
        torch.manual_seed(index)  # dropout
        pair = pairs.pair(index, float(recipe.factor), device)
        images = Images(pair.fixed, pair.moving, pair.weight, factor=recipe.factor)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.low_precision):
            result = run_networks(
                unroll_networks(networks, recipe.factor), images, recipe.kernel, recipe.steps
            )
        assert result is not None
        state, operator = result
        if identity:
            state = torch.zeros_like(state)
        generator = torch.Generator().manual_seed(index)
        _, numbers = training_loss(
            pair, images, state, operator, networks[-1], recipe, pairs.table, generator
        )
        rows.append(numbers)
    return rows


def mean_over_pairs(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the pairs that have it, and the smallest Jacobian."""
    result = {}
    for name in rows[0]:
        values = [row[name] for row in rows if not math.isnan(row[name])]
        if not values:
            result[name] = math.nan
        elif name == "smallest_jacobian":
            result[name] = min(values)
        else:
            result[name] = math.fsum(values) / len(values)
    return result
