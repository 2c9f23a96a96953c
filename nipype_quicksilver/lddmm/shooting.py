"""Geodesic shooting: from an initial momentum to the map, its inverse and the path between.

The momentum is carried along by coadjoint transport, ``m(t) = det(Dh) Dh^T (m0 o h)`` with
``h = phi(t)^-1``, and the maps follow ``d phi / dt = v o phi``, ``v = K m`` (EPDiff; Vialard et
al. 2012, Singh et al. 2013). Both maps advance by semi-Lagrangian steps that trace the flow with
the midpoint rule, which stays stable at time steps where Eulerian advection blows up.

A momentum is rough, ``K^-1`` of something smooth: interpolated at ``h`` between voxels it would
lose much of itself. It only ever acts on smooth fields, ``<m(t), f> = <m0, (Dh f) o phi>``, and
those can be interpolated. So it is carried in this weak form, as a density that ``phi`` moves.
"""

from dataclasses import dataclass, field

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, push, sample
from nipype_quicksilver.lddmm.jacobians import jacobian
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
        The momentum at the end, from which the geodesic can be shot on, if the energies were
        asked for.
    energies : list of torch.Tensor
        ``<m, K m>`` at the start of every step and at the end, (B,) each, if they were asked for;
        constant along an exact geodesic.
    """

    inverse: torch.Tensor
    forward: torch.Tensor | None = None
    momentum: torch.Tensor | None = None
    energies: list[torch.Tensor] = field(default_factory=list)


def transport(
    momentum: torch.Tensor, forward: torch.Tensor, inverse: torch.Tensor, spacing: Spacing
) -> torch.Tensor:
    """Return ``Dh^T phi_# m``: the momentum carried along by ``phi``, in the weak form.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m``, (B, 3, X, Y, Z).
    forward, inverse : torch.Tensor
        Displacements of ``phi`` and of ``h = phi^-1``, (B, 3, X, Y, Z).
    spacing : float or sequence of float
    """
    rows = jacobian(inverse, spacing).unbind(1)
    x, y, z = push(momentum, forward, spacing)[:, :, None].unbind(1)
    return rows[0] * x + rows[1] * y + rows[2] * z


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
        Also follow ``phi`` itself to the end.
    energies : bool
        Also follow ``phi``, the momentum and the energies to the end.

    Returns
    -------
    Geodesic
    """
    spacing = operator.spacing
    dt = duration / steps
    now = operator.smooth(momentum) if velocity is None else velocity
    followed = [operator.inner(momentum, now)]
    ahead, behind = (_trace(now, time, spacing) for time in (dt / 2, -dt / 2))
    middle = operator.smooth(transport(momentum, ahead, behind, spacing))
    forward, inverse = (_trace(middle, time, spacing) for time in (dt, -dt))
    for left in range(steps - 2, -1, -1):
        carried = transport(momentum, forward, inverse, spacing)
        previous, now = now, operator.smooth(carried)
        followed.append(operator.inner(carried, now))
        middle = 1.5 * now - 0.5 * previous  # extrapolated to the middle of the step
        inverse = compose(inverse, _trace(middle, -dt, spacing), spacing)
        if left or both or energies:
            forward = compose(_trace(middle, dt, spacing), forward, spacing)
    if not energies:
        return Geodesic(inverse, forward if both else None)
    carried = transport(momentum, forward, inverse, spacing)
    followed.append(operator.inner(carried, operator.smooth(carried)))
    return Geodesic(inverse, forward, carried, followed)


def _trace(velocity: torch.Tensor, time: float, spacing: Spacing) -> torch.Tensor:
    """Return the displacement along a frozen velocity over a (signed) time, midpoint rule."""
    return time * sample(velocity, 0.5 * time * velocity, spacing)
