"""What a 4x4 matrix is to an affine alignment: halves and means, parts, models of ITK, doubts."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from scipy.linalg import expm, logm, sqrtm
from scipy.spatial.transform import Rotation

from nipype_quicksilver.spatial.grids import LPS

ANGLES = (-45.0, -22.5, 0.0, 22.5, 45.0)  # degrees about each axis, of the starts
# Between the brains of a newborn and a large adult lengths differ by 1.7, volumes by 5.
LARGEST_SCALE = 1.7
TURNED = 60.0  # degrees that headers of two heads hardly ever differ by


def rotations_nearby() -> list[np.ndarray]:
    """Return the rotations that are tried first, 3x3."""
    angles = list(itertools.product(ANGLES, repeat=3))
    return list(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def rotations_of_axes() -> list[np.ndarray]:
    """Return the rotations that bring axes to other axes, 3x3."""
    return list(Rotation.create_group("O").as_matrix())


def halves(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a matrix into two of which the first is applied first, equal where that can be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a singular root; it is looked at here
        root = sqrtm(matrix)
    if np.isrealobj(root) and np.allclose(root @ root, matrix, atol=1e-6):
        return root, root
    return np.eye(4), matrix


def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the matrix half-way from the first to the second.

    The mean of the inverses is the inverse of the mean, and the order does not matter.
    """
    between = logm(np.linalg.solve(first, second))
    return first @ expm(np.real(between) / 2)


# Models of a transform near a matrix, in ITK's frame. A matrix outside the model is brought to one
# inside: its rotation, and its mean scale, about the centre.


def _rigid(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    return _about(sitk.VersorRigid3DTransform(), matrix, center, rotation(matrix))


def _similarity(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    scale = abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
    return _about(sitk.Similarity3DTransform(), matrix, center, scale * rotation(matrix))


def _scales(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    # ITK adds scales to a rotation. Near the identity, where this model is used, that is the same
    # as a product, and its inverse is of the same kind.
    transform = sitk.ScaleVersor3DTransform()
    transform.SetCenter((center * LPS).tolist())
    turn = Rotation.from_matrix(LPS[:, None] * rotation(matrix) * LPS).as_rotvec()
    angle = float(np.linalg.norm(turn))
    transform.SetRotation((turn / angle if angle else np.array([0.0, 0.0, 1.0])).tolist(), angle)
    transform.SetScale((1 + np.diag(matrix[:3, :3] - rotation(matrix))).tolist())
    transform.SetTranslation(((apply_affine(matrix, center) - center) * LPS).tolist())
    return transform


def _affine(matrix: np.ndarray, center: np.ndarray) -> sitk.Transform:
    return _about(sitk.AffineTransform(3), matrix, center, matrix[:3, :3])


Model = Callable[[np.ndarray, np.ndarray], sitk.Transform]
#: The models by their degrees of freedom.
MODELS: dict[int, Model] = {6: _rigid, 7: _similarity, 9: _scales, 12: _affine}
DOF = tuple(MODELS)


def _about(transform: Any, matrix: np.ndarray, center: np.ndarray, linear: np.ndarray) -> Any:
    """Give a transform a linear part, and a translation that moves a centre as a matrix does."""
    transform.SetCenter((center * LPS).tolist())
    lps = (LPS[:, None] * linear * LPS).ravel().tolist()
    if isinstance(transform, sitk.AffineTransform):
        transform.SetMatrix(lps)
    else:
        transform.SetMatrix(lps, 1e-6)  # how far from orthogonal it may be
    transform.SetTranslation(((apply_affine(matrix, center) - center) * LPS).tolist())
    return transform


def rotation(matrix: np.ndarray) -> np.ndarray:
    """Return the rotation nearest to the linear part of a matrix, 3x3."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def describe(matrix: np.ndarray) -> dict[str, Any]:
    """Return the rotation and the scales of a matrix.

    Parameters
    ----------
    matrix : ndarray
        4x4.

    Returns
    -------
    dict
        ``rotation_degrees``; ``scales``.
    """
    turn = Rotation.from_matrix(rotation(matrix)).magnitude()
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return {
        "rotation_degrees": round(float(np.degrees(turn)), 3),
        "scales": [round(float(scale), 5) for scale in scales],
    }


def doubts(facts: dict[str, Any], matrix: np.ndarray) -> list[str]:
    """Tell what is wrong with an affine: worse than the start, or not what human heads differ by.

    Parameters
    ----------
    facts : dict
        As in :class:`Alignment`; ``similarity`` may be missing.
    matrix : ndarray
        4x4, fixed to moving points.

    Returns
    -------
    list of str
        Sentences without subject; none where all is well.
    """
    found, scales = [], facts["scales"]
    similarity = facts.get("similarity")
    if similarity is not None and similarity["after"] < 0.98 * similarity["before"]:
        found.append(
            f"the affine is no better than the start (mutual information {similarity['after']:.3f} "
            f"after {similarity['before']:.3f}); look at the result"
        )
    if np.linalg.det(matrix[:3, :3]) < 0:
        found.append("the affine mirrors the image; check the header's left and right")
    if max(scales) > LARGEST_SCALE or min(scales) < 1 / LARGEST_SCALE:
        listed = ", ".join(f"{scale:.2f}" for scale in scales)
        found.append(
            f"the affine scales by {listed}, more than human heads differ; check voxel sizes, "
            "and whether both images show a whole brain"
        )
    if facts["rotation_degrees"] > TURNED:
        found.append(
            f"the affine turns by {facts['rotation_degrees']:.0f} degrees; check the orientation "
            "in the headers"
        )
    return found
