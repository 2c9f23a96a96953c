"""Limits of what is believed of a file: the same for images, fields, momenta, references, affines.

No real image comes near them. Beyond them, the numbers of a file are damaged or in other units, and
computing with them would give NaN in silence, or ask for more memory than there is.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from nipype_quicksilver.errors import InputError

# Voxel sizes, mm. Light does not resolve less than 1e-4 mm, and light-sheet images of a mouse brain
# have 1e-3 mm; localisers and atlases of a whole body have slices of 10 to 30 mm. Images whose
# header is in micrometres while it says millimetres (a mouse of 25 "mm" voxels) are within, too.
SMALLEST_SPACING, LARGEST_SPACING = 1e-5, 100.0

# Largest coordinate of a voxel, a point or a displacement, mm. A scanner's table moves by 2 m.
# Single precision, in which NIfTI stores affines, resolves 0.01 mm up to here.
LARGEST_COORDINATE = 1e5

# NIfTI-1, in which all results are written, has 16 bits for the length of an axis.
LONGEST_AXIS = 2**15 - 1

# Volume that three voxel axes of length one span: 1 for a right angle. Axes closer to one plane
# are not those of an image: ITK does not even accept a shear of a few degrees.
FLATTEST_AXES = 1e-4

# Scales of an affine (its singular values). Between a micrometre taken for a millimetre and back,
# there is a factor of 1000.
SMALLEST_SCALE, LARGEST_SCALE = 1e-4, 1e4

# The bytes that one byte of a deflated stream (gzip) can stand for, at most.
GZIP_RATIO = 1032

# Files of limits that a container sets, in bytes (cgroup version 2 and 1).
_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def is_invertible(matrix: np.ndarray) -> bool:
    """Return whether three axes are finite and do not lie in one plane, whatever their lengths.

    Examples
    --------
    >>> is_invertible(np.diag([1e-5, 1.0, 100.0])), is_invertible(np.ones((3, 3)))
    (True, False)
    """
    axes = np.asarray(matrix, float)[:3, :3]
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(axes, axis=0)
    if not (np.isfinite(lengths).all() and lengths.all()):
        return False
    return bool(abs(np.linalg.det(axes / lengths)) >= FLATTEST_AXES)


def check_world(affine: np.ndarray, shape: Sequence[int], name: object) -> np.ndarray:
    """Return the affine of a grid; raise an error if it is beyond the limits.

    Parameters
    ----------
    affine : ndarray
        4x4, voxel indices to RAS+ mm.
    shape : sequence of int
        Numbers of voxels; axes after the third are ignored.
    name : object
        The file, for messages.

    Returns
    -------
    ndarray
        4x4, float64.

    Raises
    ------
    InputError
        If it is not finite or singular, or voxels are too small, too large or too far away.
    """
    affine = np.asarray(affine, float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not is_invertible(affine):
        raise InputError(f"{name}: the affine in the header is singular; correct the header")
    spacing = voxel_sizes(affine)
    if spacing.min() < SMALLEST_SPACING or spacing.max() > LARGEST_SPACING:
        sizes = " x ".join(f"{size:.3g}" for size in spacing)
        raise InputError(
            f"{name}: voxels of {sizes} mm according to the header, not of {SMALLEST_SPACING:g} "
            f"to {LARGEST_SPACING:g} mm; correct the header"
        )
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(shape[:3]) - 1)
    check_coordinates(apply_affine(affine, corners), name, "voxels")
    return affine


def check_coordinates(points: np.ndarray, name: object, what: str) -> None:
    """Raise an error if points are too far from the origin of the world, or not finite.

    Parameters
    ----------
    points : ndarray
        Coordinates, or the components of displacements, mm.
    name : object
        The file, for messages.
    what : str
        What lies there, for messages.

    Raises
    ------
    InputError
        If any is beyond `LARGEST_COORDINATE`.
    """
    if points.size == 0:
        return
    # Minimum and maximum of arrays with NaN are NaN, which no comparison accepts.
    farthest = max(abs(float(points.min())), abs(float(points.max())))
    if not farthest <= LARGEST_COORDINATE:
        raise InputError(
            f"{name}: {what} at {farthest:.3g} mm, further than {LARGEST_COORDINATE:g} mm; check "
            "the file and its units"
        )


def check_matrix(matrix: np.ndarray, name: object) -> np.ndarray:
    """Return a linear map of world points; raise an error if it is beyond the limits.

    Parameters
    ----------
    matrix : ndarray
        4x4, RAS+ mm.
    name : object
        The file, for messages.

    Returns
    -------
    ndarray
        4x4, float64.

    Raises
    ------
    InputError
        If it is not such a matrix, not finite, singular, scales too much or shifts too far.
    """
    matrix = np.asarray(matrix, float)
    affine = matrix.shape == (4, 4) and np.isfinite(matrix).all()
    if not affine or not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise InputError(f"{name}: is not a finite matrix of 4 by 4; give a valid affine")
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if scales.max() == 0 or scales.min() < 1e-6 * scales.max():
        raise InputError(f"{name}: the transform cannot be inverted; give a valid affine")
    if scales.min() < SMALLEST_SCALE or scales.max() > LARGEST_SCALE:
        sizes = ", ".join(f"{scale:.3g}" for scale in scales)
        raise InputError(
            f"{name}: the transform scales by {sizes}, not by {SMALLEST_SCALE:g} to "
            f"{LARGEST_SCALE:g}; give an affine in millimetres"
        )
    check_coordinates(matrix[:3, 3], name, "a shift")
    return matrix


def check_shape(shape: Sequence[int], name: object, what: str) -> None:
    """Raise an error if an image has less than three axes, an empty or a too long one.

    Parameters
    ----------
    shape : sequence of int
        Numbers of voxels.
    name : object
        The file, for messages.
    what : str
        Role of the image, for messages.

    Raises
    ------
    InputError
        If an axis is beyond the limits.
    """
    if len(shape) < 3 or min(shape) < 1:
        raise InputError(f"{name}: the {what} has shape {shape}, not 3-D; give a 3-D image")
    if max(shape) > LONGEST_AXIS:
        raise InputError(
            f"{name}: the {what} has shape {shape}; an axis of a NIfTI-1 result has at most "
            f"{LONGEST_AXIS} voxels: crop it or give a coarser one"
        )


def check_memory(size: int, name: object, what: str) -> None:
    """Raise an error if this machine cannot hold something.

    Parameters
    ----------
    size : int
        Bytes that are needed at least.
    name : object
        The file, for messages.
    what : str
        What needs them, for messages.

    Raises
    ------
    InputError
        If the machine has less memory.
    """
    memory = machine_memory()
    if size > memory:
        raise InputError(
            f"{name}: {what} needs {size / 1e9:.3g} GB of memory or more, and this machine has "
            f"{memory / 1e9:.3g} GB; give a smaller or coarser one"
        )


def machine_memory() -> int:
    """Return the memory that this process can have at most, in bytes.

    Returns
    -------
    int
        Of the machine, or what a container or the shell (`ulimit`) allows.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUPS:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # there is no such group, or it has no limit
            continue
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(kind)[0]
        limits += [] if soft == resource.RLIM_INFINITY else [soft]
    return min(limits)
