"""What LO does, and in which stages."""

import math
from dataclasses import asdict, dataclass, field
from typing import Literal

MeasureName = Literal["lncc", "ssd", "mind"]
MEASURES: tuple[MeasureName, ...] = ("lncc", "ssd", "mind")


@dataclass(frozen=True)
class Kernel:
    """Parameters of the operator ``L`` and its power.

    Lengths are in the unit of the grid's spacing (millimetres on a working grid of 1 mm), so one
    kernel means the same smoothing on the full, the half and the quarter grid.

    Parameters
    ----------
    alpha : float
        Weight of the Laplacian; ``sqrt(alpha / gamma)`` is the kernel's length.
    beta : float
        Weight of ``grad div``; positive values resist compression more than shear.
    gamma : float
        Weight of the identity, positive; ``gamma ** -power`` is the gain at zero frequency.
    power : int
        Power of ``L``. Power 1 is the kernel of the original paper, whose Green's function has a
        kink at its centre; higher powers are smoother. The default, power 2 with a length of
        3 mm, gave the best overlap without folds.

    Examples
    --------
    >>> Kernel.original()
    Kernel(alpha=0.01, beta=0.01, gamma=0.001, power=1.0)
    """

    alpha: float = 0.225
    beta: float = 0.0
    gamma: float = 0.025
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0 or self.gamma <= 0:
            raise ValueError("a kernel needs alpha >= 0, beta >= 0 and gamma > 0")
        if self.power <= 0:
            raise ValueError("a kernel needs a positive power")
        if not all(map(math.isfinite, asdict(self).values())):
            raise ValueError("a kernel needs finite parameters")

    @classmethod
    def original(cls) -> "Kernel":
        """Return the parameters of the 2017 paper, for a grid of 1 mm."""
        return cls(alpha=0.01, beta=0.01, gamma=0.001, power=1.0)

    def as_dict(self) -> dict[str, float]:
        """Return the parameters by name, as they are stored with a momentum."""
        return asdict(self)


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
        At most so many looks at the images, with a step between each and the next: one alone
        only measures.
    """

    image: int
    velocity: int
    iterations: int

    def __post_init__(self) -> None:
        if self.velocity % self.image:
            raise ValueError("a stage's velocity grid is a whole multiple of its image grid")
        if self.iterations < 1:
            raise ValueError("a stage has at least one iteration")


DEFAULT_STAGES = (Stage(4, 4, 20), Stage(2, 4, 15), Stage(2, 2, 20), Stage(1, 2, 16))

# From a predicted momentum, what is left is fine.
REFINEMENT_STAGES = (Stage(1, 2, 2),)


def stages_onward(stages: tuple[Stage, ...], velocity: int) -> tuple[Stage, ...]:
    """Return a schedule that can go on from a momentum.

    Parameters
    ----------
    stages : tuple of Stage
    velocity : int
        The momentum lives on the working grid pooled by this factor.

    Returns
    -------
    tuple of Stage
        The same; if the momentum is finer than all of it, its last stage on the momentum's grid.

    Examples
    --------
    >>> stages_onward(REFINEMENT_STAGES, 4) == REFINEMENT_STAGES
    True
    >>> stages_onward(REFINEMENT_STAGES, 1)
    (Stage(image=1, velocity=1, iterations=2),)
    """
    if any(velocity % stage.velocity == 0 for stage in stages):
        return stages
    last = stages[-1]
    return (Stage(min(last.image, velocity), velocity, last.iterations),)


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
        Of Adam on ``w`` when a velocity grid is entered; it falls to a tenth on that grid.
    largest_step : float
        The part of a voxel of its grid by which an iteration changes the velocity at most, and no
        more than half as much again anywhere.
    tolerance : float
        A stage ends early when the loss fell by less than this fraction of itself over
        the last `PATIENCE` iterations.
    """

    stages: tuple[Stage, ...] = DEFAULT_STAGES
    kernel: Kernel = field(default_factory=Kernel)
    steps: int = 3
    similarity: MeasureName = "lncc"
    regularization: float = 2.4
    learning_rate: float = 0.06
    largest_step: float = 0.4
    tolerance: float = 1e-4

    @property
    def velocity(self) -> int:
        """Factor from the working grid to the grid of the momentum that comes out."""
        return self.stages[-1].velocity


#: Schedules by name: from nothing, and from a predicted momentum, of which longer first steps
#: would lose what was predicted.
SCHEDULES = {
    "full": Settings(),
    "refine": Settings(stages=REFINEMENT_STAGES, learning_rate=0.1, largest_step=0.2),
}
