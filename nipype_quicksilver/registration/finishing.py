"""Results on the native grids: transforms, warped images, labels and measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.options import RegistrationOptions
from nipype_quicksilver.registration.fit import Fit
from nipype_quicksilver.registration.pair import Pair
from nipype_quicksilver.registration.preparation import Prepared
from nipype_quicksilver.registration.summary import Overlaps
from nipype_quicksilver.registration.warping import (
    move_points,
    pull_back,
    pull_back_labels,
    uncertainty_on_image,
)
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti
from nipype_quicksilver.spatial.jacobians import JacobianSummary, jacobian_summary, log_jacobian
from nipype_quicksilver.spatial.measures import (
    OverlapSummary,
    Spread,
    label_overlap,
    standard_deviation,
)
from nipype_quicksilver.spatial.momentum import Momentum
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import (
    affine_transform,
    compose,
    displacement_on_grid,
    displacement_transform,
)

Composite = sitk.CompositeTransform


@dataclass(frozen=True, eq=False)
class Warped:
    """Results of a registration on native grids, with their measures.

    For the other attributes see `results.Registration`.

    Attributes
    ----------
    jacobian : JacobianSummary
        Of `displacement` in the fixed brain.
    inverse_consistency : Spread
        In the fixed brain, mm.
    overlaps : Overlaps or None
        Of the labels, if both images have them.
    uncertainty_spread : Spread or None
        In the fixed brain, mm.
    deformation : Spread or None
        Distance that the deformation moves voxels of the fixed brain, mm.
    """

    warped: np.ndarray
    inverse_warped: np.ndarray
    labels: np.ndarray | None
    composite: Composite
    inverse_composite: Composite
    displacement: np.ndarray
    inverse_displacement: np.ndarray
    log_jacobian: np.ndarray
    momentum: Momentum
    jacobian: JacobianSummary
    inverse_consistency: Spread
    overlaps: Overlaps | None
    uncertainty: np.ndarray | None = None
    uncertainty_components: np.ndarray | None = None
    uncertainty_spread: Spread | None = None
    deformation: Spread | None = None


def finish(
    pair: Pair, prepared: Prepared, fit: Fit, options: RegistrationOptions, clock: Clock
) -> Warped:
    """Compute the results on the native grids, with one resampling, and measure them.

    Parameters
    ----------
    pair : Pair
        The scans, aligned.
    prepared : Prepared
        The scans on the working grid.
    fit : Fit
        Momentum and maps.
    options : RegistrationOptions
        Interpolation, and whether to return the components of the uncertainty.
    clock : Clock
        Records the time spent in ``resample`` and ``measure``.

    Returns
    -------
    Warped
        Results and their measures.
    """
    fixed, moving, interpolation = pair.fixed, pair.moving, options["interpolation"]
    composite, inverse = _transforms(fit, pair)
    fixed_grid, moving_grid = Grid.from_image(fixed.image), Grid.from_image(moving.image)
    with clock.part("resample"):
        displacement = displacement_on_grid(composite, fixed_grid)
        inverse_displacement = displacement_on_grid(inverse, moving_grid)
        if interpolation == "Linear":
            warped = _pull_back(moving.image, displacement, fixed_grid)
            inverse_warped = _pull_back(fixed.image, inverse_displacement, moving_grid)
        else:
            warped = resample(moving.image, fixed_grid, composite, interpolation=interpolation)
            inverse_warped = resample(
                fixed.image, moving_grid, inverse, interpolation=interpolation
            )
        labels = _warp_labels(pair, displacement)
    with clock.part("measure"):
        logarithm = log_jacobian(displacement, fixed_grid)
        brain = np.asanyarray(prepared.fixed_brain.dataobj) != 0
        jacobian = jacobian_summary(displacement, fixed_grid, brain, logarithm)
        consistency = _inverse_consistency(pair, fit, displacement, brain)
        deformation = _deformation(pair, displacement, brain) if fit.deforms else None
        overlaps = None
        if fixed.labels is not None and labels is not None:
            overlaps = _compare_labels(pair, fixed.labels, labels)
    uncertainty = components = spread = None
    if fit.variance is not None:
        both = options["uncertainty_components"]
        uncertainty, components = _uncertainty(pair, prepared, fit.variance, both)
        spread = Spread.of(uncertainty[brain].astype(float))
    return Warped(
        warped=warped,
        inverse_warped=inverse_warped,
        labels=labels,
        composite=composite,
        inverse_composite=inverse,
        displacement=displacement,
        inverse_displacement=inverse_displacement,
        log_jacobian=logarithm,
        momentum=fit.momentum,
        jacobian=jacobian,
        inverse_consistency=consistency,
        overlaps=overlaps,
        uncertainty=uncertainty,
        uncertainty_components=components,
        uncertainty_spread=spread,
        deformation=deformation,
    )


def _transforms(fit: Fit, pair: Pair) -> tuple[Composite, Composite]:
    """Return the maps of fixed to moving points and of moving to fixed points.

    The first is composed of the affine to the working grid, the field, and the affine; it is the
    affine alone without a deformation.
    """
    if not fit.deforms:
        matrices = (pair.matrix, np.linalg.inv(pair.matrix))
        first, second = (compose([affine_transform(matrix)]) for matrix in matrices)
        return first, second
    grid = fit.momentum.working_grid
    forward: list[sitk.Transform] = [displacement_transform(fit.maps.inverse, grid)]
    inverse: list[sitk.Transform] = [displacement_transform(fit.maps.forward, grid)]
    # The last transform of a list is applied first.
    if pair.affine is not None or pair.frame is not None:
        forward.insert(0, affine_transform(pair.to_moving))
        inverse.append(affine_transform(np.linalg.inv(pair.to_moving)))
    if pair.frame is not None:
        forward.append(affine_transform(np.linalg.inv(pair.to_fixed)))
        inverse.insert(0, affine_transform(pair.to_fixed))
    return compose(forward), compose(inverse)


def _uncertainty(
    pair: Pair, prepared: Prepared, variance: np.ndarray, both: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the uncertainty, mm, and, if asked for, the variances of its components.

    Both are on the fixed image's grid.

    The components are those along the axes of the working grid, also on other grids.
    """

    def on_image(values: np.ndarray) -> np.ndarray:
        on_working = nifti(values, prepared.grid.affine)
        return uncertainty_on_image(on_working, pair.to_fixed, Grid.from_image(pair.fixed.image))

    return on_image(standard_deviation(variance)), on_image(variance) if both else None


