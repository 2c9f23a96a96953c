"""Geodesic shooting: from an initial momentum to the map, its inverse and the path in between.

The momentum is transported by the coadjoint action, ``m(t) = det(Dh) Dh^T (m0 o h)`` with
``h = phi(t)^-1``, and the maps follow ``d phi / dt = v o phi``, ``v = K m`` (EPDiff; Vialard et
al. 2012, Singh et al. 2013). Both maps advance by semi-Lagrangian steps that trace the flow with
the midpoint rule, which is stable at time steps at which Eulerian advection diverges. The velocity
at the midpoint of a step is extrapolated from those at the starts of the last steps.

A momentum is rough, ``K^-1`` of a smooth field: interpolating it at ``h`` between voxels would
blur it strongly. It only acts on smooth fields, ``<m(t), f> = <m0, (Dh f) o phi>``, which can be
interpolated. So it is transported in this weak form, as a density that ``phi`` moves.
"""

from dataclasses import dataclass, field

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, push, sample
from nipype_quicksilver.lddmm.jacobians import jacobian
from nipype_quicksilver.lddmm.kernel import KernelOperator

# Smallest number of time steps at which velocities are extrapolated by a parabola. Over longer
# steps it is no more accurate than a line on average, and less accurate where the flow is fast.
MIN_STEPS_PARABOLA = 4


@dataclass
class Geodesic:
    """The end of a geodesic.

    Attributes
    ----------
    inverse : torch.Tensor
        Displacement of ``phi^-1``, from fixed to moving points, (B, 3, X, Y, Z): it warps the
        moving image.
    forward : torch.Tensor or None
        Displacement of ``phi``, from moving to fixed points, if requested.
    momentum : torch.Tensor or None
        The momentum at the end, from which the geodesic can be continued, if the energies were
        requested.
    energies : list of torch.Tensor
        ``<m, K m>`` at the start of every step and at the end, (B,) each, if requested; constant
        along an exact geodesic.
    """

    inverse: torch.Tensor
    forward: torch.Tensor | None = None
    momentum: torch.Tensor | None = None
    energies: list[torch.Tensor] = field(default_factory=list)


def transport(
    momentum: torch.Tensor, forward: torch.Tensor, inverse: torch.Tensor, spacing: Spacing
) -> torch.Tensor:
    """Return ``Dh^T phi_# m``: the momentum transported by ``phi``, in the weak form.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m``, (B, 3, X, Y, Z).
    forward, inverse : torch.Tensor
        Displacements of ``phi`` and of ``h = phi^-1``, (B, 3, X, Y, Z).
    spacing : float or sequence of float

    Returns
    -------
    torch.Tensor
        (B, 3, X, Y, Z).
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
        ``K m0``, if it is known already.
    both : bool
        Also compute ``phi`` itself at the end.
    energies : bool
        Also compute ``phi``, the momentum and the energies at the end.

    Returns
    -------
    Geodesic
    """
    spacing = operator.spacing
    dt = duration / steps
    start = operator.smooth(momentum) if velocity is None else velocity
    path_energies = [operator.inner(momentum, start)]
    velocities = [start]
    kept = 1 if steps < MIN_STEPS_PARABOLA else 2
    ahead, behind = (_trace(start, time, spacing) for time in (dt / 2, -dt / 2))
    middle = operator.smooth(transport(momentum, ahead, behind, spacing))
    forward, inverse = (_trace(middle, time, spacing) for time in (dt, -dt))
    inverse_parts = [(1, inverse)]
    for remaining in range(steps - 2, -1, -1):
        transported = transport(momentum, forward, inverse, spacing)
        current = operator.smooth(transported)
        path_energies.append(operator.inner(transported, current))
        velocities = [*velocities[-kept:], current]
        middle = _midpoint_velocity(velocities)
        inverse_parts = _merge([*inverse_parts, (1, _trace(middle, -dt, spacing))], spacing)
        inverse = _compose_all([part for _, part in inverse_parts], spacing)
        if remaining or both or energies:
            forward = compose(_trace(middle, dt, spacing), forward, spacing)
    if not energies:
        return Geodesic(inverse, forward if both else None)
    transported = transport(momentum, forward, inverse, spacing)
    path_energies.append(operator.inner(transported, operator.smooth(transported)))
    return Geodesic(inverse, forward, transported, path_energies)


def _midpoint_velocity(velocities: list[torch.Tensor]) -> torch.Tensor:
    """Extrapolate half a step beyond the last of two or three velocities, linear or quadratic."""
    if len(velocities) == 2:
        return 1.5 * velocities[1] - 0.5 * velocities[0]
    return 1.875 * velocities[2] - 1.25 * velocities[1] + 0.375 * velocities[0]


def _merge(
    parts: list[tuple[int, torch.Tensor]], spacing: Spacing
) -> list[tuple[int, torch.Tensor]]:
    """Compose the last two parts of a map while they cover equal numbers of steps.

    A map that is interpolated at every step is blurred a little each time. Merged in this way, each
    of ``n`` steps is interpolated ``log2 n`` times at most.
    """
    while len(parts) > 1 and parts[-1][0] == parts[-2][0]:
        *parts, (count, outer), (_, inner) = parts
        parts.append((2 * count, compose(outer, inner, spacing)))
    return parts


def _compose_all(displacements: list[torch.Tensor], spacing: Spacing) -> torch.Tensor:
    """Return the displacement of the composition of several maps; the last is applied first."""
    *others, displacement = displacements
    for outer in reversed(others):
        displacement = compose(outer, displacement, spacing)
    return displacement


def _trace(velocity: torch.Tensor, time: float, spacing: Spacing) -> torch.Tensor:
    """Return the displacement along a constant velocity field over a signed time, midpoint rule."""
    return time * sample(velocity, 0.5 * time * velocity, spacing)
