"""The original shooting scheme, plain and slow: what the fast one is tested against.

Fourth-order Runge-Kutta on ``d phi / dt = v o phi`` on the full grid, the momentum by coadjoint
transport at every stage, and ``phi^-1`` kept beside ``phi`` by fixed-point iterations (Yang et
al. 2017, section 2.1; ten steps there).
"""

import torch

from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.shooting import Geodesic, coadjoint


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

    def slope(displacement: torch.Tensor, guess: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return ``v o phi``, with the inverse and the momentum that it was computed from."""
        backward = guess
        for _ in range(inverse_iterations):
            backward = -sample(displacement, backward, spacing)
        carried = coadjoint(momentum, backward, spacing)
        velocity = operator.smooth(carried)
        return sample(velocity, displacement, spacing), backward, carried, velocity

    for _ in range(steps):
        first, inverse, carried, velocity = slope(forward, inverse)
        energies.append(operator.inner(carried, velocity))
        second, guess, *_ = slope(forward + 0.5 * dt * first, inverse)
        third, guess, *_ = slope(forward + 0.5 * dt * second, guess)
        fourth, guess, *_ = slope(forward + dt * third, guess)
        forward = forward + dt / 6 * (first + 2 * second + 2 * third + fourth)
        inverse = guess
    _, inverse, carried, velocity = slope(forward, inverse)
    energies.append(operator.inner(carried, velocity))
    return Geodesic(inverse, forward, carried, energies)
