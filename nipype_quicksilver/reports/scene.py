"""Images of a registration on one grid, aligned with the world axes, for the pictures."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.alignment import named_file
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid, check_same_grid, index_box
from nipype_quicksilver.spatial.images import nifti, read_image, read_labels
from nipype_quicksilver.spatial.intensity import foreground
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import affine_transform, read_displacement

_CORNERS = np.indices((2, 2, 2)).reshape(3, -1).T
_MARGIN = 6.0  # mm around the brain; the working grid of a registration has 10 mm
_MARGIN_OF_SMALL = 0.05  # of the length of a brain, around small ones
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
        The fixed image; the moving image resampled by the affine only, and by the whole map.
    log_jacobian : ndarray
        NaN where the map folds.
    source : ndarray
        (X, Y, Z, 3), RAS mm: points that the deformation, without the affine, maps voxels to.
    uncertainty : ndarray or None
        mm.
    fixed_labels, warped_labels : ndarray or None
        Labels of the fixed image; those of the moving image resampled by the whole map.
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

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The voxels around the brain of the fixed image; all of them around a head."""
        inside = foreground(self.fixed)
        return index_box(inside if inside.any() else np.ones(self.grid.shape, bool))


def read_scene(
    folder: PathLike,
    summary: RegistrationSummary,
    *,
    fixed: PathLike | None = None,
    moving: PathLike | None = None,
) -> Scene:
    """Read the images of a registration.

    Parameters
    ----------
    folder : path-like
        Output folder of `quicksilver register`.
    summary : RegistrationSummary
        Its summary.
    fixed, moving : path-like, optional
        The images that were registered; default: the paths in the summary.

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
    reference = _image("fixed", fixed, summary, paths["summary"])
    moving_image = _image("moving", moving, summary, paths["summary"])
    grid, affine = _shown_grid(summary, reference), np.array(summary.affine_matrix, dtype=float)

    def output(name: str, what: str, *, keep_nan: bool = False) -> np.ndarray:
        """Read an output, check that it is on the fixed image's grid, and resample it."""
        image = read_image(paths[name], what=what, keep_nan=keep_nan)
        check_same_grid(reference, image)
        return resample(image, grid)

    def labels(file: Path | None, what: str) -> np.ndarray | None:
        if file is None or not file.exists():
            return None
        image = read_labels(file, what=what)
        check_same_grid(reference, image)
        return resample(image, grid, interpolation=_LABELS)

    fixed_labels = summary.inputs.get("fixed_labels")
    return Scene(
        grid=grid,
        fixed=resample(reference, grid),
        before=resample(moving_image, grid, affine_transform(affine)),
        after=output("warped", "warped image"),
        log_jacobian=output("log_jacobian", "log-Jacobian", keep_nan=True),
        uncertainty=(
            output("uncertainty", "uncertainty") if paths["uncertainty"].exists() else None
        ),
        fixed_labels=labels(Path(fixed_labels) if fixed_labels else None, "fixed labels"),
        warped_labels=labels(paths["warped_labels"], "warped labels"),
        source=_source(reference, paths["displacement"], grid, affine),
    )


def _image(
    side: str, path: PathLike | None, summary: RegistrationSummary, summary_path: Path
) -> Nifti1Image:
    """Read the fixed or the moving image, from a path or from the one in the summary."""
    chosen = path or summary.inputs.get(side)
    if chosen is None:
        raise InputError(f"{summary_path}: names no {side} image; give it with --{side}")
    with ExitStack() as stack:
        return read_image(named_file(chosen, stack, None), what=f"{side} image")


def _shown_grid(summary: RegistrationSummary, fixed: Nifti1Image) -> Grid:
    """Return the grid around the brain, aligned with the axes of the fixed image's world.

    It is the intersection of two boxes: that of the working grid, which encloses both brains also
    where the images are whole heads, and that of the nonzero voxels of the fixed image, which is
    smaller where a brain lies obliquely in the working grid.
    """
    working = summary.working_grid
    corners = _CORNERS * (np.array(working.shape) - 1)
    points = apply_affine(summary.to_fixed() @ np.array(working.affine, dtype=float), corners)
    box = index_box(foreground(np.asanyarray(fixed.dataobj)))
    ends = np.array([[part.start, part.stop - 1] for part in box])
    content = apply_affine(fixed.affine, np.where(_CORNERS, ends[:, 1], ends[:, 0]))
    margin = min(_MARGIN, _MARGIN_OF_SMALL * float(np.ptp(content, axis=0).max()))
    rim = _MARGIN / summary.magnification
    low = np.maximum(points.min(axis=0) + rim, content.min(axis=0) - margin)
    high = np.minimum(points.max(axis=0) - rim, content.max(axis=0) + margin)
    spacing = max(min(Grid.from_image(fixed).spacing), float((high - low).max()) / _LARGEST)
    x, y, z = (np.ceil((high - low) / spacing).astype(int) + 1).tolist()
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low
    return Grid((x, y, z), affine)


def _source(fixed: Nifti1Image, path: Path, grid: Grid, affine: np.ndarray) -> np.ndarray:
    """Return the points that the map without its affine sends the voxels to."""
    field, native = read_displacement(path)
    check_same_grid(fixed, nifti(field[..., 0], native.affine))
    # The affine is removed first: outside the image, resampling then gives no displacement.
    start = native.coordinates()
    field = apply_affine(np.linalg.inv(affine), start + field) - start
    moved = resample(nifti(field.astype(np.float32), native.affine), grid)
    return grid.coordinates() + moved
