"""The force of a similarity measure between two images, at several scales.

The first step of a gradient descent from the identity is along ``K f`` with the force
``f = (d similarity / d M) grad M``. A network that gets the force as input need not learn image
similarity, only the length of the step along the force and where the force is not reliable.
"""

from collections.abc import Sequence

import torch

from nipype_quicksilver.lddmm.fields import shape_of
from nipype_quicksilver.lddmm.grids import bounding_box, embed, pool, upsample
from nipype_quicksilver.lddmm.jacobians import gradient
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.similarity import LocalCorrelation, box_mean

# Scales the whitened forces between affinely aligned brains to a standard deviation of about 1.
FORCE_SCALE = 0.5

# Weight of the energy relative to the dissimilarity, between those of training and optimiser.
REGULARIZATION = 2.0

# Forces are normalised by their size in cubes of ``2 RADIUS + 1`` voxels of the velocity grid,
# except those not much larger than FLOOR, which are noise.
RADIUS = 1
FLOOR = 0.01


class MatchingForce:
    """The force per volume that increases the similarity of a moving image to a target.

    The dissimilarity is one minus the squared local correlation, which is invariant to locally
    linear changes of intensity: neither force nor network depend on the scale of the intensities.
    Quantities that depend on the moving image and the weight alone are computed once for all
    targets.

    Parameters
    ----------
    moving : torch.Tensor
        (B, 1, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z): weight of each voxel in the comparison.
    spacing : sequence of float
        In millimetres.
    block : int
        The force is averaged over blocks of this number of voxels per axis.
    """

    def __init__(
        self,
        moving: torch.Tensor,
        weight: torch.Tensor,
        spacing: Sequence[float],
        block: int = 1,
    ) -> None:
        # The force is zero where the weight is.
        self._box = bounding_box(weight, block)
        self._measure = LocalCorrelation(moving[self._box])
        self._weight = weight[self._box]
        self._gradient = gradient(moving, spacing)[:, 0][self._box].contiguous()
        self._block = block

    def __call__(self, target: torch.Tensor) -> torch.Tensor:
        """Return the force.

        Parameters
        ----------
        target : torch.Tensor
            (B, 1, X, Y, Z).

        Returns
        -------
        torch.Tensor
            (B, 3, x, y, z): descent direction of the dissimilarity with respect to a velocity
            that transports the moving image, ``M o (id - v)``.
        """
        derivative = self._measure.gradient_wrt_fixed(target[self._box], self._weight)
        force = pool(derivative * self._gradient, self._block)
        box = tuple(
            slice(part.start // self._block, part.stop // self._block) for part in self._box[2:]
        )
        shape = [n // self._block for n in shape_of(target)]
        return embed(force, (*self._box[:2], *box), shape)


class MovingImage:
    """The moving image of a pass, to which targets are compared.

    Parameters
    ----------
    image : torch.Tensor
        (B, 1, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z): weight of each voxel in the comparison.
    operator : KernelOperator
        On the velocity grid, which is that of the image or coarser.

    Attributes
    ----------
    ratio : int
        Voxels of the image per voxel of the velocity grid, along each axis.
    """

    def __init__(self, image: torch.Tensor, weight: torch.Tensor, operator: KernelOperator) -> None:
        self.image, self.weight, self.operator = image, weight, operator
        self.ratio = image.shape[2] // operator.shape[0]
        self._forces: dict[int, MatchingForce] = {}

    @torch.no_grad()
    def forces(self, target: torch.Tensor, scales: Sequence[int]) -> torch.Tensor:
        """Return the forces towards a target, as steps of the whitened momentum.

        Parameters
        ----------
        target : torch.Tensor
            (B, 1, X, Y, Z), on the grid of the image.
        scales : sequence of int
            Forces are computed on the grid of the image pooled by these factors; each is a
            multiple or a divisor of `ratio`.

        Returns
        -------
        torch.Tensor
            (B, 3 * len(scales), x, y, z), on the velocity grid: ``K^(1/2) f`` of each scale, the
            descent direction with respect to the whitened momentum. Its size is about 1 on every
            grid, between images that are aligned affinely only.
        """
        forces = []
        for scale in scales:
            force = self._force(scale)(pool(target, scale))
            if scale > self.ratio:
                force = upsample(force, scale // self.ratio)
            forces.append(self.operator.apply(force, 0.5))
        return FORCE_SCALE * torch.cat(forces, dim=1)

    def _force(self, scale: int) -> MatchingForce:
        if scale not in self._forces:
            spacing = [h * scale / self.ratio for h in self.operator.spacing]
            image, weight = (pool(each, scale) for each in (self.image, self.weight))
            block = max(1, self.ratio // scale)
            self._forces[scale] = MatchingForce(image, weight, spacing, block)
        return self._forces[scale]


def descent_directions(forces: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return descent directions of dissimilarity and energy for several forces, normalised.

    Parameters
    ----------
    forces : torch.Tensor
        (B, 3 S, x, y, z), see :meth:`MovingImage.forces`.
    state : torch.Tensor
        (B, 3, x, y, z): the whitened momentum at the start of the descent.

    Returns
    -------
    torch.Tensor
        (B, 3 S, x, y, z): each direction divided by its local root mean square.
    """
    energy = 2 * REGULARIZATION * FORCE_SCALE * state
    descents = forces.unflatten(1, (-1, 3)) - energy[:, None]
    size = box_mean(descents.square().mean(dim=2), RADIUS).clamp_min(0).sqrt()
    return (descents / (size + FLOOR)[:, :, None]).flatten(1, 2)
