"""The files of a registration, read and checked."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid


@dataclass(frozen=True)
class Frame:
    """The working grid of a template.

    Attributes
    ----------
    grid : Grid
        1 mm, RAS, in the world of the template.
    to_fixed : ndarray
        4x4, maps points of the template to points of the fixed image, RAS mm.
    """

    grid: Grid
    to_fixed: np.ndarray


@dataclass(frozen=True)
class Inputs:
    """What a registration is given, on native grids.

    Attributes
    ----------
    fixed, moving : Nifti1Image
        (X, Y, Z), float32, finite.
    fixed_mask, moving_mask, fixed_lesion_mask, moving_lesion_mask : Nifti1Image or None
        (X, Y, Z), 0 or 1, on any grid in the world space of their image.
    fixed_labels, moving_labels : Nifti1Image or None
        (X, Y, Z), integers, on the grid of their image.
    affine : ndarray or None
        4x4, maps fixed to moving points, RAS mm.
    files : dict
        Absolute path of every input by the name of its argument, None where there is none.
    frame : Frame or None
        Where the images are compared; in the world of the fixed image without one.
    """

    fixed: Nifti1Image
    moving: Nifti1Image
    fixed_mask: Nifti1Image | None = None
    moving_mask: Nifti1Image | None = None
    fixed_lesion_mask: Nifti1Image | None = None
    moving_lesion_mask: Nifti1Image | None = None
    fixed_labels: Nifti1Image | None = None
    moving_labels: Nifti1Image | None = None
    affine: np.ndarray | None = None
    files: dict[str, str | None] = field(default_factory=dict)
    frame: Frame | None = None

    @property
    def matrix(self) -> np.ndarray:
        """The affine, the identity where none is given."""
        return np.eye(4) if self.affine is None else self.affine

    @property
    def to_fixed(self) -> np.ndarray:
        """4x4, maps points of the working grid to fixed points."""
        return np.eye(4) if self.frame is None else self.frame.to_fixed

    @property
    def to_moving(self) -> np.ndarray:
        """4x4, maps points of the working grid to moving points."""
        return self.matrix if self.frame is None else self.matrix @ self.frame.to_fixed


def read_inputs(
    fixed: PathLike,
    moving: PathLike,
    *,
    fixed_mask: PathLike | None = None,
    moving_mask: PathLike | None = None,
    fixed_lesion_mask: PathLike | None = None,
    moving_lesion_mask: PathLike | None = None,
    fixed_labels: PathLike | None = None,
    moving_labels: PathLike | None = None,
    affine: PathLike | None = None,
) -> Inputs:
    """Read the files of a registration.

    Parameters
    ----------
    fixed, moving : path-like
        The images.
    fixed_mask, moving_mask : path-like, optional
        Their brains.
    fixed_lesion_mask, moving_lesion_mask : path-like, optional
        What has no counterpart in the other image.
    fixed_labels, moving_labels : path-like, optional
        Label maps on the grids of their images.
    affine : path-like, optional
        ITK affine that maps fixed to moving points.

    Returns
    -------
    Inputs
        What was read.

    Raises
    ------
    InputError
        If a file cannot be used, if labels are not on the grid of their image, or if fixed labels
        come without the moving labels they are to be compared with.
    """
    names = {"fixed": fixed, "moving": moving, "fixed_mask": fixed_mask, "moving_mask": moving_mask}
    names |= {"fixed_lesion_mask": fixed_lesion_mask, "moving_lesion_mask": moving_lesion_mask}
    names |= {"fixed_labels": fixed_labels, "moving_labels": moving_labels, "affine": affine}
    if fixed_labels is not None and moving_labels is None:
        raise InputError(
            f"{fixed_labels}: fixed labels are compared with warped ones; give moving labels too"
        )
    inputs = Inputs(
        fixed=images.read_image(fixed, what="fixed image"),
        moving=images.read_image(moving, what="moving image"),
        fixed_mask=_mask(fixed_mask, "fixed mask"),
        moving_mask=_mask(moving_mask, "moving mask"),
        fixed_lesion_mask=_mask(fixed_lesion_mask, "fixed lesion mask"),
        moving_lesion_mask=_mask(moving_lesion_mask, "moving lesion mask"),
        fixed_labels=_labels(fixed_labels, "fixed labels"),
        moving_labels=_labels(moving_labels, "moving labels"),
        affine=None if affine is None else _affine(affine),
        files={
            name: None if file is None else str(Path(file).absolute())
            for name, file in names.items()
        },
    )
    for image, labels in (
        (inputs.fixed, inputs.fixed_labels),
        (inputs.moving, inputs.moving_labels),
    ):
        if labels is not None:
            images.check_same_grid(image, labels)
    return inputs


def _mask(path: PathLike | None, what: str) -> Nifti1Image | None:
    return None if path is None else images.read_mask(path, what=what)


def _labels(path: PathLike | None, what: str) -> Nifti1Image | None:
    return None if path is None else images.read_labels(path, what=what)


def _affine(path: PathLike) -> np.ndarray:
    matrix = transforms.read_affine(path)
    if np.linalg.det(matrix[:3, :3]) < 0:
        raise InputError(f"{path}: mirrors the image; give an affine without reflection")
    return matrix
