"""Mutual information of two images: measured for given matrices, and maximised by ITK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from scipy.ndimage import map_coordinates

from nipype_quicksilver.preprocessing.brain_images import (
    FINEST,
    MARGIN,
    Pair,
    with_boundary,
)
from nipype_quicksilver.preprocessing.matrices import MODELS
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.resampling import conform
from nipype_quicksilver.spatial.transforms import affine_matrix

BINS = 32
SAMPLED = {8.0: 1.0, 4.0: 0.5, 2.0: 0.2}  # fraction of the voxels that are sampled, by voxel size


@dataclass(frozen=True)
class Comparison:
    """Two images on grids of the same spacing, ready for ITK's registration.

    Attributes
    ----------
    fixed, moving : SimpleITK.Image
        The images.
    inside : SimpleITK.Image
        Mask of the fixed image in which they are compared.
    center : ndarray
        Centre of rotations and scales, RAS mm.
    spacing : float
        Voxel size, mm, a key of :data:`SAMPLED`.
    """

    fixed: sitk.Image
    moving: sitk.Image
    inside: sitk.Image
    center: np.ndarray
    spacing: float

    def maximize(self, start: np.ndarray, dof: int, min_step: float) -> tuple[np.ndarray, float]:
        """Maximise the mutual information from a start.

        Parameters
        ----------
        start : ndarray
            4x4, maps fixed to moving points, RAS mm.
        dof : int
            Degrees of freedom, a key of `matrices.MODELS`.
        min_step : float
            Step of the optimiser at which it ends.

        Returns
        -------
        matrix : ndarray
            4x4, maps fixed to moving points, RAS mm.
        loss : float
            The negative mutual information.
        """
        registration = self._registration(min_step)
        transform = MODELS[dof](start, self.center)
        registration.SetInitialTransform(transform, inPlace=True)
        try:
            registration.Execute(self.fixed, self.moving)
        except RuntimeError:  # the images do not overlap, or have no contrast
            return start, 0.0
        return affine_matrix(transform), float(registration.GetMetricValue())

    def _registration(self, min_step: float) -> sitk.ImageRegistrationMethod:
        """Return ITK's registration with settings that converge.

        Plain gradient descent with a learning rate estimated at each iteration stops millimetres
        off.
        """
        method = sitk.ImageRegistrationMethod()
        # Sums depend on the number of threads.
        method.SetNumberOfThreads(1)
        method.SetNumberOfWorkUnits(1)
        method.SetMetricAsMattesMutualInformation(BINS)
        # Samples are jittered within voxels, with a seed; a fine grid needs few of them.
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(SAMPLED[self.spacing], seed=1)
        method.SetMetricFixedMask(self.inside)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0,
            minStep=min_step,
            numberOfIterations=400,
            relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-8,
            estimateLearningRate=method.Once,
            maximumStepSizeInPhysicalUnits=self.spacing,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        return method


def mutual_information_of_starts(
    volumes: Sequence[np.ndarray],
    inside: np.ndarray,
    grids: Sequence[Grid],
    starts: Sequence[np.ndarray],
) -> list[float]:
    """Return the mutual information of two volumes for each of several matrices."""
    values = volumes[0][inside]
    points = apply_affine(grids[0].affine, np.argwhere(inside))
    to_index = np.linalg.inv(grids[1].affine)
    return [
        mutual_information(
            values, map_coordinates(volumes[1], apply_affine(to_index @ start, points).T, order=1)
        )
        for start in starts
    ]


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mutual information of two samples of values from 0 to 1, nats."""
    index = [np.clip((v * BINS).astype(int), 0, BINS - 1) for v in (first, second)]
    counts = np.bincount(index[0] * BINS + index[1], minlength=BINS**2).reshape(BINS, BINS)
    joint = counts / first.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    occupied = joint > 0
    ratio = joint[occupied] / independent[occupied]
    return float(np.sum(joint[occupied] * np.log(ratio)))


def mutual_information_of_pair(pair: Pair, matrix: np.ndarray) -> float:
    """Return the mutual information of two images for a matrix, at 4 mm, nats."""
    spacing = 2 * FINEST
    grid = working_grid(pair[0].brain, spacing=spacing, margin_mm=MARGIN)
    first, second = (
        image.resampled(grid, m)[with_boundary(conform(pair[0].brain, grid) > 0.1, grid)]
        for image, m in zip(pair, (np.eye(4), matrix), strict=True)
    )
    return mutual_information(first, second)
