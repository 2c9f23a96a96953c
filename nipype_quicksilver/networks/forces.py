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


def matching_force(
    moving: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, spacing: Sequence[float]
) -> torch.Tensor:
    """Return the force per volume that makes the moving image more like the target.

    The dissimilarity is one minus the squared local correlation, which no locally linear change
    of intensity alters: neither force nor network depend on the scale of the intensities.

    Parameters
    ----------
    moving, target : torch.Tensor
        (B, 1, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z): where the images are compared.
    spacing : sequence of float
        In millimetres.

    Returns
    -------
    torch.Tensor
        (B, 3, X, Y, Z): descent direction of the dissimilarity with respect to a velocity that
        carries the moving image along, ``M o (id - v)``.
    """
    # There is no slope where there is no weight.
    box = bounding_box(weight)
    slope = LocalCorrelation(target[box]).slope(moving[box], weight[box])
    return placed(slope, box, shape_of(moving)) * gradient(moving, spacing)[:, 0]


def force_pyramid(
    moving: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    operator: KernelOperator,
    *,
    finest: int,
    scales: Sequence[int],
) -> torch.Tensor:
    """Return the forces at several scales, as changes of the whitened momentum.

    Parameters
    ----------
    moving, target, weight : torch.Tensor
        (B, 1, X, Y, Z), on the image grid.
    operator : KernelOperator
        On the velocity grid.
    finest : int
        Factor from the image grid to the velocity grid.
    scales : sequence of int
        Factors from the image grid to the grids on which forces are computed; each is a multiple
        or a divisor of `finest`.

    Returns
    -------
    torch.Tensor
        (B, 3 * len(scales), x, y, z), on the velocity grid: ``K^(1/2) f`` of each scale, the
        gradient with respect to the whitened momentum; about 1 in size, on every grid, between
        images that are aligned affinely only.
    """
    spacing = [h / finest for h in operator.spacing]
    forces = []
    for scale in scales:
        source, aim, where = (pool(image, scale) for image in (moving, target, weight))
        force = matching_force(source, aim, where, [h * scale for h in spacing])
        force = upsample(force, scale // finest) if scale > finest else pool(force, finest // scale)
        forces.append(operator.apply(force, 0.5))
    return TYPICAL * torch.cat(forces, dim=1)


def descent_directions(forces: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return the descent of dissimilarity and energy along several forces, of about the same size.

    Parameters
    ----------
    forces : torch.Tensor
        (B, 3 S, x, y, z), see :func:`force_pyramid`.
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
