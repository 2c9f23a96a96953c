"""Gradient descent with bounded steps."""

import torch

from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Settings
from nipype_quicksilver.lddmm.similarity import box_max, box_mean

# Adam: decay of its two averages, the last learning rate as a fraction of the first, and the
# gradient per cubic millimetre that counts as noise.
BETAS = (0.9, 0.99)
FINAL_RATE = 0.1
NOISE = 1e-2

# Radius in voxels around a voxel whose velocity would change too much in which the step is reduced,
# and the factor by which the bound may still be exceeded, since smoothing spreads the change.
REACH = 2
OVERSHOOT = 1.5


class Descent:
    """Adam with bounded steps; it continues through all stages on one velocity grid.

    Parameters
    ----------
    state : torch.Tensor
        Whitened momentum, (1, 3, x, y, z).
    operator : KernelOperator
        On its grid.
    velocity : int
        Factor of that grid, as in `Stage`.
    settings : Settings

    Attributes
    ----------
    trust : float
        Factor of the step, 0 to 1; it is reduced after a step that was rejected, and recovers.
    """

    def __init__(
        self, state: torch.Tensor, operator: KernelOperator, velocity: int, settings: Settings
    ) -> None:
        self.operator = operator
        self.floor = NOISE * operator.cell_volume
        self.rate = settings.learning_rate
        self.limit = settings.largest_step * min(operator.spacing)
        on_grid = [s.iterations for s in settings.stages if s.velocity == velocity]
        self.decay = FINAL_RATE ** (1 / max(1, sum(on_grid) - 1))
        self.first, self.second = torch.zeros_like(state), torch.zeros_like(state)
        self.count = 0
        self.trust = 1.0

    def step(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the step to subtract from the state, given the gradient there."""
        self.count += 1
        self.trust = min(1.0, 1.5 * self.trust)
        self.first = torch.lerp(gradient, self.first, BETAS[0])
        self.second = torch.lerp(gradient.square(), self.second, BETAS[1])
        scale = (self.second / (1 - BETAS[1] ** self.count)).sqrt() + self.floor
        rate = self.trust * self.rate * self.decay ** (self.count - 1)
        step = rate * self.first / (1 - BETAS[0] ** self.count) / scale
        return bounded_step(step, self.operator, self.trust * self.limit)


def bounded_step(step: torch.Tensor, operator: KernelOperator, limit: float) -> torch.Tensor:
    """Return a step that is reduced where it would change the velocity by more than a limit.

    Reducing the step as a whole would let a few voxels slow down all others.

    Parameters
    ----------
    step : torch.Tensor
        Change of the whitened momentum, (1, 3, x, y, z).
    operator : KernelOperator
    limit : float
        In the unit of the spacing; exceeded by a factor of `OVERSHOOT` at most.
    """
    largest = box_max(operator.apply(step, 0.5).abs().amax(dim=1, keepdim=True), REACH)
    step = step * (1 - box_mean(1 - limit / largest.clamp_min(limit), REACH))
    remaining = operator.apply(step, 0.5).abs().max()
    limit = OVERSHOOT * limit
    return step * (limit / remaining.clamp_min(limit))
