"""The original shooting scheme, simple and slow: a reference to test the fast one against.

Fourth-order Runge-Kutta for ``d phi / dt = v o phi`` on the full grid, with coadjoint transport of
the momentum at every stage. ``phi^-1`` is updated together with ``phi``, by fixed-point iterations
on the increment of each step (Yang et al. 2017, section 2.1, with ten steps).
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

    def velocity_after(increment: torch.Tensor) -> torch.Tensor:
        """Return ``v o phi`` after adding an increment to ``phi``."""
        backward = _advanced_inverse(inverse, increment, spacing, inverse_iterations)
        velocity = operator.smooth(coadjoint(momentum, backward, spacing))
        return sample(velocity, forward + increment, spacing)

    for _ in range(steps):
        transported = coadjoint(momentum, inverse, spacing)
        velocity = operator.smooth(transported)
        energies.append(operator.inner(transported, velocity))
        first = sample(velocity, forward, spacing)
        second = velocity_after(0.5 * dt * first)
        third = velocity_after(0.5 * dt * second)
        fourth = velocity_after(dt * third)
        increment = dt / 6 * (first + 2 * second + 2 * third + fourth)
        inverse = _advanced_inverse(inverse, increment, spacing, inverse_iterations)
        forward = forward + increment
    transported = coadjoint(momentum, inverse, spacing)
    energies.append(operator.inner(transported, operator.smooth(transported)))
    return Geodesic(inverse, forward, transported, energies)


def _advanced_inverse(
    inverse: torch.Tensor, increment: torch.Tensor, spacing: Spacing, iterations: int
) -> torch.Tensor:
    """Return the inverse of ``phi + w``, given that of ``phi``.

    It is the fixed point of ``h = phi^-1 o (id - w o h)``, and the iteration converges for small
    ``w``. Inverting ``phi`` itself in this way would converge only if ``phi`` nowhere stretches
    lengths by more than a factor of two.
    """
    advanced = inverse
    for _ in range(iterations):
        advanced = compose(inverse, -sample(increment, advanced, spacing), spacing)
    return advanced


def coadjoint(momentum: torch.Tensor, inverse: torch.Tensor, spacing: Spacing) -> torch.Tensor:
    """Return the transported momentum ``det(Dh) Dh^T (m o h)`` of the map ``h = id + inverse``.

    Parameters
    ----------
    momentum : torch.Tensor
        ``m``, (B, 3, X, Y, Z).
    inverse : torch.Tensor
        Displacement of ``h``, (B, 3, X, Y, Z).
    spacing : float or sequence of float

    Returns
    -------
    torch.Tensor
        (B, 3, X, Y, Z).
    """
    matrix = jacobian(inverse, spacing)
    transported = sample(momentum, inverse, spacing)
    rows, (x, y, z) = matrix.unbind(1), transported[:, :, None].unbind(1)
    return determinant(matrix) * (rows[0] * x + rows[1] * y + rows[2] * z)
