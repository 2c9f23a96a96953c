"""A random geodesic: the deformation that the demonstration has to recover."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image
from scipy.ndimage import gaussian_filter

from nipype_quicksilver.registration.shooting import shoot_momentum
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.images import nifti
from nipype_quicksilver.spatial.jacobians import minimum_jacobian
from nipype_quicksilver.spatial.momentum import Momentum
from nipype_quicksilver.spatial.resampling import conform
from nipype_quicksilver.spatial.transforms import displacement_transform

if TYPE_CHECKING:
    import torch

PEAK = 8.0  # mm, largest displacement in the brain
SMALLEST_JACOBIAN = 0.2  # nothing shrinks to less than this fraction of its volume

# Not the kernel of the registration: the truth must not lie in the space of its solutions.
KERNEL = {"alpha": 25.0, "beta": 0.0, "gamma": 1.0, "power": 2.0}
STEPS = 8

_SPACING = 3.0  # mm
_MARGIN = 24.0  # mm around the brain, in which the deformation fades
_WAVELENGTH = 26.0  # mm; shorter waves are damped
_RIM = 6.0  # mm, over which the momentum fades at the brain's edge
_MOMENTUM_STD = 7.0  # of a momentum whose largest displacement is about `PEAK`
_TOLERANCE = 0.03  # accepted deviation from the requested peak, as a fraction of it
_MAX_SHOTS = 4  # to reach the requested peak


@dataclass(frozen=True, eq=False)
class TrueGeodesic:
    """A known deformation.

    Attributes
    ----------
    momentum : Momentum
        Initial momentum, with kernel and grid, as ``quicksilver shoot`` reads it.
    displacement : ndarray
        (X, Y, Z, 3), RAS mm, on ``momentum.grid``: phi^-1, fixed to moving points.
    """

    momentum: Momentum
    displacement: np.ndarray

    @property
    def transform(self) -> sitk.DisplacementFieldTransform:
        """The map phi^-1 of points, fixed to moving, in LPS."""
        return displacement_transform(self.displacement, self.momentum.grid)


def random_geodesic(
    brain: Nifti1Image, seed: int, device: torch.device, *, peak: float = PEAK
) -> TrueGeodesic:
    """Shoot a random momentum.

    The momentum is noise whose short waves are damped, inside the brain only.

    Parameters
    ----------
    brain : Nifti1Image
        (X, Y, Z), nonzero in the brain.
    seed : int
        Seed of the noise.
    device : torch.device
        Where to compute; the noise is the same on all.
    peak : float
        Largest displacement in the brain, mm, to a few per cent; it is less if volumes would
        shrink to less than a fifth.

    Returns
    -------
    TrueGeodesic
        Deformation without folds.
    """
    mask = nifti((np.asanyarray(brain.dataobj) != 0).astype(np.float32), brain.affine)
    grid = working_grid(mask, spacing=_SPACING, margin_mm=_MARGIN)
    inside = conform(mask, grid)
    noise = _noise(grid, seed) * gaussian_filter(inside, _RIM / _SPACING)[..., None]
    displacement = _shoot(noise, grid, device)
    for attempt in itertools.count(1):
        reached = float(np.linalg.norm(displacement[inside > 0.5], axis=-1).max())
        if minimum_jacobian(displacement, grid).min() < SMALLEST_JACOBIAN:
            peak = 0.7 * reached
        elif attempt >= _MAX_SHOTS or abs(reached - peak) < _TOLERANCE * peak:
            break
        noise = noise * np.float32(peak / reached)
        displacement = _shoot(noise, grid, device)
    return TrueGeodesic(_momentum(noise, grid), displacement)


def _noise(grid: Grid, seed: int) -> np.ndarray:
    """Return a random vector field (X, Y, Z, 3) with its short waves damped, float32.

    It is scaled so that its geodesic displaces by some millimetres.
    """
    white = np.random.default_rng([seed, 0]).standard_normal((*grid.shape, 3))
    sigma = _WAVELENGTH / (2 * np.pi) / np.array(grid.spacing)
    smooth = np.stack([gaussian_filter(white[..., c], sigma, mode="wrap") for c in range(3)], -1)
    return (_MOMENTUM_STD * smooth / smooth.std()).astype(np.float32)


def _momentum(data: np.ndarray, grid: Grid) -> Momentum:
    return Momentum(data, grid, dict(KERNEL), STEPS, working_grid=grid)


def _shoot(data: np.ndarray, grid: Grid, device: torch.device) -> np.ndarray:
    return shoot_momentum(_momentum(data, grid), device).inverse
