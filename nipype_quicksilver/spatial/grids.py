"""Voxel grids in world space, and the working grid of a registration."""

import math
from dataclasses import dataclass
from typing import Self

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.forms import distance
from nipype_quicksilver.spatial.images import image_name, read_header
from nipype_quicksilver.spatial.limits import is_invertible

# Signs of ITK's world axes (LPS) in RAS; defined only here.
LPS = np.array([-1.0, -1.0, 1.0])

#: The dimensions of a working grid are multiples of this, so that it can be halved three times.
MULTIPLE = 8


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in world space.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along the three axes (X, Y, Z).
    affine : ndarray
        4x4, voxel indices (of voxel centres) to RAS+ mm; any orientation.

    Examples
    --------
    >>> grid = Grid((10, 20, 30), np.diag([2.0, 1.0, 1.0, 1.0]))
    >>> grid.spacing
    (2.0, 1.0, 1.0)
    >>> grid.subsampled(2).affine[:3, 3].tolist()
    [1.0, 0.5, 0.5]
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        x, y, z = (int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=float)
        if affine.shape != (4, 4) or min(x, y, z) < 1:
            raise ValueError(f"a grid needs three axes and a 4x4 affine, not {self.shape}")
        if not np.isfinite(affine).all() or not is_invertible(affine):
            raise ValueError("the affine of a grid must be invertible")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", (x, y, z))
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_image(cls, image: SpatialImage) -> Self:
        """Return the grid of an image; dimensions after the third are ignored.

        Parameters
        ----------
        image : SpatialImage
            Image (X, Y, Z, ...).

        Returns
        -------
        Grid
            Its grid.
        """
        x, y, z = image.shape[:3]
        return cls((x, y, z), image.affine)

    @classmethod
    def from_file(cls, path: PathLike, *, what: str = "reference image") -> Self:
        """Return the grid of an image file; only its header is read.

        Parameters
        ----------
        path : path-like
            NIfTI or MGH file.
        what : str
            Role of the image, for messages.

        Returns
        -------
        Grid
            Its grid.

        Raises
        ------
        InputError
            If the file or its header cannot be used.
        """
        shape, image = read_header(path, what=what)
        return cls(shape, image.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along each axis, mm."""
        x, y, z = voxel_sizes(self.affine)
        return float(x), float(y), float(z)

    def equals(self, other: "Grid", tol: float = 1e-3) -> bool:
        """Return whether the voxels of two grids have the same positions.

        Parameters
        ----------
        other : Grid
            The grid to compare with.
        tol : float
            Largest accepted distance between corresponding voxel centres, mm.

        Returns
        -------
        bool
            True if shapes are equal and no voxel centre is further apart.
        """
        return self.shape == other.shape and self.distance(other) <= tol

    def distance(self, other: "Grid") -> float:
        """Return the largest distance between corresponding voxel centres of two grids, mm.

        Parameters
        ----------
        other : Grid
            A grid of the same shape.

        Returns
        -------
        float
            At any voxel.
        """
        return distance(self.affine, other.affine, self.shape)

    def subsampled(self, factor: int) -> "Grid":
        """Return the cell-centred grid whose voxels are blocks of `factor` cubed.

        Parameters
        ----------
        factor : int
            Voxels of this grid along each edge of a new voxel.

        Returns
        -------
        Grid
            Shape ``ceil(n / factor)``; voxel (0, 0, 0) lies at index ``(factor - 1) / 2`` of this
            grid.
        """
        to_fine = from_matvec(np.eye(3) * factor, np.full(3, (factor - 1) / 2))
        x, y, z = (math.ceil(n / factor) for n in self.shape)
        return Grid((x, y, z), self.affine @ to_fine)

    def cropped(self, box: tuple[slice, slice, slice]) -> "Grid":
        """Return the part of the grid within slices, see :func:`index_box`.

        Parameters
        ----------
        box : tuple of slice
            First voxel and end along each axis, without steps.

        Returns
        -------
        Grid
            With the same voxel positions as before.
        """
        x, y, z = (len(range(n)[part]) for n, part in zip(self.shape, box, strict=True))
        start = from_matvec(np.eye(3), [part.start for part in box])
        return Grid((x, y, z), self.affine @ start)

    def coordinates(self) -> np.ndarray:
        """Return the world position of every voxel centre.

        Returns
        -------
        ndarray
            (X, Y, Z, 3), RAS+ mm, float64.
        """
        return apply_affine(self.affine, np.moveaxis(np.indices(self.shape), 0, -1))

    def reference(self) -> sitk.Image:
        """Return an empty SimpleITK image on this grid.

        Returns
        -------
        SimpleITK.Image
            uint8 zeros; geometry in LPS.
        """
        image = sitk.Image(list(self.shape), sitk.sitkUInt8)
        self.set_geometry(image)
        return image

    def set_geometry(self, image: sitk.Image) -> None:
        """Set the geometry of a SimpleITK image to this grid.

        Parameters
        ----------
        image : SimpleITK.Image
            Image of this grid's shape, changed in place.
        """
        direction = LPS[:, None] * self.affine[:3, :3] / self.spacing
        image.SetSpacing(self.spacing)
        image.SetOrigin((LPS * self.affine[:3, 3]).tolist())
        image.SetDirection(direction.ravel().tolist())


def working_grid(
    mask_image: nib.Nifti1Image,
    *,
    spacing: float = 1.0,
    margin_mm: float = 10.0,
    multiple: int = MULTIPLE,
) -> Grid:
    """Return the isotropic RAS grid on which two images are registered.

    The grid encloses the voxels of the mask in world space with a margin on every side. One of
    its voxel centres coincides with one of the mask image, so that resampling an image with the
    same spacing and axes does not blur it.

    Parameters
    ----------
    mask_image : Nifti1Image
        (X, Y, Z), nonzero where the brain is.
    spacing : float
        Voxel size, mm.
    margin_mm : float
        Space between the mask and each side of the box.
    multiple : int
        Each dimension becomes a multiple of it, so that the grid can be halved repeatedly.

    Returns
    -------
    Grid
        Axis-aligned, RAS.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    occupied = np.asanyarray(mask_image.dataobj) != 0
    if not occupied.any():
        raise InputError(f"{image_name(mask_image)}: the mask is empty; give a brain mask")
    first, last = _index_box(occupied)
    # The outer edges of the first and last voxels, rather than their centres.
    edges = np.indices((2, 2, 2)).reshape(3, -1).T * (last - first + 1) + first - 0.5
    corners = apply_affine(mask_image.affine, edges)
    low, high = corners.min(axis=0) - margin_mm, corners.max(axis=0) + margin_mm
    shape = np.ceil((high - low) / spacing / multiple - 1e-6).astype(int) * multiple
    ideal = (low + high) / 2 - (shape - 1) / 2 * spacing
    voxel = np.rint(apply_affine(np.linalg.inv(mask_image.affine), ideal))
    origin = apply_affine(mask_image.affine, voxel)
    # Align with the nearest voxel centre: the box moves by half a voxel at most.
    shift = origin - ideal
    origin = ideal + shift - np.rint(shift / spacing) * spacing
    x, y, z = shape.tolist()
    return Grid((x, y, z), from_matvec(np.eye(3) * spacing, origin))


def check_same_grid(first: SpatialImage, second: SpatialImage, *, tolerance: float = 1e-2) -> None:
    """Raise an error if two images are not on the same voxel grid.

    Parameters
    ----------
    first, second : SpatialImage
        For instance an image and its labels.
    tolerance : float
        Largest accepted distance between corresponding voxel centres, mm.

    Raises
    ------
    InputError
        If shapes or positions differ.
    """
    message = f"{image_name(second)}: not on the grid of {image_name(first)}"
    grid, other = Grid.from_image(first), Grid.from_image(second)
    if grid.shape != other.shape:
        raise InputError(
            f"{message} (shape {other.shape} instead of {grid.shape}); resample one of them"
        )
    distance = grid.distance(other)
    if not distance <= tolerance:
        raise InputError(f"{message} (voxels lie {distance:.3g} mm apart); resample one of them")


def check_overlap(
    fixed: SpatialImage, moving: SpatialImage, matrix: np.ndarray | None = None
) -> None:
    """Raise an error if two images do not overlap in world space.

    Parameters
    ----------
    fixed, moving : SpatialImage
        (X, Y, Z); nonzero voxels count.
    matrix : ndarray, optional
        4x4, maps fixed to moving points, RAS mm; default: identity.

    Raises
    ------
    InputError
        If an image is empty, or the fixed image does not overlap the bounding box of the moving
        image.
    """
    (first, last), (low, high) = _content(fixed), _content(moving)
    # The points are dense enough for any overlap worth registering to contain one of them.
    axes = [np.linspace(a - 0.5, b + 0.5, 33) for a, b in zip(first, last, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    to_moving = np.eye(4) if matrix is None else matrix
    index = apply_affine(np.linalg.inv(moving.affine) @ to_moving @ fixed.affine, points)
    if not np.any(np.all((index >= low - 0.5) & (index <= high + 0.5), axis=1)):
        raise InputError(
            f"{image_name(moving)}: does not overlap {image_name(fixed)} in space; "
            "check the headers, or give an affine that aligns them"
        )


def _content(image: SpatialImage) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last index of the nonzero voxels."""
    occupied = np.asanyarray(image.dataobj) != 0
    if not occupied.any():
        raise InputError(f"{image_name(image)}: is zero in every voxel; give a real image")
    return _index_box(occupied)


def _index_box(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last true index of a boolean volume along each axis."""
    ranges = [
        np.flatnonzero(occupied.any(axis=tuple(k for k in range(3) if k != axis)))
        for axis in range(3)
    ]
    return np.array([r[0] for r in ranges]), np.array([r[-1] for r in ranges])


def index_box(occupied: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """Return the slices of the bounding box of a boolean volume, with a margin.

    Parameters
    ----------
    occupied : ndarray
        (X, Y, Z), bool, with at least one true voxel.
    margin : int
        Voxels around the box, within the volume.

    Returns
    -------
    tuple of slice
        For the three axes.

    Examples
    --------
    >>> index_box(np.pad(np.ones((2, 1, 1), bool), 2), margin=1)
    (slice(1, 5, None), slice(1, 4, None), slice(1, 4, None))
    """
    first, last = _index_box(occupied)
    x, y, z = (
        slice(max(a - margin, 0), b + margin + 1)
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )
    return x, y, z
