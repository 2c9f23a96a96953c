"""LO: the initial momentum that registers two images, by optimisation through the shooting.

Minimised over ``w``, with ``m0 = R^-1 w`` and ``K = R R`` (see `KernelOperator`)::

    regularization * <w, w> + sum weight * dissimilarity(M o phi^-1, T) + barrier

so that the energy ``<m0, K m0>`` is ``<w, w>`` and first-order steps are well scaled. The gradient
is computed through the shooting by automatic differentiation. The stages go from coarse to fine;
from one grid to the next the velocity is interpolated linearly, which damps the frequencies that
the coarser grid resolved badly. A barrier on the Jacobians at all corners of all cells keeps the
map from folding (see `jacobian_shortfall`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nipype_quicksilver.lddmm.descent import Descent
from nipype_quicksilver.lddmm.fields import Spacing
from nipype_quicksilver.lddmm.folding import Lattice, remove_folds
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.jacobians import corner_determinants
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.objective import Objective, Terms, pooled_operator
from nipype_quicksilver.lddmm.settings import Settings
from nipype_quicksilver.lddmm.shooting import Geodesic
from nipype_quicksilver.lddmm.similarity import box_mean

# Times, at most, that a state which folds on a new grid is smoothed.
MAX_SMOOTHINGS = 4

# Fraction of itself by which the loss may rise in one iteration.
LARGEST_RISE = 0.02

# Iterations over which the decrease of the loss is measured to detect convergence.
PATIENCE = 5


@dataclass(frozen=True)
class Iteration:
    """State of the optimisation in one iteration; energies are sums in cubic millimetres."""

    stage: int
    stages: int
    iteration: int
    iterations: int
    loss: float
    energy: float
    similarity: float
    smallest_jacobian: float
    converged: bool


@dataclass(frozen=True)
class Optimum:
    """The result of an optimisation.

    Attributes
    ----------
    momentum : torch.Tensor
        ``m0``, (1, 3, x, y, z), on the last stage's velocity grid.
    operator : KernelOperator
        The kernel on that grid.
    steps : int
        Time steps of the shooting for which the momentum was optimised.
    history : list of Iteration
    geodesic : Geodesic
        Shot from the momentum, with both maps and the energies.
    """

    momentum: torch.Tensor
    operator: KernelOperator
    steps: int
    history: list[Iteration]
    geodesic: Geodesic


def optimize(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    settings: Settings | None = None,
    *,
    weight: torch.Tensor | None = None,
    moving_weight: torch.Tensor | None = None,
    initial: torch.Tensor | None = None,
    spacing: Spacing = 1.0,
    lattice: Lattice | None = None,
    progress: Callable[[Iteration], None] | None = None,
) -> Optimum:
    """Estimate the momentum of the geodesic that warps the moving image to the fixed one.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (1, 1, X, Y, Z), intensities of about 0 to 1, on one working grid whose size is a multiple
        of the factors of every stage.
    settings : Settings, optional
    weight : torch.Tensor, optional
        (1, 1, X, Y, Z): weight of each voxel of the fixed image, 0 to leave it out. Default: 1.
    moving_weight : torch.Tensor, optional
        The same for the moving image, with which it is warped. Default: 1.
    initial : torch.Tensor, optional
        Momentum to start from (refinement), (1, 3, x, y, z) on the working grid pooled by a whole
        factor; stages on coarser grids are skipped. Default: zero.
    spacing : float or sequence of float
        Of the working grid, in millimetres.
    lattice : Lattice, optional
        The voxels at which the map will be sampled, and where it must not fold either.
    progress : callable, optional
        Called with an `Iteration` after each iteration.

    Returns
    -------
    Optimum

    Raises
    ------
    ValueError
        If the images differ in shape or do not fit the stages, or the initial momentum does not
        fit the images or is on a finer grid than all stages.
    """
    settings = settings or Settings()
    weight = torch.ones_like(fixed) if weight is None else weight
    _check_shapes(fixed, moving, settings)
    history: list[Iteration] = []

    def record(iteration: Iteration) -> None:
        history.append(iteration)
        if progress is not None:
            progress(iteration)

    state: torch.Tensor | None = None
    operator: KernelOperator | None = None
    descent: Descent | None = None
    factor = 0  # a multiple of every stage's
    if initial is not None:
        factor = _factor(initial, fixed)
        operator = pooled_operator(settings.kernel, fixed, factor, spacing)
        state = operator.apply(initial, 0.5)
    for number, stage in enumerate(settings.stages):
        if descent is None and factor % stage.velocity:
            continue
        objective = Objective(fixed, moving, weight, moving_weight, stage, settings, spacing)
        if state is None or operator is None:
            state = objective.identity()
        elif operator.shape != objective.operator.shape:
            state, descent = _transfer(state, operator, objective), None
        operator = objective.operator
        descent = descent or Descent(state, operator, stage.velocity, settings)
        state = _minimise(objective, state, descent, number, record)
    if state is None or operator is None or descent is None:
        raise ValueError("the initial momentum is on a finer grid than all stages")
    state, geodesic = remove_folds(
        state, operator, steps=settings.steps, factor=settings.velocity, lattice=lattice
    )
    return Optimum(operator.apply(state, -0.5), operator, settings.steps, history, geodesic)


def _factor(momentum: torch.Tensor, image: torch.Tensor) -> int:
    """Return the factor by which a momentum's grid is coarser than that of an image."""
    factor = image.shape[2] // momentum.shape[2]
    if list(image.shape[2:]) != [factor * n for n in momentum.shape[2:]]:
        raise ValueError("the initial momentum is not on the images' grid or a coarser one")
    return factor


