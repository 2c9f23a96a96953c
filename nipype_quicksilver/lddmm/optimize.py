"""LO: the initial momentum that registers two images, by optimisation over the shooting.

Minimised over ``w``, with ``m0 = R^-1 w`` and ``K = R R`` (see `KernelOperator`)::

    regularization * <w, w> + sum weight * dissimilarity(M o phi^-1, T) + barrier

so that the energy ``<m0, K m0>`` is ``<w, w>`` and plain first-order steps are well scaled. The
gradient goes through the shooting by automatic differentiation. The stages go from coarse to
fine; from one grid to the next the velocity is carried over by linear interpolation, which damps
the frequencies that the coarser grid held badly. A barrier on the Jacobians at all corners of
all cells keeps the map from folding (see `jacobian_shortfall`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nipype_quicksilver.lddmm.fields import (
    Spacing,
    bounding_box,
    pool,
    sample,
    spacing_tuple,
    upsample,
    upsample_within,
)
from nipype_quicksilver.lddmm.folding import Lattice, unfold
from nipype_quicksilver.lddmm.jacobians import corner_determinants, jacobian_shortfall
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Settings, Stage
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.similarity import box_max, box_mean, measure


@dataclass(frozen=True)
class Iteration:
    """What one iteration saw; energies are sums over the grid in cubic millimetres."""

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
        Time steps that the momentum was optimised for.
    history : list of Iteration
    geodesic : Geodesic
        Shot from the momentum, with both maps and the energies.
    """

    momentum: torch.Tensor
    operator: KernelOperator
    steps: int
    history: list[Iteration]
    geodesic: Geodesic


# The barrier starts at this Jacobian, as a ventricle may be ten times as large in one brain as in
# the other; its weight per cubic millimetre makes a fold cost more than the best possible match
# of the same volume could gain.
MARGIN = 0.1
BARRIER = 5.0

# The box that is compared ends at multiples of so many voxels, which threads can share, and as many
# as a measure looks beyond a voxel lie around what has weight.
BOX = 8
LOOK_AROUND = 2

# Voxels around one whose velocity would change by too much, in which the step is smaller with it,
# and by how much the change may still be larger than it should: as smoothing carries it along.
REACH = 2
OVERSHOOT = 1.5

# At most so many times a state that folds on a new grid is smoothed.
SMOOTHINGS = 4

# The part of itself by which the loss may rise in one iteration.
UPHILL = 0.02

# Iterations over which the loss must still fall.
PATIENCE = 5

# Adam: momenta of its two averages, the learning rate at the end as a part of that at the start,
# and the gradient per cubic millimetre that counts as noise.
BETAS = (0.9, 0.99)
FINAL_RATE = 0.1
NOISE = 1e-2


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
    """Find the momentum of the geodesic that brings the moving image onto the fixed one.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (1, 1, X, Y, Z), intensities around 0 to 1, on one working grid whose size is a
        multiple of every stage's factors.
    settings : Settings, optional
    weight : torch.Tensor, optional
        (1, 1, X, Y, Z): how much each voxel of the fixed image counts; 0 is left out. All
        count 1 by default.
    moving_weight : torch.Tensor, optional
        The same on the moving image's side; it is carried along with the moving image.
    initial : torch.Tensor, optional
        Momentum to start from (refinement), (1, 3, x, y, z) on the working grid pooled by a whole
        factor; stages on coarser grids than that are left out.
    spacing : float or sequence of float
        Of the working grid, in millimetres.
    lattice : Lattice, optional
        Where the map will be sampled, and shall not fold either.
    progress : callable, optional
        Called with an `Iteration` after each.

    Returns
    -------
    Optimum

    Raises
    ------
    ValueError
        If the images differ in shape or do not fit the stages, or the initial momentum does not
        fit the images or is finer than all stages.
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
    descent: _Descent | None = None
    factor = 0  # a multiple of every stage's
    if initial is not None:
        factor = _factor(initial, fixed)
        operator = _operator(settings, fixed, factor, spacing)
        state = operator.apply(initial, 0.5)
    for number, stage in enumerate(settings.stages):
        if descent is None and factor % stage.velocity:
            continue
        problem = _Problem(fixed, moving, weight, moving_weight, stage, settings, spacing)
        if state is None or operator is None:
            state, operator = problem.start(), problem.operator
        elif operator.shape != problem.operator.shape:
            state, descent = _carry(state, operator, problem), None
        operator = problem.operator
        descent = descent or _Descent(state, operator, stage.velocity, settings)
        state = _minimise(problem, state, descent, number, record)
    if state is None or operator is None or descent is None:
        raise ValueError("the initial momentum is on a finer grid than all stages")
    state, geodesic = unfold(
        state, operator, steps=settings.steps, factor=settings.velocity, lattice=lattice
    )
    return Optimum(operator.apply(state, -0.5), operator, settings.steps, history, geodesic)


def _factor(momentum: torch.Tensor, image: torch.Tensor) -> int:
    """Return by how much a momentum's grid is coarser than that of an image."""
    factor = image.shape[2] // momentum.shape[2]
    if list(image.shape[2:]) != [factor * n for n in momentum.shape[2:]]:
        raise ValueError("the initial momentum is not on the images' grid or a coarser one")
    return factor


