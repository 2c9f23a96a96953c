"""Two scans to register: their files, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid, check_same_grid

SIDES = ("fixed", "moving")


@dataclass(frozen=True)
class ScanFiles:
    """Files of an image, its masks and its labels.

    Attributes
    ----------
    image : path-like
        The image.
    mask, lesion_mask, labels : path-like or None
        See :class:`Scan`.
    """

    image: PathLike
    mask: PathLike | None = None
    lesion_mask: PathLike | None = None
    labels: PathLike | None = None


@dataclass(frozen=True)
class Scan:
    """An image, its masks and its labels, on native grids.

    Attributes
    ----------
    image : Nifti1Image
        (X, Y, Z), float32, finite.
    mask : Nifti1Image or None
        Mask of its brain: (X, Y, Z), 0 or 1, on any grid in the world space of the image.
    lesion : Nifti1Image or None
        Mask of the regions without counterpart in the other image; as `mask`.
    labels : Nifti1Image or None
        (X, Y, Z), integers, on the grid of the image.
    """

    image: Nifti1Image
    mask: Nifti1Image | None = None
    lesion: Nifti1Image | None = None
    labels: Nifti1Image | None = None


@dataclass(frozen=True)
class Frame:
    """A working grid in another world than that of the fixed image: of a template, or enlarged.

    Attributes
    ----------
    grid : Grid
        1 mm, RAS, in that world.
    to_fixed : ndarray
        4x4, maps points of that world to points of the fixed image, RAS mm.
    magnification : float
        Factor by which brains are enlarged in that world, see `spatial.magnification`.
    """

    grid: Grid
    to_fixed: np.ndarray
    magnification: float = 1.0


@dataclass(frozen=True)
class Pair:
    """Two scans, and the affines between them.

    Attributes
    ----------
    fixed, moving : Scan
        The scans.
    affine : ndarray or None
        4x4, maps fixed to moving points, RAS mm; None if the headers align the images.
    frame : Frame or None
        Grid on which the images are compared; None for a grid in the world space of the fixed
        image.
    """

    fixed: Scan
    moving: Scan
    affine: np.ndarray | None = None
    frame: Frame | None = None

    @property
    def matrix(self) -> np.ndarray:
        """4x4, the affine; the identity if there is none."""
        return np.eye(4) if self.affine is None else self.affine

    @property
    def to_fixed(self) -> np.ndarray:
        """4x4, maps points of the working grid to fixed points, RAS mm."""
        return np.eye(4) if self.frame is None else self.frame.to_fixed

    @property
    def to_moving(self) -> np.ndarray:
        """4x4, maps points of the working grid to moving points, RAS mm."""
        return self.matrix @ self.to_fixed


def read_pair(fixed: ScanFiles, moving: ScanFiles, affine: PathLike | None = None) -> Pair:
    """Read the files of a registration.

    Parameters
    ----------
    fixed, moving : ScanFiles
        Files of the two scans.
    affine : path-like, optional
        ITK affine that maps fixed to moving points; default: the headers align the images.

    Returns
    -------
    Pair
        Without a frame.

    Raises
    ------
    InputError
        If a file cannot be used, if labels are not on the grid of their image, or if there are
        fixed labels but no moving labels.
    """
    if fixed.labels is not None and moving.labels is None:
        raise InputError(
            f"{fixed.labels}: fixed labels are compared with warped ones; give moving labels too"
        )
    return Pair(
        read_scan(fixed, "fixed"),
        read_scan(moving, "moving"),
        None if affine is None else _read_affine(affine),
    )


def read_scan(files: ScanFiles, side: str) -> Scan:
    """Read an image, its masks and its labels.

    Parameters
    ----------
    files : ScanFiles
        Their files.
    side : str
        ``fixed`` or ``moving``, for messages.

    Returns
    -------
    Scan
        On native grids.

    Raises
    ------
    InputError
        If a file cannot be used, or the labels are not on the grid of the image.
    """
    scan = Scan(
        images.read_image(files.image, what=f"{side} image"),
        _read(images.read_mask, files.mask, f"{side} mask"),
        _read(images.read_mask, files.lesion_mask, f"{side} lesion mask"),
        _read(images.read_labels, files.labels, f"{side} labels"),
    )
    if scan.labels is not None:
        check_same_grid(scan.image, scan.labels)
    return scan


def paths_of(
    fixed: ScanFiles, moving: ScanFiles, affine: PathLike | None = None
) -> dict[str, str | None]:
    """Return the absolute path of each file.

    Parameters
    ----------
    fixed, moving : ScanFiles
        Files of the two scans.
    affine : path-like, optional
        File of the affine.

    Returns
    -------
    dict
        Path by name, such as ``fixed_mask``; None if there is no such file.

    Examples
    --------
    >>> list(paths_of(ScanFiles("/a.nii"), ScanFiles("/b.nii", mask="/m.nii")).items())[:4]
    [('fixed', '/a.nii'), ('moving', '/b.nii'), ('fixed_mask', None), ('moving_mask', '/m.nii')]
    """
    named = {
        side if field.name == "image" else f"{side}_{field.name}": getattr(files, field.name)
        for field in fields(ScanFiles)
        for side, files in zip(SIDES, (fixed, moving), strict=True)
    }
    return {
        name: None if file is None else str(Path(file).absolute())
        for name, file in (*named.items(), ("affine", affine))
    }


def _read(
    reader: Callable[..., Nifti1Image], path: PathLike | None, what: str
) -> Nifti1Image | None:
    return None if path is None else reader(path, what=what)


def _read_affine(path: PathLike) -> np.ndarray:
    return transforms.read_affine(path, allow_reflection=False)