def _check_shapes(fixed: torch.Tensor, moving: torch.Tensor, settings: Settings) -> None:
    """Raise a ValueError if the images differ in shape or do not fit the stages."""
    if fixed.shape != moving.shape or fixed.dim() != 5 or fixed.shape[:2] != (1, 1):
        raise ValueError(
            f"the images must have one shape (1, 1, X, Y, Z), not {tuple(fixed.shape)} and "
            f"{tuple(moving.shape)}"
        )
    factor = math.lcm(*[stage.velocity for stage in settings.stages])
    if any(n % factor or n < 4 * factor for n in fixed.shape[2:]):
        raise ValueError(
            f"the grid {tuple(fixed.shape[2:])} must be a multiple of {factor} along each axis "
            f"and at least {4 * factor}"
        )


@torch.no_grad()
def _transfer(state: torch.Tensor, old: KernelOperator, objective: Objective) -> torch.Tensor:
    """Return a state on the grid of the next stage: the same velocity, interpolated.

    A map that is just free of folds on a coarse grid may fold on a finer one, on which shooting is
    more accurate; then the state is smoothed until the map does not fold.
    """
    new = objective.operator
    velocity = upsample(old.apply(state, 0.5), new.shape[0] // old.shape[0])
    state = new.apply(velocity, -0.5)
    for _ in range(MAX_SMOOTHINGS):
        if corner_determinants(objective.displacement(state), new.spacing).min() > 0:
            break
        state = box_mean(state, 1)
    return state


def _minimise(
    objective: Objective,
    state: torch.Tensor,
    descent: Descent,
    number: int,
    record: Callable[[Iteration], None],
) -> torch.Tensor:
    """Run the iterations of one stage; a step that diverges or raises the loss is shortened."""
    accepted, step = state, torch.zeros_like(state)
    losses: list[float] = []
    for iteration in range(objective.stage.iterations):
        state.requires_grad_()
        terms = objective.evaluate(state)
        if not _is_acceptable(terms, losses):
            descent.trust, step = 0.5 * descent.trust, 0.5 * step
            state = accepted - step
            continue
        losses.append(float(terms.loss.detach()))
        converged = _has_converged(losses, objective.settings.tolerance)
        record(_iteration(terms, number, iteration, objective.settings, converged))
        accepted = state.detach()
        if converged or iteration + 1 == objective.stage.iterations:
            break
        (gradient,) = torch.autograd.grad(terms.loss, state)
        step = descent.step(gradient)
        state = accepted - step
    return accepted


def _iteration(
    terms: Terms, number: int, iteration: int, settings: Settings, converged: bool
) -> Iteration:
    """Return the record of an iteration; stages and iterations are counted from 1."""
    return Iteration(
        stage=number + 1,
        stages=len(settings.stages),
        iteration=iteration + 1,
        iterations=settings.stages[number].iterations,
        loss=float(terms.loss.detach()),
        energy=float(terms.energy.detach()),
        similarity=float(terms.similarity.detach()),
        smallest_jacobian=float(terms.smallest_jacobian),
        converged=converged,
    )


def _is_acceptable(terms: Terms, losses: list[float]) -> bool:
    """Return whether the map is finite and the loss hardly higher than in the last iteration.

    The Jacobian of a map that diverged is not finite, even where sampling, and so the loss, is.
    """
    loss = float(terms.loss.detach())
    if not math.isfinite(loss + float(terms.smallest_jacobian)):
        return False
    return not losses or loss <= (1 + LARGEST_RISE) * losses[-1]


def _has_converged(losses: list[float], tolerance: float) -> bool:
    """Return whether the loss hardly decreased over the last iterations."""
    if len(losses) <= PATIENCE:
        return False
    decrease = losses[-1 - PATIENCE] - losses[-1]
    return 0 <= decrease <= tolerance * abs(losses[-1])
