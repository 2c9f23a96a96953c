"""4x4 matrices of affines: square roots, means, decomposition, ITK's models, plausibility."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from scipy.linalg import expm, logm, sqrtm
from scipy.spatial.transform import Rotation

from nipype_quicksilver.options import DOF
from nipype_quicksilver.spatial.grids import LPS

ANGLES = (-45.0, -22.5, 0.0, 22.5, 45.0)  # degrees about each axis, of the starts of the search
# The brains of a preterm child and of a template differ by this factor in length, by 10 in volume.
MAX_SCALE = 2.2
# Largest scale over the smallest; 1.05 to 1.2 in right alignments, also of infants to adults.
MAX_STRETCH = 1.5
# Between the affines of both directions; up to 7 mm in right alignments, 27 mm where images show
# different things.
MAX_DIRECTIONS_APART = 10.0  # mm
MAX_ROTATION = 60.0  # degrees; orientations of heads in their headers rarely differ by more


@dataclass(frozen=True)
class MutualInformation:
    """Mutual information of two images, before and after the alignment."""

    before: float
    after: float


@dataclass(frozen=True)
class AffineSummary:
    """How an affine was estimated, and measures of it.

    Attributes
    ----------
    how : str or None
        Name of the external tool, or ``headers`` if the headers align the images; None for the
        registration by mutual information.
    dof : int or None
        Degrees of freedom.
    similarity : MutualInformation or None
        At 4 mm, for the start and for the result.
    directions_apart_mm : float or None
        Distance of the corners of the brain under both directions, before they were averaged.
    rotation_degrees : float or None
        Angle of the rotation that is nearest to the linear part.
    scales : list of float or None
        Singular values of the linear part.
    reused : bool or None
        Whether the affine was read from the work folder; None without a work folder.
    """

    how: str | None = None
    dof: int | None = None
    similarity: MutualInformation | None = None
    directions_apart_mm: float | None = None
    rotation_degrees: float | None = None
    scales: list[float] | None = None
    reused: bool | None = None


def rotations_nearby() -> list[np.ndarray]:
    """Return rotations up to 45 degrees about each axis, 3x3."""
    angles = list(itertools.product(ANGLES, repeat=3))
    return list(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def rotations_of_axes() -> list[np.ndarray]:
    """Return the 24 rotations that map axes to axes, 3x3."""
    return list(Rotation.create_group("O").as_matrix())


def halves(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a matrix into two, of which the first is applied first; equal if possible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a singular root, which is checked below
        root = sqrtm(matrix)
    if np.isrealobj(root) and np.allclose(root @ root, matrix, atol=1e-6):
        return root, root
    return np.eye(4), matrix


def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the matrix half-way between two matrices.

    The mean of the inverses is the inverse of the mean; the order does not matter.
    """
    between = logm(np.linalg.solve(first, second))
    return first @ expm(np.real(between) / 2)


# Transforms of ITK, initialised by a matrix. A matrix outside the model is replaced by its rotation
# and, where the model allows it, its mean scale, about the centre.


def _rigid(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    return _about(sitk.VersorRigid3DTransform(), matrix, center, rotation(matrix))


def _similarity(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    scale = abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
    return _about(sitk.Similarity3DTransform(), matrix, center, scale * rotation(matrix))


def _scales(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    # ITK adds scales to a rotation. Near the identity, where this model is used, this equals a
    # product, and its inverse is in the model.
    transform = sitk.ScaleVersor3DTransform()
    transform.SetCenter((center * LPS).tolist())
    vector = Rotation.from_matrix(LPS[:, None] * rotation(matrix) * LPS).as_rotvec()
    angle = float(np.linalg.norm(vector))
    transform.SetRotation((vector / angle if angle else np.array([0.0, 0.0, 1.0])).tolist(), angle)
    transform.SetScale((1 + np.diag(matrix[:3, :3] - rotation(matrix))).tolist())
    transform.SetTranslation(((apply_affine(matrix, center) - center) * LPS).tolist())
    return transform


def _affine(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    return _about(sitk.AffineTransform(3), matrix, center, matrix[:3, :3])


Model = Callable[[np.ndarray, np.ndarray], sitk.Transform]
#: The models by degrees of freedom.
MODELS: dict[int, Model] = dict(
    zip(sorted(DOF), (_rigid, _similarity, _scales, _affine), strict=True)
)


def _about(transform: Any, matrix: np.ndarray, center: np.ndarray, linear: np.ndarray) -> Any:
    """Set the linear part of a transform, and the image of the centre as under `matrix`."""
    transform.SetCenter((center * LPS).tolist())
    lps = (LPS[:, None] * linear * LPS).ravel().tolist()
    if isinstance(transform, sitk.AffineTransform):
        transform.SetMatrix(lps)
    else:
        transform.SetMatrix(lps, 1e-6)  # tolerance of orthogonality
    transform.SetTranslation(((apply_affine(matrix, center) - center) * LPS).tolist())
    return transform


def rotation(matrix: np.ndarray) -> np.ndarray:
    """Return the rotation nearest to the linear part of a matrix, 3x3."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def describe(matrix: np.ndarray) -> AffineSummary:
    """Return the summary of a matrix: its rotation and scales."""
    angle = Rotation.from_matrix(rotation(matrix)).magnitude()
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return AffineSummary(
        rotation_degrees=round(float(np.degrees(angle)), 3),
        scales=[round(float(scale), 5) for scale in scales],
    )


def plausibility_warnings(
    summary: AffineSummary, matrix: np.ndarray, magnification: float = 1.0
) -> list[str]:
    """Return warnings about an affine that is implausible between two human heads.

    Parameters
    ----------
    summary : AffineSummary
        With rotation and scales.
    matrix : ndarray
        4x4, fixed to moving points.
    magnification : float
        Factor by which a small moving brain was enlarged; distances are judged after it.

    Returns
    -------
    list of str
        Messages; empty if the affine is plausible.
    """
    messages, similarity = [], summary.similarity
    scales, rotation_degrees = summary.scales or [], summary.rotation_degrees or 0.0
    if similarity is not None and similarity.after < 0.98 * similarity.before:
        messages.append(
            f"the affine is not better than the start (mutual information {similarity.after:.3f} "
            f"after, {similarity.before:.3f} before); inspect the result"
        )
    if np.linalg.det(matrix[:3, :3]) < 0:
        messages.append("the affine mirrors the image; check left and right in the header")
    apart = summary.directions_apart_mm or 0.0
    if apart * magnification > MAX_DIRECTIONS_APART:
        messages.append(
            f"the affines estimated in the two directions differ by {apart:.2g} mm; check that "
            "both images show the same part of a brain, and inspect the alignment"
        )
    if scales and (
        max(scales) > MAX_SCALE
        or min(scales) < 1 / MAX_SCALE
        or max(scales) > MAX_STRETCH * min(scales)
    ):
        listed = ", ".join(f"{scale:.2f}" if scale >= 0.1 else f"{scale:.3g}" for scale in scales)
        messages.append(
            f"the affine scales by {listed}, implausible for human heads; check the voxel sizes, "
            "and whether both images show a whole brain"
        )
    if rotation_degrees > MAX_ROTATION:
        messages.append(
            f"the affine rotates by {rotation_degrees:.0f} degrees; check the orientation in the "
            "headers"
        )
    return messages
