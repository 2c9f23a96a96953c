"""Mending maps that fold: the momentum is calmed where it makes folds, and nowhere else."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.fields import corner_determinants, sample, upsample
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.similarity import box_mean

# Voxels of the velocity grid around a fold that are calmed with it: about the kernel's length.
REACH = 3

# By so much the momentum there shrinks each time, besides being smoothed.
SHRINKAGE = 0.8

# Times that folds are mended where they are, before the whole geodesic is shortened.
LOCAL_ATTEMPTS = 12


@torch.no_grad()
def unfold(
    state: torch.Tensor, operator: KernelOperator, *, steps: int, factor: int
) -> torch.Tensor:
    """Return a state whose map ``phi^-1`` has no fold on the working grid.

    Parameters
    ----------
    state : torch.Tensor
        Whitened momentum, (1, 3, x, y, z).
    operator : KernelOperator
        On its grid.
    steps : int
        Time steps of the shoot.
    factor : int
        The working grid is so many times finer than the state's.

    Returns
    -------
    torch.Tensor
        The state itself where nothing folds. All Jacobian determinants at the corners of the
        cells of the velocity grid and of the working grid are positive.
    """
    for attempt in range(100):
        momentum, velocity = operator.apply(state, -0.5), operator.apply(state, 0.5)
        geodesic = shoot(momentum, operator, steps=steps, velocity=velocity, both=True)
        folded = _folded(geodesic.inverse, operator.spacing)
        if factor > 1 and not bool(folded.any()):
            fine = upsample(geodesic.inverse, factor)
            folded = functional.max_pool3d(
                _folded(fine, [h / factor for h in operator.spacing]), factor
            )
        if not bool(folded.any()):
            return state
        if attempt < LOCAL_ATTEMPTS:
            state = _calmed(state, folded, geodesic, operator)
        else:
            # The identity, which has no folds, is never farther away than the loop goes.
            state = 0.95 * state
    return torch.zeros_like(state)


@torch.no_grad()
def calm(state: torch.Tensor, geodesic: Geodesic, operator: KernelOperator) -> torch.Tensor:
    """Return a state with less momentum where its geodesic folds, to go on from.

    Parameters
    ----------
    state : torch.Tensor
        Whitened momentum, (B, 3, x, y, z).
    geodesic : Geodesic
        Shot from it, with both maps.
    operator : KernelOperator
    """
    folded = _folded(geodesic.inverse, operator.spacing)
    if not bool(folded.any()):
        return state
    return _calmed(state, folded, geodesic, operator)


def _calmed(
    state: torch.Tensor, folded: torch.Tensor, geodesic: Geodesic, operator: KernelOperator
) -> torch.Tensor:
    """Smooth and shrink a state where folds come from, fading out over the kernel's reach."""
    assert geodesic.forward is not None
    # Folds are seen in the fixed space; the momentum lives in the moving one.
    origin = (sample(folded, geodesic.forward, operator.spacing) > 0).to(state.dtype)
    around = functional.max_pool3d(origin, 2 * REACH + 1, stride=1, padding=REACH)
    share = box_mean(around, REACH - 1)
    return torch.lerp(state, SHRINKAGE * box_mean(state, 1), share)


def _folded(displacement: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    """Return 1 in the first voxel of every cell with a corner that folds, 0 elsewhere."""
    # Not "<= 0": where the geodesic blew up there is no number, and that is no map either.
    cells = (~(corner_determinants(displacement, spacing) > 0)).any(dim=1, keepdim=True)
    # Cells are one fewer than voxels along each axis.
    return functional.pad(cells.to(displacement.dtype), (0, 1, 0, 1, 0, 1))
