"""The outcome of a demonstration: a registration and its distance from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nipype_quicksilver.demo.phantom import Pair
from nipype_quicksilver.registration import Registration
from nipype_quicksilver.spatial.jacobians import JacobianSummary


@dataclass(frozen=True)
class Distances:
    """Statistics of distances from the truth, mm: mean, 95th percentile and maximum."""

    mean: float
    p95: float
    max: float


@dataclass(frozen=True)
class LargestError:
    """Where the error of the map is largest.

    Attributes
    ----------
    error_mm : float
        The error there.
    position_mm : list of float
        RAS mm.
    tissue : str
        Tissue at this position.
    border_mm : float
        Distance to the nearest other tissue, mm.
    """

    error_mm: float
    position_mm: list[float]
    tissue: str
    border_mm: float


@dataclass(frozen=True)
class Numbers:
    """Measures of a demonstration, as ``demo.json`` holds them.

    Attributes
    ----------
    seed : int
        Of the random geodesic.
    method : str
        Of the registration.
    error_mm : dict
        :class:`Distances` of the map from the truth over the fixed brain, ``before`` and ``after``.
    largest_error : LargestError
        Of the estimated map.
    local_correlation : dict
        Similarity of the images, ``before`` and ``after``.
    dice : dict
        Dice coefficients, ``before`` and ``after``, by tissue.
    jacobian : JacobianSummary
        Of the estimated map, in the fixed brain.
    seconds : dict
        Wall-clock seconds of each part, and ``total``.
    """

    seed: int
    method: str
    error_mm: dict[str, Distances]
    largest_error: LargestError
    local_correlation: dict[str, float]
    dice: dict[str, dict[str, float | None]]
    jacobian: JacobianSummary
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A registration and its distance from the truth.

    Attributes
    ----------
    pair : Pair
        The images.
    registration : Registration
        Its result.
    error : dict
        ``before`` and ``after``: distance of the map from the true one at each voxel of the
        images, (X, Y, Z), float32, mm.
    numbers : Numbers
        Its measures.
    """

    pair: Pair
    registration: Registration
    error: dict[str, np.ndarray]
    numbers: Numbers
