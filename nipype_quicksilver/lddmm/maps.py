"""The two maps of a registration, ready to be stored: zero at the border, inverse to each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nipype_quicksilver.lddmm.fields import invert, upsample
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.shooting import Geodesic

# Width of the rim over which the displacement falls to zero, in the unit of the spacing (mm).
# A transform file means "no displacement" outside its grid, so a jump there would be a tear.
RIM = 10.0

# Newton's iterations at most from the shot map, which is a fraction of a voxel away, and the part
# of a voxel below which none is needed: linear interpolation between voxels is not as accurate.
ITERATIONS = 5
TOLERANCE = 0.01


@dataclass(frozen=True)
class Maps:
    """The diffeomorphism of a momentum and its inverse.

    Attributes
    ----------
    inverse : torch.Tensor
        Displacement of ``phi^-1``: fixed to moving points, (B, 3, X, Y, Z), in the unit of the
        spacing, to be interpolated linearly between voxels.
    forward : torch.Tensor
        Displacement of ``phi``: moving to fixed points.
    energies : list of float
        ``<m, K m>`` along the path, mean over the batch.
    """

    inverse: torch.Tensor
    forward: torch.Tensor
    energies: list[float]


@torch.no_grad()
def registration_maps(geodesic: Geodesic, operator: KernelOperator, *, factor: int = 1) -> Maps:
    """Make the maps at the end of a geodesic fit for a file.

    Between the voxels of the momentum's grid the displacement of ``phi^-1`` is trilinear, as the
    optimiser saw it. It falls smoothly to zero over the grid's outer rim. ``phi``, which comes
    from the same shoot, is brought from the accuracy of the time steps to that of the finer grid
    by Newton's method.

    Parameters
    ----------
    geodesic : Geodesic
        With both maps and the energies.
    operator : KernelOperator
        Of its grid.
    factor : int
        The maps are given on the cell-centred grid so many times finer than the momentum's.

    Returns
    -------
    Maps
    """
    assert geodesic.forward is not None
    spacing = tuple(h / factor for h in operator.spacing)
    inverse, forward = (
        on_working_grid(field, operator, factor) for field in (geodesic.inverse, geodesic.forward)
    )
    tolerance = TOLERANCE * min(spacing)
    forward = invert(inverse, forward, spacing, iterations=ITERATIONS, tolerance=tolerance)
    return Maps(inverse, forward, [float(energy.mean()) for energy in geodesic.energies])


def on_working_grid(
    displacement: torch.Tensor, operator: KernelOperator, factor: int
) -> torch.Tensor:
    """Return a displacement as files hold it: trilinear on the finer grid, zero at its border.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, x, y, z), on the momentum's grid.
    operator : KernelOperator
        Of that grid.
    factor : int
        From the finer grid to that one.
    """
    shape = [n * factor for n in operator.shape]
    spacing = tuple(h / factor for h in operator.spacing)
    return upsample(displacement, factor) * taper(shape, spacing, displacement)


def taper(shape: Sequence[int], spacing: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """Return a window (X, Y, Z): 0 on the border, 1 from `RIM` inwards, a raised cosine between."""
    window = torch.ones(shape, dtype=like.dtype, device=like.device)
    for axis, (size, h) in enumerate(zip(shape, spacing, strict=True)):
        index = torch.arange(size, dtype=like.dtype, device=like.device)
        depth = torch.minimum(index, size - 1 - index) * h
        ramp = 0.5 - 0.5 * torch.cos(torch.pi * (depth / RIM).clamp(max=1))
        window = window * ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return window
