"""The two maps of a registration as files hold them: zero at the border, mutually inverse."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.inversion import invert
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.shooting import Geodesic

# Width of the rim over which the displacement falls to zero, in the unit of the spacing (mm).
# Outside its grid a transform file implies zero displacement, so the map would jump at the border.
RIM = 10.0

# Newton iterations, at most, from the shot map, which is off by a fraction of a voxel, and the
# residual in voxels below which none is needed: linear interpolation is not as accurate.
ITERATIONS = 5
TOLERANCE = 0.01


@dataclass(frozen=True)
class Maps:
    """The diffeomorphism of a momentum and its inverse.

    Attributes
    ----------
    inverse : torch.Tensor
        Displacement of ``phi^-1``, from fixed to moving points, (B, 3, X, Y, Z), in the unit of
        the spacing, to be interpolated linearly between voxels.
    forward : torch.Tensor
        Displacement of ``phi``, from moving to fixed points.
    energies : list of float
        ``<m, K m>`` along the path, mean over the batch.
    """

    inverse: torch.Tensor
    forward: torch.Tensor
    energies: list[float]


@torch.no_grad()
def registration_maps(geodesic: Geodesic, operator: KernelOperator, *, factor: int = 1) -> Maps:
    """Return the maps at the end of a geodesic as they are written to files.

    The displacement of ``phi^-1`` is interpolated linearly from the momentum's grid, as in the
    optimisation. It falls smoothly to zero over the outer rim of the grid. ``phi``, from the same
    geodesic, is refined by Newton's method from the accuracy of the time steps to that of the finer
    grid.

    Parameters
    ----------
    geodesic : Geodesic
        With both maps and the energies.
    operator : KernelOperator
        On its grid.
    factor : int
        The maps are returned on a cell-centred grid that is finer than the momentum's by this
        factor.

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
    """Return a displacement as files hold it: interpolated on a finer grid, zero at its border.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, x, y, z), on the momentum's grid.
    operator : KernelOperator
        On that grid.
    factor : int
        By how much the returned grid is finer.

    Returns
    -------
    torch.Tensor
        (B, 3, factor x, factor y, factor z).
    """
    shape = [n * factor for n in operator.shape]
    spacing = tuple(h / factor for h in operator.spacing)
    return upsample(displacement, factor) * taper(shape, spacing, displacement)


def taper(shape: Sequence[int], spacing: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """Return a window (X, Y, Z): 0 at the border, 1 from `RIM` inwards, a raised cosine between."""
    window = torch.ones(shape, dtype=like.dtype, device=like.device)
    for axis, (size, h) in enumerate(zip(shape, spacing, strict=True)):
        index = torch.arange(size, dtype=like.dtype, device=like.device)
        depth = torch.minimum(index, size - 1 - index) * h
        ramp = 0.5 - 0.5 * torch.cos(torch.pi * (depth / RIM).clamp(max=1))
        window = window * ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return window
