"""Settings of the optimisation: similarity measure, kernel and coarse-to-fine stages."""

import math
from dataclasses import asdict, dataclass, field, fields

#: Similarity measures by name, and what they compare; their classes are in `lddmm.similarity`.
MEASURES = {
    "lncc": "local correlation, for one contrast",
    "ssd": "squared differences",
    "mind": "self-similarity, for different contrasts",
}


# Bounds of a kernel. Larger powers and gains (exponent of ten) leave the range of single precision;
# a length scale of a metre moves a whole body like one point.
LARGEST_POWER, LARGEST_LENGTH, LARGEST_GAIN = 8.0, 1000.0, 12

# Time steps of a geodesic. Three to ten are enough; a hundred times as many are for studies of
# convergence, and more would only take for ever.
LARGEST_STEPS = 1000


def check_steps(steps: int) -> None:
    """Raise an error if a geodesic cannot be shot in a number of time steps.

    Parameters
    ----------
    steps : int
        From 1 to `LARGEST_STEPS`.

    Raises
    ------
    ValueError
        If it is not.
    """
    if type(steps) is not int or not 1 <= steps <= LARGEST_STEPS:
        raise ValueError(f"a geodesic has 1 to {LARGEST_STEPS} time steps, not {steps}")


@dataclass(frozen=True)
class Kernel:
    """Parameters of the kernel ``K = L^-power`` with ``L = -alpha Lap - beta grad div + gamma``.

    Lengths are in the unit of the grid's spacing (millimetres on a working grid of 1 mm), so that
    one kernel smooths equally on the full, the half and the quarter grid.

    Parameters
    ----------
    alpha : float
        Weight of the Laplacian; ``sqrt(alpha / gamma)`` is the length scale of the kernel.
    beta : float
        Weight of ``grad div``; positive values resist compression more than shear.
    gamma : float
        Weight of the identity, positive; ``gamma ** -power`` is the gain at zero frequency.
    power : float
        Power of ``L``. Power 1 is the kernel of the original paper, whose Green's function has a
        kink at its centre; higher powers are smoother. The default, power 2 with a length scale
        of 3 mm, gave the best overlap without folds.

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
        length = math.sqrt(max(self.alpha, self.beta) / self.gamma)
        if self.power > LARGEST_POWER or length > LARGEST_LENGTH:
            raise ValueError(
                f"a kernel has a power of at most {LARGEST_POWER:g} and a length scale of at most "
                f"{LARGEST_LENGTH:g} mm, not {self.power:g} and {length:.3g} mm"
            )
        if abs(math.log10(self.gamma)) * self.power > LARGEST_GAIN:
            gain = f"{self.gamma:g}^-{self.power:g}"
            raise ValueError(f"a kernel has a gain of at most 1e{LARGEST_GAIN}, not {gain}")

    @classmethod
    def original(cls) -> "Kernel":
        """Return the parameters of the 2017 paper, for a grid of 1 mm."""
        return cls(alpha=0.01, beta=0.01, gamma=0.001, power=1.0)

    def as_dict(self) -> dict[str, float]:
        """Return the parameters by name, as they are stored with a momentum."""
        return asdict(self)


#: Names of the parameters of a kernel, in their order.
KERNEL_PARAMETERS = tuple(parameter.name for parameter in fields(Kernel))


@dataclass(frozen=True)
class Stage:
    """One stage of the coarse-to-fine schedule.

    Attributes
    ----------
    image : int
        The images are pooled by this factor; 1 is the working grid itself.
    velocity : int
        Momentum and velocity are on the working grid pooled by this factor, a multiple of
        `image`.
    iterations : int
        Largest number of evaluations of the loss, with a step between each and the next: with 1
        the loss is evaluated, but the momentum is not changed.
    """

    image: int
    velocity: int
    iterations: int

    def __post_init__(self) -> None:
        if self.velocity % self.image:
            raise ValueError(
                "the velocity factor of a stage must be a multiple of its image factor"
            )
        if self.iterations < 1:
            raise ValueError("a stage needs at least one iteration")


DEFAULT_STAGES = (Stage(4, 4, 20), Stage(2, 4, 15), Stage(2, 2, 20), Stage(1, 2, 16))

# From a predicted momentum: what remains to be corrected is fine detail.
REFINEMENT_STAGES = (Stage(1, 2, 2),)


def stages_from(stages: tuple[Stage, ...], velocity: int) -> tuple[Stage, ...]:
    """Return a schedule that can start from a momentum.

    Parameters
    ----------
    stages : tuple of Stage
    velocity : int
        The momentum is on the working grid pooled by this factor.

    Returns
    -------
    tuple of Stage
        The given stages; if the momentum is on a finer grid than all of them, only the last stage,
        moved to the momentum's grid.

    Examples
    --------
    >>> stages_from(REFINEMENT_STAGES, 4) == REFINEMENT_STAGES
    True
    >>> stages_from(REFINEMENT_STAGES, 1)
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
    similarity : str
        Similarity measure, a key of :data:`MEASURES`.
    regularization : float
        Weight of the energy ``<m0, K m0>``, relative to a dissimilarity of 1 per cubic
        millimetre in which the images are compared.
    learning_rate : float
        Initial learning rate of Adam for the whitened momentum on each velocity grid; it decays to
        a tenth on that grid.
    largest_step : float
        Bound on the change of the velocity in one iteration, in voxels of its grid; it may be
        exceeded by a factor of `descent.OVERSHOOT`.
    tolerance : float
        A stage ends early if the relative decrease of the loss over the last
        `optimize.PATIENCE` iterations is not larger.
    """

    stages: tuple[Stage, ...] = DEFAULT_STAGES
    kernel: Kernel = field(default_factory=Kernel)
    steps: int = 3
    similarity: str = "lncc"
    regularization: float = 2.4
    learning_rate: float = 0.06
    largest_step: float = 0.4
    tolerance: float = 1e-4

    @property
    def velocity(self) -> int:
        """Factor by which the grid of the resulting momentum is coarser than the working grid."""
        return self.stages[-1].velocity


#: Schedules by name: ``full`` starts from the identity, ``refine`` from a predicted momentum, which
#: longer first steps would destroy.
SCHEDULES = {
    "full": Settings(),
    "refine": Settings(stages=REFINEMENT_STAGES, learning_rate=0.1, largest_step=0.2),
}
