"""Read and write initial momenta: vector images that also store their kernel.

A momentum is only valid on its own grid and for its own kernel, so both are stored in the same
file: the grid as the geometry of the image, the rest as JSON in a NIfTI header extension.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Pair
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import KERNEL_PARAMETERS, Kernel, check_steps
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE, Grid
from nipype_quicksilver.spatial.headers import open_image, read_data
from nipype_quicksilver.spatial.images import nifti, save_nifti
from nipype_quicksilver.spatial.limits import check_memory, check_shape, check_world
from nipype_quicksilver.spatial.records import parse_json
from nipype_quicksilver.spatial.transforms import MOMENTUM

# Memory for a voxel of the working grid: displacements of both directions, three float32 each.
_BYTES_OF_SHOOTING = 2 * 3 * 4

_COMMENT = "comment"
_FORMAT = "quicksilver-momentum"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Momentum:
    """An initial momentum with the parameters that shooting needs.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z, 3), float32; components along the RAS axes, in voxel units of the velocity grid.
    grid : Grid
        Grid of the momentum and the velocity.
    kernel : dict
        Parameters alpha, beta, gamma and power of the operator
        ``(-alpha Lap - beta grad div + gamma)^power``.
    steps : int
        Number of time steps of the shooting.
    working_grid : Grid
        Grid of the images and of the maps.
    """

    data: np.ndarray
    grid: Grid
    kernel: dict[str, float]
    steps: int
    working_grid: Grid

    def __post_init__(self) -> None:
        if self.data.shape != (*self.grid.shape, 3):
            raise ValueError(f"a momentum of {self.data.shape} does not fit {self.grid.shape}")
        if set(self.kernel) != set(KERNEL_PARAMETERS):
            raise ValueError(f"a kernel has {KERNEL_PARAMETERS}, not {tuple(self.kernel)}")
        Kernel(**self.kernel)  # raises an error if a parameter is invalid
        check_steps(self.steps)
        whole = tuple(n * self.factor for n in self.grid.shape)
        coarser = self.working_grid.subsampled(self.factor or 1)
        if whole != self.working_grid.shape or not self.grid.equals(coarser, tol=1e-2):
            raise ValueError("a momentum's grid is its working grid, coarser by a whole factor")

    @property
    def factor(self) -> int:
        """Number of working-grid voxels along each edge of a voxel of the momentum."""
        return self.working_grid.shape[0] // self.grid.shape[0]


def write_momentum(path: PathLike, momentum: Momentum) -> Path:
    """Write a momentum.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``.
    momentum : Momentum
        What to write.

    Returns
    -------
    Path
        The file written: 5-D (X, Y, Z, 1, 3), float32, intent vector, named "momentum".

    Raises
    ------
    InputError, QuicksilverError
        If the suffix is not supported, or the file cannot be written.
    """
    data = np.asarray(momentum.data, dtype=np.float32)[:, :, :, None, :]
    image = nifti(data, momentum.grid.affine)
    image.header.set_intent("vector", name=MOMENTUM)
    parameters = {
        "format": _FORMAT,
        "version": _VERSION,
        "frame": "RAS",
        "kernel": {key: float(momentum.kernel[key]) for key in KERNEL_PARAMETERS},
        "steps": int(momentum.steps),
        "working_grid": _grid_as_json(momentum.working_grid),
        # The affine in the header is in single precision only.
        "velocity_grid": _grid_as_json(momentum.grid),
    }
    text = json.dumps(parameters, sort_keys=True).encode("utf-8")
    image.header.extensions.append(Nifti1Extension(_COMMENT, text))
    return save_nifti(path, image)


def read_momentum(path: PathLike) -> Momentum:
    """Read a momentum.

    Parameters
    ----------
    path : path-like
        File written by :func:`write_momentum`.

    Returns
    -------
    Momentum
        The momentum, its grids, kernel and steps.

    Raises
    ------
    InputError
        If the file is missing or damaged, does not store its kernel and grids, or was moved to
        another grid.
    """
    what = "momentum"
    image, world = open_image(path, what)
    parameters = _parameters(image, path)
    if len(image.shape) != 5 or image.shape[3:] != (1, 3):
        raise InputError(f"{path}: has shape {image.shape}, not (X, Y, Z, 1, 3); write it again")
    data = read_data(image, path, what, np.float32)[:, :, :, 0, :]
    if not np.isfinite(data).all():
        raise InputError(f"{path}: the momentum holds NaN or infinite values; compute it again")
    try:
        momentum = Momentum(
            data=data,
            grid=_grid(parameters["velocity_grid"], path),
            kernel={str(key): float(value) for key, value in parameters["kernel"].items()},
            steps=parameters["steps"],
            working_grid=_grid(parameters["working_grid"], path),
        )
        if momentum.factor > MULTIPLE:
            raise ValueError("its working grid is too fine for it")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: its momentum parameters are damaged ({error}); write it again"
        ) from error
    voxels = math.prod(momentum.working_grid.shape)
    check_memory(voxels * _BYTES_OF_SHOOTING, path, "its shooting")
    x, y, z = image.shape[:3]
    if not Grid((x, y, z), world.affine).equals(momentum.grid, tol=1e-2):
        raise InputError(
            f"{path}: was moved to another grid; use the original file of the momentum"
        )
    return momentum


def _grid_as_json(grid: Grid) -> dict[str, Any]:
    """Return a grid as a JSON object."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid(description: dict[str, Any], path: PathLike) -> Grid:
    """Return the grid of a JSON object of :func:`_grid_as_json`."""
    x, y, z = description["shape"]
    if not all(type(n) is int for n in (x, y, z)):
        raise ValueError("the shape of a grid is not of integers")
    check_shape((x, y, z), path, "momentum")
    affine = np.array(description["affine"], dtype=float)
    return Grid((x, y, z), check_world(affine, (x, y, z), path))


def _parameters(image: SpatialImage, path: PathLike) -> dict[str, Any]:
    """Return the JSON object in the header extension."""
    extensions = image.header.extensions if isinstance(image, Nifti1Pair) else []
    for extension in extensions:
        try:
            # Extensions are padded with zero bytes to a multiple of 16.
            parameters = parse_json(extension.text.rstrip("\0"))
        except (ValueError, TypeError):
            continue
        if isinstance(parameters, dict) and parameters.get("format") == _FORMAT:
            if parameters.get("version") != _VERSION:
                raise InputError(f"{path}: has a newer format; update nipype-quicksilver")
            return parameters
    raise InputError(
        f"{path}: is not a momentum (its header does not store a kernel and a grid); give a "
        "momentum that quicksilver wrote"
    )
