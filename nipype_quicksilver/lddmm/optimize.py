"""LO: the initial momentum that registers two images, by optimisation over the shooting.

Minimised over ``w``, with ``m0 = R^-1 w`` and ``K = R R`` (see `KernelOperator`)::

    regularization * <w, w> + sum weight * dissimilarity(M o phi^-1, T) + barrier

so that the energy ``<m0, K m0>`` is ``<w, w>`` and plain first-order steps are well scaled. The
gradient goes through the shooting by automatic differentiation. The stages go from coarse to
fine; the momentum is carried from one grid to the next by its Fourier series. A barrier on the
Jacobians at all corners of all cells keeps the map from folding (see `corner_determinants`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nipype_quicksilver.lddmm.fields import (
    Spacing,
    corner_determinants,
    pool,
    sample,
    spacing_tuple,
    upsample,
)
from nipype_quicksilver.lddmm.kernel import Kernel, KernelOperator
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import MeasureName, measure
from nipype_quicksilver.lddmm.spectra import resize_spectrally


@dataclass(frozen=True)
class Stage:
    """One stage of the coarse-to-fine schedule.

    Attributes
    ----------
    image : int
        The images are pooled by this factor; 1 is the working grid itself.
    velocity : int
        Momentum and velocity live on the working grid pooled by this factor, no finer than
        the images.
    iterations : int
        At most so many.
    """

    image: int
    velocity: int
    iterations: int

    def __post_init__(self) -> None:
        if self.velocity % self.image:
            raise ValueError("a stage's velocity grid is a whole multiple of its image grid")


DEFAULT_STAGES = (Stage(4, 4, 20), Stage(2, 4, 15), Stage(2, 2, 25))


@dataclass(frozen=True)
class Settings:
    """All parameters of the optimisation.

    Attributes
    ----------
    stages : tuple of Stage
    kernel : Kernel
    steps : int
        Time steps of the shooting.
    similarity : {'lncc', 'ssd', 'mind'}
    regularization : float
        Weight of the energy ``<m0, K m0>``, relative to a dissimilarity of 1 per cubic
        millimetre of the similarity's weight.
    learning_rate : float
        Of Adam on ``w`` at the start of a stage; it falls to a tenth by its end.
    tolerance : float
        A stage ends early when the loss fell by less than this fraction of itself over
        the last `PATIENCE` iterations.
    """

    stages: tuple[Stage, ...] = DEFAULT_STAGES
    kernel: Kernel = field(default_factory=Kernel)
    steps: int = 3
    similarity: MeasureName = "lncc"
    regularization: float = 1.5
    learning_rate: float = 0.02
    tolerance: float = 1e-4

    @property
    def velocity(self) -> int:
        """Factor from the working grid to the grid of the momentum that comes out."""
        return self.stages[-1].velocity


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
    """

    momentum: torch.Tensor
    operator: KernelOperator
    steps: int
    history: list[Iteration]


# The barrier, MARGIN_WEIGHT * (MARGIN - J)^2 per cubic millimetre, starts at this Jacobian.
MARGIN = 0.25
MARGIN_WEIGHT = 10.0
PATIENCE = 5


