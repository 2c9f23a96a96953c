"""What pulls one image onto another: the force of a similarity, seen at several scales.

The first step of a descent from no deformation goes along ``K f`` with the force
``f = (d similarity / d M) grad M``. A network that is given the force need not learn what makes
two images alike, only how far to go along it and where not to trust it.
"""

from collections.abc import Sequence

import torch

from nipype_quicksilver.lddmm.fields import bounding_box, placed, pool, shape_of, upsample
from nipype_quicksilver.lddmm.jacobians import gradient
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.similarity import LocalCorrelation, box_mean

# Brings the whitened forces between affinely aligned brains to a standard deviation of about 1.
TYPICAL = 0.5

# Weight of the kinetic energy beside the dissimilarity, between those of training and optimiser.
REGULARIZATION = 2.0

# Forces are brought to one size over cubes of ``2 RADIUS + 1`` voxels of the velocity grid, but for
# those that are not much larger than FLOOR: these are noise.
RADIUS = 1
FLOOR = 0.01


class MatchingForce:
    """The force per volume that makes a moving image more like a target.

    The dissimilarity is one minus the squared local correlation, which no locally linear change
    of intensity alters: neither force nor network depend on the scale of the intensities. What
    depends on the moving image and the weight alone is computed once for all targets.

    Parameters
    ----------
    moving : torch.Tensor
        (B, 1, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z): where the images are compared.
    spacing : sequence of float
        In millimetres.
    block : int
        The force is averaged over blocks of so many voxels an axis.
    """

    def __init__(
        self,
        moving: torch.Tensor,
        weight: torch.Tensor,
        spacing: Sequence[float],
        block: int = 1,
    ) -> None:
        # There is no slope where there is no weight.
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
            that carries the moving image along, ``M o (id - v)``.
        """
        slope = self._measure.slope_of_fixed(target[self._box], self._weight)
        force = pool(slope * self._gradient, self._block)
        box = tuple(
            slice(part.start // self._block, part.stop // self._block) for part in self._box[2:]
        )
        shape = [n // self._block for n in shape_of(target)]
        return placed(force, (*self._box[:2], *box), shape)


class Moving:
    """The moving image of a pass, which targets are compared with.

    Parameters
    ----------
    image : torch.Tensor
        (B, 1, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z): where it is compared.
    operator : KernelOperator
        On the velocity grid, which is the image's or coarser.

    Attributes
    ----------
    ratio : int
        Voxels of the image in one of the velocity grid, an axis.
    """

    def __init__(self, image: torch.Tensor, weight: torch.Tensor, operator: KernelOperator) -> None:
        self.image, self.weight, self.operator = image, weight, operator
        self.ratio = image.shape[2] // operator.shape[0]
        self._forces: dict[int, MatchingForce] = {}

    @torch.no_grad()
    def forces(self, target: torch.Tensor, scales: Sequence[int]) -> torch.Tensor:
        """Return the forces towards a target, as changes of the whitened momentum.

        Parameters
        ----------
        target : torch.Tensor
            (B, 1, X, Y, Z), on the grid of the image.
        scales : sequence of int
            Factors from the image's grid to the grids on which forces are computed; each is a
            multiple or a divisor of `ratio`.

        Returns
        -------
        torch.Tensor
            (B, 3 * len(scales), x, y, z), on the velocity grid: ``K^(1/2) f`` of each scale, the
            gradient with respect to the whitened momentum; about 1 in size, on every grid,
            between images that are aligned affinely only.
        """
        forces = []
        for scale in scales:
            force = self._force(scale)(pool(target, scale))
            if scale > self.ratio:
                force = upsample(force, scale // self.ratio)
            forces.append(self.operator.apply(force, 0.5))
        return TYPICAL * torch.cat(forces, dim=1)

    def _force(self, scale: int) -> MatchingForce:
        if scale not in self._forces:
            spacing = [h * scale / self.ratio for h in self.operator.spacing]
            image, weight = (pool(each, scale) for each in (self.image, self.weight))
            block = max(1, self.ratio // scale)
            self._forces[scale] = MatchingForce(image, weight, spacing, block)
        return self._forces[scale]


def descent_directions(forces: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return the descent of dissimilarity and energy along several forces, of about the same size.

    Parameters
    ----------
    forces : torch.Tensor
        (B, 3 S, x, y, z), see :meth:`Moving.forces`.
    state : torch.Tensor
        (B, 3, x, y, z): the whitened momentum that the descent starts from.

    Returns
    -------
    torch.Tensor
        (B, 3 S, x, y, z): each direction over its root mean square around every voxel.
    """
    energy = 2 * REGULARIZATION * TYPICAL * state
    descents = forces.unflatten(1, (-1, 3)) - energy[:, None]
    size = box_mean(descents.square().mean(dim=2), RADIUS).clamp_min(0).sqrt()
    return (descents / (size + FLOOR)[:, :, None]).flatten(1, 2)