def _operator(
    settings: Settings, image: torch.Tensor, factor: int, spacing: Spacing
) -> KernelOperator:
    """Return the kernel on an image's grid pooled by a factor."""
    shape = tuple(n // factor for n in image.shape[2:])
    coarse = tuple(h * factor for h in spacing_tuple(spacing))
    return KernelOperator(settings.kernel, shape, coarse, image.dtype, image.device)


def _check_shapes(fixed: torch.Tensor, moving: torch.Tensor, settings: Settings) -> None:
    if fixed.shape != moving.shape or fixed.dim() != 5 or fixed.shape[:2] != (1, 1):
        raise ValueError(
            f"images of one shape (1, 1, X, Y, Z) are needed, not {tuple(fixed.shape)} and "
            f"{tuple(moving.shape)}"
        )
    factor = math.lcm(*[stage.velocity for stage in settings.stages])
    if any(n % factor or n < 4 * factor for n in fixed.shape[2:]):
        raise ValueError(
            f"the grid {tuple(fixed.shape[2:])} must be a multiple of {factor} along each axis "
            f"and at least {4 * factor}"
        )


@dataclass(frozen=True)
class _Terms:
    """The loss at a state, and what it is made of."""

    loss: torch.Tensor
    energy: torch.Tensor
    similarity: torch.Tensor
    smallest_jacobian: torch.Tensor

    def as_iteration(
        self, number: int, iteration: int, settings: Settings, converged: bool
    ) -> Iteration:
        return Iteration(
            stage=number + 1,
            stages=len(settings.stages),
            iteration=iteration + 1,
            iterations=settings.stages[number].iterations,
            loss=float(self.loss.detach()),
            energy=float(self.energy.detach()),
            similarity=float(self.similarity.detach()),
            smallest_jacobian=float(self.smallest_jacobian),
            converged=converged,
        )


class _Problem:
    """The function that a stage minimises."""

    def __init__(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        weight: torch.Tensor,
        moving_weight: torch.Tensor | None,
        stage: Stage,
        settings: Settings,
        spacing: Spacing,
    ) -> None:
        full = spacing_tuple(spacing)
        self.settings = settings
        self.stage = stage
        self.image_spacing = tuple(h * stage.image for h in full)
        self.operator = _operator(settings, fixed, stage.velocity, spacing)
        self.moving = pool(moving, stage.image)
        self.moving_weight = None if moving_weight is None else pool(moving_weight, stage.image)
        whole = pool(weight, stage.image) * math.prod(self.image_spacing)
        # Around a brain it is two thirds of the grid.
        self.box = bounding_box(whole, BOX, margin=LOOK_AROUND)
        self.weight = whole[self.box]
        self.measure = measure(settings.similarity, pool(fixed, stage.image)[self.box])

    def start(self) -> torch.Tensor:
        """Return the state of the identity."""
        operator = self.operator
        return torch.zeros((1, 3, *operator.shape), dtype=operator.dtype, device=operator.device)

    def displacement(self, state: torch.Tensor) -> torch.Tensor:
        """Return the displacement of ``phi^-1`` on the velocity grid."""
        spectrum = self.operator.to_spectrum(state)
        momentum = self.operator.from_spectrum(spectrum, -0.5)
        velocity = self.operator.from_spectrum(spectrum, 0.5)
        steps = self.settings.steps
        return shoot(momentum, self.operator, steps=steps, velocity=velocity).inverse

    def evaluate(self, state: torch.Tensor) -> _Terms:
        displacement = self.displacement(state)
        ratio = self.stage.velocity // self.stage.image
        fine = upsample_within(displacement, ratio, self.box)
        weight = self.weight
        if self.moving_weight is not None:
            # Without its gradient: the map must not gain by moving the weight out of the way.
            carried = sample(self.moving_weight, fine.detach(), self.image_spacing, box=self.box)
            weight = weight * carried
        warped = sample(self.moving, fine, self.image_spacing, box=self.box)
        energy = self.operator.inner(state, state).sum()
        similarity = self.measure(warped, weight).sum()
        shortfall, smallest = jacobian_shortfall(displacement, self.operator.spacing, MARGIN)
        barrier = BARRIER * shortfall * self.operator.cell_volume
        loss = self.settings.regularization * energy + similarity + barrier
        return _Terms(loss, energy, similarity, smallest)


@torch.no_grad()
def _carry(state: torch.Tensor, old: KernelOperator, problem: _Problem) -> torch.Tensor:
    """Return a stage's state on the grid of the next: the same velocity, interpolated.

    What was just free of folds on a coarse grid may fold on a fine one, which shoots it more
    exactly; then the state is smoothed until it does not.
    """
    new = problem.operator
    velocity = upsample(old.apply(state, 0.5), new.shape[0] // old.shape[0])
    state = new.apply(velocity, -0.5)
    for _ in range(SMOOTHINGS):
        if corner_determinants(problem.displacement(state), new.spacing).min() > 0:
            break
        state = box_mean(state, 1)
    return state


class _Descent:
    """Adam with bounded steps; it goes on through all stages on one velocity grid."""

    def __init__(
        self, state: torch.Tensor, operator: KernelOperator, velocity: int, settings: Settings
    ) -> None:
        self.operator = operator
        self.floor = NOISE * operator.cell_volume
        self.rate = settings.learning_rate
        self.limit = settings.largest_step * min(operator.spacing)
        on_grid = [s.iterations for s in settings.stages if s.velocity == velocity]
        self.decay = FINAL_RATE ** (1 / max(1, sum(on_grid) - 1))
        self.first, self.second = torch.zeros_like(state), torch.zeros_like(state)
        self.count = 0
        self.trust = 1.0

    def step(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return what to subtract from the state, given the gradient there."""
        self.count += 1
        self.trust = min(1.0, 1.5 * self.trust)
        self.first = torch.lerp(gradient, self.first, BETAS[0])
        self.second = torch.lerp(gradient.square(), self.second, BETAS[1])
        scale = (self.second / (1 - BETAS[1] ** self.count)).sqrt() + self.floor
        rate = self.trust * self.rate * self.decay ** (self.count - 1)
        step = rate * self.first / (1 - BETAS[0] ** self.count) / scale
        return _bounded(step, self.operator, self.trust * self.limit)


def _bounded(step: torch.Tensor, operator: KernelOperator, limit: float) -> torch.Tensor:
    """Return a step that is smaller where it would change the velocity by more than a limit.

    A few voxels would hold back all others if the step were made smaller as a whole.
    """
    largest = box_max(operator.apply(step, 0.5).abs().amax(dim=1, keepdim=True), REACH)
    step = step * (1 - box_mean(1 - limit / largest.clamp_min(limit), REACH))
    left = operator.apply(step, 0.5).abs().max()
    limit = OVERSHOOT * limit
    return step * (limit / left.clamp_min(limit))


def _minimise(
    problem: _Problem,
    state: torch.Tensor,
    descent: _Descent,
    number: int,
    record: Callable[[Iteration], None],
) -> torch.Tensor:
    """Descend from a state; a step that blows up or goes uphill is cut back."""
    accepted, step = state, torch.zeros_like(state)
    losses: list[float] = []
    for iteration in range(problem.stage.iterations):
        state.requires_grad_()
        terms = problem.evaluate(state)
        if not _is_acceptable(terms, losses):
            descent.trust, step = 0.5 * descent.trust, 0.5 * step
            state = accepted - step
            continue
        losses.append(float(terms.loss.detach()))
        converged = _has_converged(losses, problem.settings.tolerance)
        record(terms.as_iteration(number, iteration, problem.settings, converged))
        accepted = state.detach()
        if converged or iteration + 1 == problem.stage.iterations:
            break
        (gradient,) = torch.autograd.grad(terms.loss, state)
        step = descent.step(gradient)
        state = accepted - step
    return accepted


def _is_acceptable(terms: _Terms, losses: list[float]) -> bool:
    """Return whether a state is a finite map that is hardly worse than the one before.

    The Jacobian tells a map that blew up, which sampling and so the loss may not notice.
    """
    loss = float(terms.loss.detach())
    if not math.isfinite(loss + float(terms.smallest_jacobian)):
        return False
    return not losses or loss <= (1 + UPHILL) * losses[-1]


def _has_converged(losses: list[float], tolerance: float) -> bool:
    """Return whether the loss has hardly fallen over the last iterations."""
    if len(losses) <= PATIENCE:
        return False
    fall = losses[-1 - PATIENCE] - losses[-1]
    return 0 <= fall <= tolerance * abs(losses[-1])
