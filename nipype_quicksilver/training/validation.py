"""How good a network is on brains that its training did not see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nipype_quicksilver.networks.prediction import Images, repeated, run_networks
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.training.end_to_end import Recipe, scan_on, shares_on, training_loss
from nipype_quicksilver.training.synthesis import (
    Pair,
    Ranges,
    Scan,
    Tissues,
    pair_scans,
    synthesize_pair,
)


@dataclass(frozen=True)
class Judges:
    """Brains that a network is judged on; each is registered to the next one.

    Attributes
    ----------
    brains : sequence of torch.Tensor
        As `Training` has them.
    scans : sequence of Scan
    tissues : Tissues
    ranges : Ranges
        How much the images vary; they are the same at every validation.
    pairs : int
        Of brains, and of scans, at most.
    """

    brains: Sequence[torch.Tensor]
    scans: Sequence[Scan]
    tissues: Tissues
    ranges: Ranges
    pairs: int

    def __len__(self) -> int:
        return len(self._list())

    def _list(self) -> list[tuple[bool, int, int]]:
        """Return whether a pair is of scans, and its two numbers."""
        return [
            (real, k, (k + 1) % len(those))
            for real, those in ((False, self.brains), (True, self.scans))
            if len(those) > 1
            for k in range(min(self.pairs, len(those)))
        ]

    def pair(self, number: int, spacing: float, device: torch.device) -> Pair:
        """Return a pair, the same one whenever it is asked for."""
        real, first, second = self._list()[number]
        generator = torch.Generator().manual_seed(number)
        if real:
            fixed, moving = (scan_on(self.scans[k], device) for k in (first, second))
            return pair_scans(fixed, moving, self.ranges, spacing, generator)
        brains = [shares_on(self.brains[k], device) for k in (first, second)]
        return synthesize_pair(brains[0], brains[1], self.tissues, self.ranges, spacing, generator)


@torch.no_grad()
def validate(
    networks: Sequence[ForceUNet],
    judges: Judges,
    recipe: Recipe,
    *,
    identity: bool = False,
    rank: int = 0,
    ranks: int = 1,
) -> list[dict[str, float]]:
    """Return what the networks reach on each pair, as the training's loss sees it.

    Parameters
    ----------
    networks : sequence of ForceUNet
        In the order in which they are applied.
    judges : Judges
    recipe : Recipe
    identity : bool
        Judge no deformation at all instead.
    rank, ranks : int
        Every process looks at pairs of its own.

    Returns
    -------
    list of dict
        ``loss``, ``dissimilarity``, ``energy``, ``overlap`` (mean Dice; NaN without labels),
        ``smallest_jacobian`` of each pair of this process.
    """
    device = next(networks[-1].parameters()).device
    seen = []
    for number in range(rank, len(judges), ranks):
        torch.manual_seed(number)  # of dropout
        pair = judges.pair(number, float(recipe.factor), device)
        images = Images(pair.fixed, pair.moving, pair.weight, factor=recipe.factor)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.low_precision):
            result = run_networks(
                repeated(networks, recipe.factor), images, recipe.kernel, recipe.steps
            )
        assert result is not None
        state, operator = result
        if identity:
            state = torch.zeros_like(state)
        generator = torch.Generator().manual_seed(number)
        _, losses = training_loss(
            pair, images, state, operator, networks[-1], recipe, judges.tissues, generator
        )
        seen.append(losses)
    return seen


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the pairs that have it; the smallest Jacobian of all."""
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
