"""What the pictures of a report show, on one grid whose axes run along the world's."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.alignment import named_file
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid, index_box
from nipype_quicksilver.spatial.images import check_same_grid, nifti, read_image, read_labels
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import affine_transform, read_displacement

_CORNERS = np.indices((2, 2, 2)).reshape(3, -1).T
_MARGIN = 6.0  # mm around a brain; of the 10 mm that the grid of a registration has, less is shown
_LARGEST = 256  # voxels along an axis
_LABELS = "NearestNeighbor"


@dataclass(frozen=True, eq=False)
class Scene:
    """Arrays (X, Y, Z) on one isotropic RAS grid around the brain of the fixed image.

    Attributes
    ----------
    grid : Grid
        In the world of the fixed image.
    fixed, before, after : ndarray
        The fixed image; the moving image through the affine only, and through the whole map.
    log_jacobian : ndarray
        NaN where the map folds.
    source : ndarray
        (X, Y, Z, 3), RAS mm: where the deformation, without the affine, takes each voxel from.
    uncertainty : ndarray or None
        mm.
    fixed_labels, warped_labels : ndarray or None
        Labels of the fixed image; those of the moving image through the whole map.
    """

    grid: Grid
    fixed: np.ndarray
    before: np.ndarray
    after: np.ndarray
    log_jacobian: np.ndarray
    source: np.ndarray
    uncertainty: np.ndarray | None = None
    fixed_labels: np.ndarray | None = None
    warped_labels: np.ndarray | None = None


def read_scene(
    folder: PathLike,
    summary: dict[str, Any],
    *,
    fixed: PathLike | None = None,
    moving: PathLike | None = None,
) -> Scene:
    """Read the images of a registration.

    Parameters
    ----------
    folder : path-like
        Output folder of `quicksilver register`.
    summary : dict
        Its summary.
    fixed, moving : path-like, optional
        The images that were registered, where they no longer lie where the summary says.

    Returns
    -------
    Scene
        Resampled once each.

    Raises
    ------
    InputError
        If an image is missing, damaged or not of this registration.
    """
    paths = {name: Path(folder) / file for name, file in FILES.items()}
    with ExitStack() as stack:
        images = {
            name: read_image(
                named_file(given or summary["inputs"][name], stack, None), what=f"{name} image"
            )
            for name, given in (("fixed", fixed), ("moving", moving))
        }
    reference = images["fixed"]
    grid = _shown_grid(summary, reference)
    volumes = {
        "fixed": resample(reference, grid),
        "before": resample(images["moving"], grid, affine_transform(_affine(summary, folder))),
        "after": resample(_on_grid_of(reference, paths["warped"], "warped image"), grid),
        "log_jacobian": resample(
            _on_grid_of(reference, paths["log_jacobian"], "log-Jacobian", keep_nan=True), grid
        ),
    }
    if paths["uncertainty"].exists():
        uncertainty = _on_grid_of(reference, paths["uncertainty"], "uncertainty")
        volumes["uncertainty"] = resample(uncertainty, grid)
    labels = summary["inputs"].get("fixed_labels")
    if labels is not None and Path(labels).exists():
        volumes["fixed_labels"] = _labels(reference, Path(labels), "fixed labels", grid)
    if paths["warped_labels"].exists():
        volumes["warped_labels"] = _labels(reference, paths["warped_labels"], "warped labels", grid)
    source = _source(reference, paths["displacement"], grid, _affine(summary, folder))
    return Scene(grid=grid, source=source, **volumes)


def _affine(summary: dict[str, Any], folder: PathLike) -> np.ndarray:
    """Return the affine from fixed to moving points, 4x4."""
    return _matrix(summary["affine_matrix"], "affine_matrix", folder)


def _matrix(value: Any, name: str, folder: PathLike) -> np.ndarray:
    try:
        matrix = np.array(value, dtype=float)
        np.linalg.inv(matrix)
    except (ValueError, TypeError, np.linalg.LinAlgError):
        matrix = np.zeros((0, 0))
    if matrix.shape != (4, 4):
        raise InputError(
            f"{Path(folder) / FILES['summary']}: its '{name}' is no invertible 4x4 matrix; run "
            "'quicksilver register' again"
        )
    return matrix


def _shown_grid(summary: dict[str, Any], fixed: Nifti1Image) -> Grid:
    """Return the grid around the brain, along the axes of the fixed image's world.

    The grid of the registration encloses both brains, also where the images are whole heads; what
    is not zero in the fixed image does where it is a brain that lies obliquely in that grid.
    """
    working = summary["working_grid"]
    shape = np.array(working["shape"])
    points = apply_affine(np.array(working["affine"], dtype=float), _CORNERS * (shape - 1))
    template = summary["preprocessing"].get("template", {})
    if template.get("used"):
        points = apply_affine(np.array(template["matrix"], dtype=float), points)
    box = index_box(np.asanyarray(fixed.dataobj) != 0)
    ends = np.array([[part.start, part.stop - 1] for part in box])
    content = apply_affine(fixed.affine, np.where(_CORNERS, ends[:, 1], ends[:, 0]))
    low = np.maximum(points.min(axis=0) + _MARGIN, content.min(axis=0) - _MARGIN)
    high = np.minimum(points.max(axis=0) - _MARGIN, content.max(axis=0) + _MARGIN)
    spacing = max(min(Grid.from_image(fixed).spacing), float((high - low).max()) / _LARGEST)
    x, y, z = (np.ceil((high - low) / spacing).astype(int) + 1).tolist()
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low
    return Grid((x, y, z), affine)


def _on_grid_of(
    fixed: Nifti1Image, path: Path, what: str, *, keep_nan: bool = False
) -> Nifti1Image:
    """Read an output, which is on the fixed image's grid."""
    image = read_image(path, what=what, keep_nan=keep_nan)
    check_same_grid(fixed, image)
    return image


def _labels(fixed: Nifti1Image, path: Path, what: str, grid: Grid) -> np.ndarray:
    labels = read_labels(path, what=what)
    check_same_grid(fixed, labels)
    return resample(labels, grid, interpolation=_LABELS)


def _source(fixed: Nifti1Image, path: Path, grid: Grid, affine: np.ndarray) -> np.ndarray:
    """Return where the map takes each voxel from, in the world of the fixed image."""
    field, native = read_displacement(path)
    check_same_grid(fixed, nifti(field[..., 0], native.affine))
    # The affine is taken off first: beyond the image, where nothing is known, nothing moves then.
    start = native.coordinates()
    field = apply_affine(np.linalg.inv(affine), start + field) - start
    moved = resample(nifti(field.astype(np.float32), native.affine), grid)
    return grid.coordinates() + moved
