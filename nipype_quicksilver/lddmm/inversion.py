"""Inversion of displacement fields."""

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, sample_voxels


def invert(
    displacement: torch.Tensor,
    initial: torch.Tensor,
    spacing: Spacing = 1.0,
    iterations: int = 8,
    tolerance: float = 0.0,
) -> torch.Tensor:
    """Return the displacement ``v`` of the inverse map, ``v(y) + u(y + v(y)) = 0``.

    A Newton iteration without matrices. If the estimate ``g = id + v`` of the inverse misses ``y``
    by a residual ``r``, then ``g(y - r)`` is a better estimate. Only voxels whose residual is
    larger than the tolerance are iterated; where a step does not reduce the residual it is halved,
    so that the result is nowhere worse than the initial estimate.

    Parameters
    ----------
    displacement : torch.Tensor
        ``u``, (B, 3, X, Y, Z), without folds.
    initial : torch.Tensor
        Initial estimate of ``v``; zeros if nothing is known.
    spacing : float or sequence of float
    iterations : int
    tolerance : float
        In the unit of the spacing.

    Returns
    -------
    torch.Tensor
        (B, 3, X, Y, Z).
    """
    residual = compose(displacement, initial, spacing)
    inverse = initial.clone(memory_format=torch.contiguous_format)
    for item in range(len(inverse)):
        one = slice(item, item + 1)
        _iterate(inverse[one], residual[one], displacement[one], spacing, iterations, tolerance)
    return inverse


def _iterate(
    inverse: torch.Tensor,
    residual: torch.Tensor,
    displacement: torch.Tensor,
    spacing: Spacing,
    iterations: int,
    tolerance: float,
) -> None:
    """Improve an inverse in place, see :func:`invert`; batch of one."""
    estimate, residuals = inverse.view(3, -1), residual.reshape(3, -1)
    length = torch.ones_like(residuals[0])
    for _ in range(iterations):
        active = (_squared_length(residuals) > tolerance**2).nonzero()[:, 0]
        if len(active) == 0:
            return
        before, fraction = residuals[:, active], length[active]
        step = -fraction * before
        candidate = step + sample_voxels(inverse, active, step, spacing)
        remaining = candidate + sample_voxels(displacement, active, candidate, spacing)
        better = _squared_length(remaining) < _squared_length(before)
        estimate[:, active] = torch.where(better, candidate, estimate[:, active])
        residuals[:, active] = torch.where(better, remaining, before)
        length[active] = torch.where(better, (2 * fraction).clamp_max(1), 0.5 * fraction)


def _squared_length(vectors: torch.Tensor) -> torch.Tensor:
    """Return the squared lengths (N,) of vectors (3, N); torch's own reduction is slower."""
    x, y, z = vectors
    return x * x + y * y + z * z