def _warp_labels(pair: Pair, displacement: np.ndarray) -> np.ndarray | None:
    """Return the moving labels on the fixed image's grid."""
    if pair.moving.labels is None:
        return None
    labels, source = np.asanyarray(pair.moving.labels.dataobj), Grid.from_image(pair.moving.image)
    return pull_back_labels(labels, source, displacement, Grid.from_image(pair.fixed.image))


def _compare_labels(pair: Pair, target: Nifti1Image, warped: np.ndarray) -> Overlaps:
    """Return the overlap of labels with the affine only, and with the deformation."""

    def overlap(labels: np.ndarray | None) -> OverlapSummary:
        assert labels is not None
        return label_overlap(target, nifti(labels, target.affine))

    affine = displacement_on_grid(affine_transform(pair.matrix), Grid.from_image(target))
    return Overlaps(overlap(_warp_labels(pair, affine)), overlap(warped))


def _pull_back(image: Nifti1Image, displacement: np.ndarray, grid: Grid) -> np.ndarray:
    return pull_back(np.asanyarray(image.dataobj), Grid.from_image(image), displacement, grid)


def _inverse_consistency(
    pair: Pair, fit: Fit, displacement: np.ndarray, brain: np.ndarray
) -> Spread:
    """Return the distance of points to their images by the map and its inverse, mm."""
    start = apply_affine(pair.fixed.image.affine, np.argwhere(brain))
    mapped = start + displacement[brain]
    before_field = apply_affine(np.linalg.inv(pair.to_moving), mapped)
    after_field = move_points(before_field, fit.maps.forward, fit.momentum.working_grid)
    end = apply_affine(pair.to_fixed, after_field)
    return Spread.of(np.linalg.norm(end - start, axis=-1))


def _deformation(pair: Pair, displacement: np.ndarray, brain: np.ndarray) -> Spread:
    """Return how far the map moves the voxels of a brain beyond the affine, mm of the fixed image.

    It is the distance of each voxel to the point that the affine alone maps to the same place.
    """
    start = apply_affine(pair.fixed.image.affine, np.argwhere(brain))
    back = apply_affine(np.linalg.inv(pair.matrix), start + displacement[brain])
    return Spread.of(np.linalg.norm(back - start, axis=-1))
