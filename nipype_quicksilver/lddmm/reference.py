"""The original shooting scheme, plain and slow: what the fast one is tested against.

Fourth-order Runge-Kutta on ``d phi / dt = v o phi`` on the full grid, the momentum by coadjoint
transport at every stage, and ``phi^-1`` kept beside ``phi`` by fixed-point iterations on what
each step adds (Yang et al. 2017, section 2.1; ten steps there).
"""

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, sample
from nipype_quicksilver.lddmm.jacobians import determinant, jacobian
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.shooting import Geodesic


@torch.no_grad()
def shoot_by_runge_kutta(
    momentum: torch.Tensor,
    operator: KernelOperator,
    *,
    steps: int = 10,
    inverse_iterations: int = 3,
) -> Geodesic:
    """Shoot a geodesic to time 1 by the original scheme.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m0``, (B, 3, X, Y, Z).
    operator : KernelOperator
    steps : int
    inverse_iterations : int
        Fixed-point iterations after every change of ``phi``.

    Returns
    -------
    Geodesic
        With both maps, the momentum at the end and the energies, as from `shoot`.
    """
    spacing = operator.spacing
    dt = 1.0 / steps
    forward = torch.zeros_like(momentum)
    inverse = torch.zeros_like(momentum)
    energies = []

    def slope_after(increment: torch.Tensor) -> torch.Tensor:
        """Return ``v o phi`` once an increment is added to ``phi``."""
        backward = _advanced_inverse(inverse, increment, spacing, inverse_iterations)
        velocity = operator.smooth(coadjoint(momentum, backward, spacing))
        return sample(velocity, forward + increment, spacing)

    for _ in range(steps):
        carried = coadjoint(momentum, inverse, spacing)
        velocity = operator.smooth(carried)
        energies.append(operator.inner(carried, velocity))
        first = sample(velocity, forward, spacing)
        second = slope_after(0.5 * dt * first)
        third = slope_after(0.5 * dt * second)
        fourth = slope_after(dt * third)
        increment = dt / 6 * (first + 2 * second + 2 * third + fourth)
        inverse = _advanced_inverse(inverse, increment, spacing, inverse_iterations)
        forward = forward + increment
    carried = coadjoint(momentum, inverse, spacing)
    energies.append(operator.inner(carried, operator.smooth(carried)))
    return Geodesic(inverse, forward, carried, energies)


def _advanced_inverse(
    inverse: torch.Tensor, increment: torch.Tensor, spacing: Spacing, iterations: int
) -> torch.Tensor:
    """Return the inverse of ``phi + w``, given that of ``phi``.

    It is the fixed point of ``h = phi^-1 o (id - w o h)``, and reached where ``w`` is small.
    To invert ``phi`` itself like this would need a ``phi`` that nowhere stretches to more than
    twice the length.
    """
    advanced = inverse
    for _ in range(iterations):
        advanced = compose(inverse, -sample(increment, advanced, spacing), spacing)
    return advanced


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