def optimize(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    settings: Settings | None = None,
    *,
    weight: torch.Tensor | None = None,
    moving_weight: torch.Tensor | None = None,
    initial: torch.Tensor | None = None,
    spacing: Spacing = 1.0,
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
        Momentum to start from (refinement), on the last stage's velocity grid; then only the
        stages on that grid are run.
    spacing : float or tuple of float
        Of the working grid, in millimetres.
    progress : callable, optional
        Called with an `Iteration` after each.

    Returns
    -------
    Optimum

    Raises
    ------
    ValueError
        If the images differ in shape or do not fit the stages.
    """
    settings = settings or Settings()
    weight = torch.ones_like(fixed) if weight is None else weight
    _check_shapes(fixed, moving, settings)
    history: list[Iteration] = []
    state = None
    if initial is not None:
        problem = _Problem(
            fixed, moving, weight, moving_weight, settings.stages[-1], settings, spacing
        )
        state = problem.operator.apply(initial, 0.5)
    for number, stage in enumerate(settings.stages):
        if initial is not None and stage.velocity != settings.velocity:
            continue
        previous = None if state is None else problem
        problem = _Problem(fixed, moving, weight, moving_weight, stage, settings, spacing)
        state = _carry(state, previous, problem)

        def report(iteration: int, terms: "_Terms", number: int = number) -> None:
            history.append(
                Iteration(
                    stage=number + 1,
                    stages=len(settings.stages),
                    iteration=iteration + 1,
                    iterations=settings.stages[number].iterations,
                    loss=float(terms.loss),
                    energy=float(terms.energy),
                    similarity=float(terms.similarity),
                    smallest_jacobian=float(terms.smallest_jacobian),
                )
            )
            if progress is not None:
                progress(history[-1])

        state = _minimise(problem, state, stage.iterations, settings, report)
    assert state is not None
    state = _unfold(problem, state)
    return Optimum(problem.operator.apply(state, -0.5), problem.operator, settings.steps, history)


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
    loss: torch.Tensor
    energy: torch.Tensor
    similarity: torch.Tensor
    smallest_jacobian: torch.Tensor


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
        shape = tuple(n // stage.velocity for n in fixed.shape[2:])
        self.operator = KernelOperator(
            settings.kernel,
            shape,
            tuple(h * stage.velocity for h in full),
            fixed.dtype,
            fixed.device,
        )
        self.moving = pool(moving, stage.image)
        self.weight = pool(weight, stage.image) * math.prod(self.image_spacing)
        self.moving_weight = None if moving_weight is None else pool(moving_weight, stage.image)
        self.measure = measure(settings.similarity, pool(fixed, stage.image))

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
        jacobians = corner_determinants(displacement, self.operator.spacing)
        fine = upsample(displacement, self.stage.velocity // self.stage.image)
        weight = self.weight
        if self.moving_weight is not None:
            # Without its gradient: the map must not gain by moving the weight out of the way.
            weight = weight * sample(self.moving_weight, fine.detach(), self.image_spacing)
        warped = sample(self.moving, fine, self.image_spacing)
        energy = self.operator.inner(state, state).sum()
        similarity = self.measure(warped, weight).sum()
        shortfall = torch.relu(MARGIN - jacobians).square().sum() * self.operator.cell_volume
        loss = (
            self.settings.regularization * energy + similarity + MARGIN_WEIGHT * shortfall
        )
        return _Terms(loss, energy, similarity, jacobians.min())


def _carry(
    state: torch.Tensor | None, previous: _Problem | None, problem: _Problem
) -> torch.Tensor:
    """Return a stage's state on the grid of the next: the same momentum."""
    if state is None or previous is None:
        return problem.start()
    if previous.operator.shape == problem.operator.shape:
        return state
    momentum = previous.operator.apply(state, -0.5)
    return problem.operator.apply(resize_spectrally(momentum, problem.operator.shape), 0.5)


def _minimise(
    problem: _Problem,
    state: torch.Tensor,
    iterations: int,
    settings: Settings,
    report: Callable[[int, _Terms], None],
) -> torch.Tensor:
    """Run Adam from a state; a step after which the loss is not finite is cut back."""
    variable = state.clone().requires_grad_()
    adam = torch.optim.Adam([variable], lr=settings.learning_rate, betas=(0.9, 0.99))
    last = max(1, iterations - 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 0.1 ** (step / last))
    losses: list[float] = []
    accepted = state.clone()
    for iteration in range(iterations):
        terms = problem.evaluate(variable)
        if not torch.isfinite(terms.loss):
            with torch.no_grad():
                variable.copy_(0.5 * (accepted + variable).nan_to_num(0, 0, 0))
            continue
        accepted.copy_(variable.detach())
        adam.zero_grad()
        terms.loss.backward()
        adam.step()
        schedule.step()
        report(iteration, terms)
        losses.append(float(terms.loss))
        if len(losses) > PATIENCE:
            fell = losses[-1 - PATIENCE] - losses[-1]
            if 0 <= fell < settings.tolerance * losses[-1]:
                break
    return variable.detach()


@torch.no_grad()
def _unfold(problem: _Problem, state: torch.Tensor) -> torch.Tensor:
    """Shorten the geodesic until its map has no fold on the working grid."""
    for _ in range(40):
        fine = upsample(problem.displacement(state), problem.stage.velocity)
        spacing = tuple(h / problem.stage.velocity for h in problem.operator.spacing)
        if bool((corner_determinants(fine, spacing) > 0).all()):
            return state
        state = 0.97 * state
    return torch.zeros_like(state)
