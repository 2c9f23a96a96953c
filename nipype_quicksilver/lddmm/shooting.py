"""Geodesic shooting: from an initial momentum to the map, its inverse and the path between.

The momentum is carried along by coadjoint transport, ``m(t) = det(Dh) Dh^T (m0 o h)`` with
``h = phi(t)^-1``, and the maps follow ``d phi / dt = v o phi``, ``v = K m`` (EPDiff; Vialard et
al. 2012, Singh et al. 2013). Both maps advance by semi-Lagrangian steps that trace the flow with
the midpoint rule, which stays stable at time steps where Eulerian advection blows up. The velocity
in the middle of a step is extrapolated from those at the starts of the last ones.

A momentum is rough, ``K^-1`` of something smooth: interpolated at ``h`` between voxels it would
lose much of itself. It only ever acts on smooth fields, ``<m(t), f> = <m0, (Dh f) o phi>``, and
those can be interpolated. So it is carried in this weak form, as a density that ``phi`` moves.
"""

from dataclasses import dataclass, field

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, push, sample
from nipype_quicksilver.lddmm.jacobians import jacobian
from nipype_quicksilver.lddmm.kernel import KernelOperator

# Number of time steps from which on velocities are extrapolated by a parabola. Over longer steps it
# is no nearer than a line on average, and farther away where the flow is fast.
STEPS_OF_A_PARABOLA = 4


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
    velocities = [now]
    kept = 1 if steps < STEPS_OF_A_PARABOLA else 2
    ahead, behind = (_trace(now, time, spacing) for time in (dt / 2, -dt / 2))
    middle = operator.smooth(transport(momentum, ahead, behind, spacing))
    forward, inverse = (_trace(middle, time, spacing) for time in (dt, -dt))
    undoing = [(1, inverse)]
    for left in range(steps - 2, -1, -1):
        carried = transport(momentum, forward, inverse, spacing)
        now = operator.smooth(carried)
        followed.append(operator.inner(carried, now))
        velocities = [*velocities[-kept:], now]
        middle = _in_the_middle(velocities)
        undoing = _joined([*undoing, (1, _trace(middle, -dt, spacing))], spacing)
        inverse = _one_after_another([part for _, part in undoing], spacing)
        if left or both or energies:
            forward = compose(_trace(middle, dt, spacing), forward, spacing)
    if not energies:
        return Geodesic(inverse, forward if both else None)
    carried = transport(momentum, forward, inverse, spacing)
    followed.append(operator.inner(carried, operator.smooth(carried)))
    return Geodesic(inverse, forward, carried, followed)


def _in_the_middle(velocities: list[torch.Tensor]) -> torch.Tensor:
    """Return the velocity half a step after the last of two or three, by a line or a parabola."""
    if len(velocities) == 2:
        return 1.5 * velocities[1] - 0.5 * velocities[0]
    return 1.875 * velocities[2] - 1.25 * velocities[1] + 0.375 * velocities[0]


def _joined(
    parts: list[tuple[int, torch.Tensor]], spacing: Spacing
) -> list[tuple[int, torch.Tensor]]:
    """Return the parts of a map with the last two made one as long as they cover as many steps.

    A map that is interpolated at every step, to go one step further, is blurred a little each time.
    Of ``n`` steps joined like this, each is interpolated ``log2 n`` times at most.
    """
    while len(parts) > 1 and parts[-1][0] == parts[-2][0]:
        *parts, (count, outer), (_, inner) = parts
        parts.append((2 * count, compose(outer, inner, spacing)))
    return parts


def _one_after_another(displacements: list[torch.Tensor], spacing: Spacing) -> torch.Tensor:
    """Return the displacement of several maps, of which the last is applied first."""
    *others, displacement = displacements
    for outer in reversed(others):
        displacement = compose(outer, displacement, spacing)
    return displacement


def _trace(velocity: torch.Tensor, time: float, spacing: Spacing) -> torch.Tensor:
    """Return the displacement along a frozen velocity over a (signed) time, midpoint rule."""
    return time * sample(velocity, 0.5 * time * velocity, spacing)
