"""The summary of a registration: its inputs, parameters and measures.

A registration writes it as ``summary.json``; reports, cohorts and evaluations read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from warnings import warn

import numpy as np

from nipype_quicksilver.lddmm.settings import KERNEL_PARAMETERS, Kernel, check_steps
from nipype_quicksilver.options import DEFORMABLE
from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.jacobians import JacobianSummary
from nipype_quicksilver.spatial.magnification import scaling
from nipype_quicksilver.spatial.measures import OverlapSummary, Spread
from nipype_quicksilver.spatial.records import as_json
from nipype_quicksilver.spatial.tables import whole


@dataclass(frozen=True)
class GridSummary:
    """A grid: shape, spacing (mm), and affine (4x4, index to RAS mm)."""

    shape: list[int]
    spacing: list[float]
    affine: list[list[float]]

    def __post_init__(self) -> None:
        _check(len(self.shape) == len(self.spacing) == 3, "a grid has three axes")
        _check_matrix("affine", self.affine)

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
        Its path; None if there is no file.
    used : bool
        Whether there is a file with nonzero voxels.
    voxels : int
        Number of its voxels on the working grid.
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
        With the affine only, and with the deformation.
    """

    measure: str
    before: float
    after: float


@dataclass(frozen=True)
class Energy:
    """Kinetic energy <m, K m>: at the start of a geodesic, and along it; it should be constant."""

    initial: float
    path: list[float]


