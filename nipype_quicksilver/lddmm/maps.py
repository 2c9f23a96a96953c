"""The two maps of a registration, ready to be stored: zero at the border, inverse to each other."""

from dataclasses import dataclass

import torch

from nipype_quicksilver.lddmm.fields import invert
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.shooting import shoot

# Width of the rim over which the displacement falls to zero, in the unit of the spacing (mm).
# A transform file means "no displacement" outside its grid, so a jump there would be a tear.
RIM = 10.0


@dataclass(frozen=True)
class Maps:
    """The diffeomorphism of a momentum and its inverse.

    Attributes
    ----------
    inverse : torch.Tensor
        Displacement of ``phi^-1``: fixed to moving points, (B, 3, X, Y, Z), millimetres on the
        momentum's grid, to be interpolated linearly between its voxels.
    forward : torch.Tensor
        Displacement of ``phi``: moving to fixed points.
    energies : list of float
        ``<m, K m>`` along the path, mean over the batch.
    """

    inverse: torch.Tensor
    forward: torch.Tensor
    energies: list[float]


@torch.no_grad()
def registration_maps(momentum: torch.Tensor, operator: KernelOperator, *, steps: int) -> Maps:
    """Shoot a momentum and make both maps fit for a file.

    The displacements fall smoothly to zero over the grid's outer rim, and ``phi``, which comes
    from the same shoot, is brought from the accuracy of the time steps to that of the grid by
    Newton's method.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m0``, (B, 3, X, Y, Z).
    operator : KernelOperator
    steps : int

    Returns
    -------
    Maps
    """
    geodesic = shoot(momentum, operator, steps=steps, both=True)
    taper = _taper(operator, momentum)
    inverse = geodesic.inverse * taper
    assert geodesic.forward is not None
    forward = invert(inverse, geodesic.forward * taper, operator.spacing)
    return Maps(inverse, forward, [float(energy.mean()) for energy in geodesic.energies])


def _taper(operator: KernelOperator, like: torch.Tensor) -> torch.Tensor:
    """Return a window (X, Y, Z): 0 on the border, 1 from `RIM` inwards, a raised cosine between."""
    window = torch.ones(operator.shape, dtype=like.dtype, device=like.device)
    for axis, (size, spacing) in enumerate(zip(operator.shape, operator.spacing, strict=True)):
        index = torch.arange(size, dtype=like.dtype, device=like.device)
        depth = torch.minimum(index, size - 1 - index) * spacing
        ramp = 0.5 - 0.5 * torch.cos(torch.pi * (depth / RIM).clamp(max=1))
        window = window * ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return window
