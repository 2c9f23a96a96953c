"""What LO does, and in which stages."""

from dataclasses import dataclass, field

from nipype_quicksilver.lddmm.kernel import Kernel
from nipype_quicksilver.lddmm.similarity import MeasureName


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
