"""The loss that a stage of the optimisation minimises, see `nipype_quicksilver.lddmm.optimize`."""

import math
from dataclasses import dataclass

import torch

from nipype_quicksilver.lddmm.fields import Spacing, sample, spacing_tuple
from nipype_quicksilver.lddmm.grids import bounding_box, pool, upsample_within
from nipype_quicksilver.lddmm.jacobians import jacobian_shortfall
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel, Settings, Stage
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import measure

# The barrier starts at this Jacobian, since a ventricle may be ten times as large in one brain as
# in the other. With its weight, per cubic millimetre, a fold costs more than the best possible
# match of the same volume could gain.
MARGIN = 0.1
BARRIER = 5.0

# The box in which images are compared ends at multiples of this number of voxels, which threads can
# divide among them. Its margin is as far as a measure reaches beyond a voxel.
BOX_MULTIPLE = 8
BOX_MARGIN = 2


@dataclass(frozen=True)
class Terms:
    """The loss at a state, and its terms.

    Attributes
    ----------
    loss : torch.Tensor
        With its gradient.
    energy : torch.Tensor
        Of the momentum, not weighted.
    similarity : torch.Tensor
        Sum over the grid of the weighted dissimilarity.
    smallest_jacobian : torch.Tensor
        At the corners of all cells of the velocity grid.
    """

    loss: torch.Tensor
    energy: torch.Tensor
    similarity: torch.Tensor
    smallest_jacobian: torch.Tensor


def pooled_operator(
    kernel: Kernel, image: torch.Tensor, factor: int, spacing: Spacing
) -> KernelOperator:
    """Return the kernel on an image's grid pooled by a factor.

    Parameters
    ----------
    kernel : Kernel
    image : torch.Tensor
        (B, C, X, Y, Z).
    factor : int
    spacing : float or sequence of float
        Of the image, in millimetres.
    """
    shape = tuple(n // factor for n in image.shape[2:])
    coarse = tuple(h * factor for h in spacing_tuple(spacing))
    return KernelOperator(kernel, shape, coarse, image.dtype, image.device)


class Objective:
    """The loss of one stage, as a function of the whitened momentum.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (1, 1, X, Y, Z), on the working grid.
    weight : torch.Tensor
        (1, 1, X, Y, Z), of the fixed image.
    moving_weight : torch.Tensor or None
        (1, 1, X, Y, Z), of the moving image.
    stage : Stage
    settings : Settings
    spacing : float or sequence of float
        Of the working grid, in millimetres.
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        weight: torch.Tensor,
        moving_weight: torch.Tensor | None,
        stage: Stage,
        settings: Settings,
        spacing: Spacing,
    ) -> None:
        self.settings = settings
        self.stage = stage
        self.image_spacing = tuple(h * stage.image for h in spacing_tuple(spacing))
        self.operator = pooled_operator(settings.kernel, fixed, stage.velocity, spacing)
        self.moving = pool(moving, stage.image)
        self.moving_weight = None if moving_weight is None else pool(moving_weight, stage.image)
        whole = pool(weight, stage.image) * math.prod(self.image_spacing)
        # The box around a brain contains two thirds of the grid.
        self.box = bounding_box(whole, BOX_MULTIPLE, margin=BOX_MARGIN)
        self.weight = whole[self.box]
        self.measure = measure(settings.similarity, pool(fixed, stage.image)[self.box])

    def identity(self) -> torch.Tensor:
        """Return the state of the identity map."""
        operator = self.operator
        return torch.zeros((1, 3, *operator.shape), dtype=operator.dtype, device=operator.device)

    def displacement(self, state: torch.Tensor) -> torch.Tensor:
        """Return the displacement of ``phi^-1`` on the velocity grid."""
        spectrum = self.operator.to_spectrum(state)
        momentum = self.operator.from_spectrum(spectrum, -0.5)
        velocity = self.operator.from_spectrum(spectrum, 0.5)
        steps = self.settings.steps
        return shoot(momentum, self.operator, steps=steps, velocity=velocity).inverse

    def evaluate(self, state: torch.Tensor) -> Terms:
        """Return the loss at a whitened momentum (1, 3, x, y, z) on the velocity grid."""
        displacement = self.displacement(state)
        ratio = self.stage.velocity // self.stage.image
        fine = upsample_within(displacement, ratio, self.box)
        weight = self.weight
        if self.moving_weight is not None:
            # Without gradient: moving the weight away must not reduce the loss.
            warped_weight = sample(
                self.moving_weight, fine.detach(), self.image_spacing, box=self.box
            )
            weight = weight * warped_weight
        warped = sample(self.moving, fine, self.image_spacing, box=self.box)
        energy = self.operator.inner(state, state).sum()
        similarity = self.measure(warped, weight).sum()
        shortfall, smallest = jacobian_shortfall(displacement, self.operator.spacing, MARGIN)
        barrier = BARRIER * shortfall * self.operator.cell_volume
        loss = self.settings.regularization * energy + similarity + barrier
        return Terms(loss, energy, similarity, smallest)
