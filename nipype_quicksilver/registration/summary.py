"""The summary of a registration: what was done, and how well it went, with JSON in and out.

A registration writes it as ``summary.json``; reports, cohorts and evaluations read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.jacobians import JacobianSummary
from nipype_quicksilver.spatial.measures import OverlapSummary, Spread


@dataclass(frozen=True)
class GridSummary:
    """A grid: shape, spacing (mm), and affine (4x4, index to RAS mm)."""

    shape: list[int]
    spacing: list[float]
    affine: list[list[float]]

    @classmethod
    def of(cls, grid: Grid) -> GridSummary:
        """Describe a grid."""
        return cls(list(grid.shape), list(grid.spacing), grid.affine.tolist())


@dataclass(frozen=True)
class MaskSummary:
    """A mask.

    Attributes
    ----------
    file : str or None
        Its path; None where none was given.
    used : bool
        Whether a file was given and covers something.
    voxels : int
        Number of voxels that it covers on the working grid.
    """

    file: str | None
    used: bool
    voxels: int


@dataclass(frozen=True)
class Similarity:
    """Similarity of the images without and with the deformation.

    Attributes
    ----------
    measure : str
        Its name.
    before, after : float
        With the affine only; with the deformation as well.
    """

    measure: str
    before: float
    after: float


@dataclass(frozen=True)
class Energy:
    """Kinetic energy <m, K m>: at the start of a geodesic, and along it, where it is constant."""

    initial: float
    path: list[float]


@dataclass(frozen=True)
class StageSummary:
    """A stage of an optimisation that ran.

    Attributes
    ----------
    stage : int
        Its number, from 1.
    iterations, iterations_at_most : int
        How many were done, of how many.
    converged : bool
        Whether the loss had converged.
    loss, energy, dissimilarity : list of float
        At the first and at the last iteration.
    smallest_jacobian : float
        At the last iteration.
    """

    stage: int
    iterations: int
    iterations_at_most: int
    converged: bool
    loss: list[float]
    energy: list[float]
    dissimilarity: list[float]
    smallest_jacobian: float


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What the momentum was estimated with.

    Attributes
    ----------
    method : str
        A key of `options.METHODS`.
    networks, corrections, samples
        Of a prediction; None without one.
    stages, similarity, regularization, learning_rate, largest_step, tolerance
        Of an optimisation, see `lddmm.settings.Settings`; None without one.
    kernel : dict
        Parameters of the kernel, see `lddmm.settings.Kernel`.
    steps : int
        Time steps of the geodesic.
    share_of_prediction : float or None
        Fraction of the predicted deformation that was taken; None without a prediction.
    contrast_exchanged : str or None
        ``fixed`` or ``moving``: the image whose dark and bright were exchanged.
    device : str
        Where it was computed.
    threads : dict
        Of ``torch`` and ``itk``.
    seed : int
        Of random numbers.
    interpolation : str or None
        Of the warped images; None where none was warped.
    """

    method: str
    networks: list[str] | None = None
    corrections: int | None = None
    samples: int | None = None
    kernel: dict[str, float]
    steps: int
    stages: list[dict[str, int]] | None = None
    similarity: str | None = None
    regularization: float | None = None
    learning_rate: float | None = None
    largest_step: float | None = None
    tolerance: float | None = None
    share_of_prediction: float | None
    contrast_exchanged: str | None
    device: str
    threads: dict[str, int]
    seed: int
    interpolation: str | None = None


@dataclass(frozen=True)
class TemplateSummary:
    """The template on whose grid images are compared.

    Attributes
    ----------
    file : str
        Its path or name.
    used : bool
        False where the brains do not fit it, so that they were compared in their own world.
    brain : BrainSummary or None
        How its brain was extracted.
    affine : AffineSummary or None
        How it was aligned to the fixed image; None where the headers do.
    matrix : list
        4x4, maps points of the template to fixed points, RAS mm.
    """

    file: str
    used: bool
    brain: BrainSummary | None = None
    affine: AffineSummary | None = None
    matrix: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Preprocessing:
    """How brains and affines were estimated; None where nothing was done."""

    fixed_brain: BrainSummary | None = None
    moving_brain: BrainSummary | None = None
    affine: AffineSummary | None = None
    template: TemplateSummary | None = None


@dataclass(frozen=True)
class Overlaps:
    """Overlap of labels with the affine only, and with the deformation."""

    before: OverlapSummary
    after: OverlapSummary


@dataclass(frozen=True)
class Reuse:
    """Whether a momentum was found in the work folder."""

    reused: bool


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """How a momentum was estimated.

    Attributes
    ----------
    parameters : Parameters
        Method, networks, settings.
    working_grid, velocity_grid : GridSummary
        Where images are compared, and where the momentum lives.
    masks : dict
        :class:`MaskSummary` of ``fixed_mask``, ``moving_mask``, ``fixed_lesion_mask`` and
        ``moving_lesion_mask``.
    similarity : Similarity
        At half resolution of the working grid.
    energy : Energy
        Of the geodesic.
    stages : list of StageSummary
        Of the optimisation; empty without one.
    momentum : Reuse or None
        None without a work folder.
    """

    parameters: Parameters
    working_grid: GridSummary
    velocity_grid: GridSummary
    masks: dict[str, MaskSummary]
    similarity: Similarity
    energy: Energy
    stages: list[StageSummary]
    momentum: Reuse | None = None


@dataclass(frozen=True, kw_only=True)
class MomentumSummary(FitSummary):
    """How the momentum between two conformed images was estimated.

    Attributes
    ----------
    versions : dict
        Of this package, its libraries and Python.
    inputs : dict
        Path of each input by its name, None where there is none.
    seconds : dict
        Wall-clock seconds of each part, and ``total``.
    """

    versions: dict[str, str]
    inputs: dict[str, str | None]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class RegistrationSummary(MomentumSummary):
    """A registration of two images.

    Attributes
    ----------
    jacobian : JacobianSummary
        Of the map on the fixed image's grid, in its brain.
    inverse_consistency_mm : Spread
        Distance from each voxel of the fixed brain to where map and inverse map lead it.
    labels : Overlaps or None
        Of labels that were given for both images.
    uncertainty_mm : Spread or None
        In the fixed brain, with samples.
    cpu_seconds : dict
        CPU seconds of each part.
    preprocessing : Preprocessing
        How brains and affines were estimated.
    affine_matrix : list
        4x4, maps fixed to moving points, RAS mm.
    sha256 : dict
        Of each input by its name; of the networks, a list.
    started : str
        When the registration started (UTC, ISO 8601).
    warnings : list of str
        What the registration warned of.
    command : str or None
        The command line; None where it was not a command.
    """

    jacobian: JacobianSummary
    inverse_consistency_mm: Spread
    labels: Overlaps | None = None
    uncertainty_mm: Spread | None = None
    cpu_seconds: dict[str, float]
    preprocessing: Preprocessing
    affine_matrix: list[list[float]]
    sha256: dict[str, Any]
    started: str
    warnings: list[str]
    command: str | None = None


def with_total(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of all parts with their sum as ``total``.

    Examples
    --------
    >>> with_total({"read": 1.0, "write": 2.0, "total": 1.0})
    {'read': 1.0, 'write': 2.0, 'total': 3.0}
    """
    parts = {name: value for name, value in seconds.items() if name != "total"}
    return {**parts, "total": sum(parts.values())}
