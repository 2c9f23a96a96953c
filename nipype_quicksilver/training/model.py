"""The LDDMM model to which the momenta of a training belong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.spatial.momentum import Momentum


@dataclass(frozen=True)
class LddmmModel:
    """What has to be the same for momenta to be comparable.

    Attributes
    ----------
    kernel : dict
        Operator of the model: alpha, beta, gamma and power.
    steps : int
        Time steps of the shooting.
    velocity_factor : int
        The momentum's grid is the working grid, coarser by this factor.
    spacing : float
        Voxel size of the working grid, in millimetres.
    """

    kernel: dict[str, float]
    steps: int
    velocity_factor: int
    spacing: float

    @classmethod
    def of_momentum(cls, momentum: Momentum) -> LddmmModel:
        """Return the model of a momentum image."""
        return cls(
            kernel=momentum.kernel,
            steps=momentum.steps,
            velocity_factor=momentum.factor,
            spacing=round(momentum.working_grid.spacing[0], 6),
        )

    @classmethod
    def of_card(cls, card: Card) -> LddmmModel:
        """Return the model for which a network was trained."""
        return cls(card.kernel, card.steps, card.velocity_factor, card.spacing)

    def as_json(self) -> dict[str, Any]:
        """Return the model as the description of a data set holds it."""
        return dataclasses.asdict(self)