@dataclass(frozen=True)
class StageSummary:
    """Summary of a stage of an optimisation.

    Attributes
    ----------
    stage : int
        Its number, from 1.
    iterations, iterations_at_most : int
        Number of iterations, and its maximum.
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
    """Parameters of the estimate of a momentum; if it is reused, those of the earlier run.

    Attributes
    ----------
    method : str or None
        A key of `methods.METHODS`; None without a deformation.
    transform : str
        A key of `options.TRANSFORMS`.
    networks, corrections, samples
        Of the prediction; None without a prediction.
    stages, similarity, regularization, learning_rate, largest_step, tolerance
        Of the optimisation, see `lddmm.settings.Settings`; None without an optimisation.
    kernel : dict
        Parameters of the kernel, see `lddmm.settings.Kernel`.
    steps : int
        Time steps of the geodesic.
    share_of_prediction : float or None
        Fraction of the predicted deformation that was used; None without a prediction.
    contrast_exchanged : str or None
        ``fixed`` or ``moving``: the image whose dark and bright were exchanged; None if neither.
    device : str
        Device of the computation.
    threads : dict
        Numbers of threads of ``torch`` and ``itk``.
    seed : int
        Seed of the random numbers.
    interpolation : str or None
        Interpolation of the warped images; None if no image was warped.
    """

    method: str | None
    transform: str = DEFORMABLE
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

    def __post_init__(self) -> None:
        _check(set(self.kernel) == set(KERNEL_PARAMETERS), "the kernel lacks a parameter")
        Kernel(**self.kernel)
        check_steps(self.steps)


@dataclass(frozen=True)
class TemplateSummary:
    """The template on whose grid images are compared.

    Attributes
    ----------
    file : str
        Its path or name.
    used : bool
        False if the brains do not fit it, so that they were compared in their own space.
    brain : BrainSummary or None
        How its brain was extracted.
    affine : AffineSummary or None
        How it was aligned to the fixed image; None if the headers align it.
    matrix : list
        4x4, maps points of the template to fixed points, RAS mm.
    """

    file: str
    used: bool
    brain: BrainSummary | None = None
    affine: AffineSummary | None = None
    matrix: list[list[float]] = field(default_factory=lambda: np.eye(4).tolist())

    def __post_init__(self) -> None:
        _check_matrix("matrix of the template", self.matrix)


@dataclass(frozen=True)
class Preprocessing:
    """How brains and affines were estimated; None for steps that were not needed."""

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
    """Whether a momentum was reused from the work folder."""

    reused: bool


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """How a momentum was estimated.

    Attributes
    ----------
    parameters : Parameters
        Method, networks, settings.
    working_grid, velocity_grid : GridSummary
        Grid of the images, and grid of the momentum.
    masks : dict
        :class:`MaskSummary` of ``fixed_mask``, ``moving_mask``, ``fixed_lesion_mask`` and
        ``moving_lesion_mask``.
    similarity : Similarity
        At half the resolution of the working grid.
    energy : Energy
        Of the geodesic.
    stages : list of StageSummary
        Of the optimisation; empty without one.
    momentum : Reuse or None
        Whether the momentum was reused; None without a work folder.
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
        Path of each input by name; None if there is no such input.
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
        Distance, mm, of each voxel of the fixed brain to its image by the map and its inverse.
    labels : Overlaps or None
        Of the labels, if both images have them.
    uncertainty_mm : Spread or None
        In the fixed brain, with samples.
    deformation_mm : Spread or None
        Distance that the deformation, without the affine, moves the voxels of the fixed brain; None
        without a deformation.
    cpu_seconds : dict
        CPU seconds of each part.
    preprocessing : Preprocessing
        How brains and affines were estimated.
    affine_matrix : list
        4x4, maps fixed to moving points, RAS mm.
    magnification : float
        Factor by which brains are enlarged on the working grid, see `spatial.magnification`.
    sha256 : dict
        Of each input by name; a list for the networks.
    options : dict
        All options of the registration that are not None, by name.
    started : str
        When the registration started (UTC, ISO 8601).
    warnings : list of str
        Messages of all warnings.
    files : dict or None
        Bytes of the other files of its folder by name, once it was written: what a later run may
        replace or remove.
    command : str or None
        Command line; None for a registration by the Python API.
    """

    jacobian: JacobianSummary
    inverse_consistency_mm: Spread
    labels: Overlaps | None = None
    uncertainty_mm: Spread | None = None
    deformation_mm: Spread | None = None
    cpu_seconds: dict[str, float]
    preprocessing: Preprocessing
    affine_matrix: list[list[float]]
    magnification: float = 1.0
    sha256: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    started: str
    warnings: list[str]
    command: str | None = None
    files: dict[str, int] | None = None

    def to_fixed(self) -> np.ndarray:
        """Return the 4x4 matrix that maps points of the working grid to fixed points, RAS mm."""
        template = self.preprocessing.template
        matrix = np.array(template.matrix) if template is not None and template.used else np.eye(4)
        return matrix @ scaling(1 / self.magnification)

    def __post_init__(self) -> None:
        # What reports read, beyond the types: a summary may come from a file.
        _check_matrix("affine_matrix", self.affine_matrix)
        _check(0 < self.magnification < math.inf, "magnification is not a factor")
        for name in ("nipype-quicksilver", "torch", "SimpleITK"):
            _check(name in self.versions, f"versions lack {name}")
        for name, known in self.sha256.items():
            hashes = known if name == "networks" and isinstance(known, list) else [known]
            _check(all(isinstance(h, str | None) for h in hashes), f"sha256.{name} is not a hash")
        for overlap in () if self.labels is None else (self.labels.before, self.labels.after):
            for label in overlap.labels:
                whole(label)

    def __getitem__(self, name: str) -> Any:
        """Return a value as in ``summary.json``; the summary was a dictionary in version 0.1."""
        warn(
            f"the summary has attributes since version 0.2: use summary.{name} instead of "
            f"summary['{name}'], which goes with version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return as_json(self)[name]


def _check_matrix(name: str, rows: list[list[float]]) -> None:
    """Raise an error if these are not the rows of an invertible 4x4 matrix."""
    matrix = np.array(rows) if [len(row) for row in rows] == [4] * 4 else np.zeros((4, 4))
    valid = np.isfinite(matrix).all() and np.linalg.det(matrix[:3, :3]) != 0
    _check(bool(valid), f"{name} is not an invertible 4x4 matrix")


def _check(condition: bool, reason: str) -> None:
    """Raise an error if a value of a summary is not valid."""
    if not condition:
        raise ValueError(reason)


def with_total(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of all parts with their sum as ``total``.

    Parameters
    ----------
    seconds : mapping
        Seconds by part; an earlier ``total`` is replaced.

    Returns
    -------
    dict
        Seconds by part, and ``total``.

    Examples
    --------
    >>> with_total({"read": 1.0, "write": 2.0, "total": 1.0})
    {'read': 1.0, 'write': 2.0, 'total': 3.0}
    """
    parts = {name: value for name, value in seconds.items() if name != "total"}
    return {**parts, "total": sum(parts.values())}
