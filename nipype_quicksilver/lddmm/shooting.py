"""Geodesic shooting: from an initial momentum to the map, its inverse and the path between.

The momentum is carried along by coadjoint transport, ``m(t) = det(Dh) Dh^T (m0 o h)`` with
``h = phi(t)^-1``, and the maps follow ``d phi / dt = v o phi``, ``v = K m`` (EPDiff; Vialard et
al. 2012, Singh et al. 2013). Both maps advance by semi-Lagrangian steps that trace the flow with
the midpoint rule, which stays stable at time steps where Eulerian advection blows up.
"""

from dataclasses import dataclass, field

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, determinant, jacobian, sample
from nipype_quicksilver.lddmm.kernel import KernelOperator


@dataclass
class Geodesic:
    """The end of a shoot.

    Attributes
    ----------
    inverse : torch.Tensor
        Displacement of ``phi^-1`` (fixed to moving points), (B, 3, X, Y, Z): warps the moving
        image.
    forward : torch.Tensor or None
        Displacement of ``phi`` (moving to fixed points), if it was asked for.
    momentum : torch.Tensor or None
        The momentum at the end, from which the geodesic can be shot on; with the energies only.
    energies : list of torch.Tensor
        ``<m, K m>`` at the start of every step and at the end, (B,) each, if they were asked for;
        constant along an exact geodesic.
    """

    inverse: torch.Tensor
    forward: torch.Tensor | None = None
    momentum: torch.Tensor | None = None
    energies: list[torch.Tensor] = field(default_factory=list)

    def path_energy(self) -> torch.Tensor:
        """Return the mean of the energies over the path, (B,), by the trapezoidal rule."""
        return torch.trapezoid(torch.stack(self.energies), dim=0) / (len(self.energies) - 1)


def coadjoint(momentum: torch.Tensor, inverse: torch.Tensor, spacing: Spacing) -> torch.Tensor:
    """Return ``det(Dh) Dh^T (m o h)`` for the map ``h = id + inverse``: the transported momentum.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m``, (B, 3, X, Y, Z).
    inverse : torch.Tensor
        Displacement of ``h``, (B, 3, X, Y, Z).
    spacing : float or sequence of float
    """
    matrix = jacobian(inverse, spacing)
    carried = sample(momentum, inverse, spacing)
    rows, (x, y, z) = matrix.unbind(1), carried[:, :, None].unbind(1)
    return determinant(matrix) * (rows[0] * x + rows[1] * y + rows[2] * z)


def shoot(
    momentum: torch.Tensor,
    operator: KernelOperator,
    *,
    steps: int = 5,
    duration: float = 1.0,
    velocity: torch.Tensor | None = None,
    both: bool = False,
    energies: bool = False,
) -> Geodesic:
    """Shoot a geodesic from an initial momentum.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m0``, (B, 3, X, Y, Z).
    operator : KernelOperator
        ``K`` on the momentum's grid.
    steps : int
        Time steps.
    duration : float
        End time; the registration's maps are those at time 1.
    velocity : torch.Tensor, optional
        ``K m0`` where the caller has it already.
    both : bool
        Also follow ``phi`` itself.
    energies : bool
        Also follow the energies, and with them the momentum to the end.

    Returns
    -------
    Geodesic
    """
    spacing = operator.spacing
    dt = duration / steps
    initial = operator.smooth(momentum) if velocity is None else velocity
    now = initial
    inverse: torch.Tensor | None = None  # the identity
    forward: torch.Tensor | None = None
    carried = None
    followed = [operator.inner(momentum, initial)]
    previous = None
    for step in range(steps):
        if previous is None:
            half = _inverse_step(inverse, now, dt / 2, spacing)
            middle = operator.smooth(coadjoint(momentum, half, spacing))
        else:
            middle = 1.5 * now - 0.5 * previous
        inverse = _inverse_step(inverse, middle, dt, spacing)
        if both:
            onward = _trace(middle, dt, spacing)
            forward = onward if forward is None else compose(onward, forward, spacing)
        if step < steps - 1 or energies:
            carried = coadjoint(momentum, inverse, spacing)
            previous, now = now, operator.smooth(carried)
            followed.append(operator.inner(carried, now))
    assert inverse is not None
    end = (carried, followed) if energies else (None, [])
    return Geodesic(inverse, forward, *end)


def _trace(velocity: torch.Tensor, time: float, spacing: Spacing) -> torch.Tensor:
    """Return the displacement along a frozen velocity over a (signed) time, midpoint rule."""
    return time * sample(velocity, 0.5 * time * velocity, spacing)


def _inverse_step(
    inverse: torch.Tensor | None, velocity: torch.Tensor, dt: float, spacing: Spacing
) -> torch.Tensor:
    """Advance ``phi^-1`` by one step: where the point at the end came from, then on back."""
    back = _trace(velocity, -dt, spacing)
    return back if inverse is None else compose(inverse, back, spacing)
