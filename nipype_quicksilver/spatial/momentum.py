"""Initial momenta on disk: a vector image that carries the operator it belongs to.

A momentum means something only on its own grid and for its own kernel, so both travel in the
same file: the grid as the image's geometry, the rest as JSON in a NIfTI header extension.
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
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.headers import open_image, read_data
from nipype_quicksilver.spatial.images import nifti, save_nifti
from nipype_quicksilver.spatial.transforms import MOMENTUM

KERNEL_KEYS = ("alpha", "beta", "gamma", "power")

_COMMENT = "comment"
_FORMAT = "quicksilver-momentum"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Momentum:
    """An initial momentum and what is needed to shoot it.

    Parameters
    ----------
    data : ndarray
        (X, Y, Z, 3), float32; components along the RAS axes, in the units of the engine.
    grid : Grid
        Grid of the momentum and the velocity.
    kernel : dict
        Operator ``(-alpha Lap - beta grad div + gamma)^power``: keys alpha, beta, gamma, power.
    steps : int
        Time steps of the shoot.
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
        if set(self.kernel) != set(KERNEL_KEYS):
            raise ValueError(f"a kernel has {KERNEL_KEYS}, not {tuple(self.kernel)}")
        if not all(0 <= value < math.inf for value in self.kernel.values()):
            raise ValueError(f"a kernel's parameters are finite and not negative: {self.kernel}")
        if not (self.kernel["gamma"] > 0 and self.kernel["power"] > 0 and self.steps > 0):
            raise ValueError("gamma, the power of the kernel and the time steps are positive")
        whole = tuple(n * self.factor for n in self.grid.shape)
        coarser = self.working_grid.subsampled(self.factor or 1)
        if whole != self.working_grid.shape or not self.grid.equals(coarser, tol=1e-2):
            raise ValueError("a momentum's grid is its working grid, coarser by a whole factor")

    @property
    def factor(self) -> int:
        """Voxels of the working grid along each edge of a voxel of the momentum."""
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
        If the suffix is another, or the file cannot be written.
    """
    data = np.asarray(momentum.data, dtype=np.float32)[:, :, :, None, :]
    image = nifti(data, momentum.grid.affine)
    image.header.set_intent("vector", name=MOMENTUM)
    facts = {
        "format": _FORMAT,
        "version": _VERSION,
        "frame": "RAS",
        "kernel": {key: float(momentum.kernel[key]) for key in KERNEL_KEYS},
        "steps": int(momentum.steps),
        "working_grid": _grid_facts(momentum.working_grid),
        # The header holds the affine in single precision; a shoot wants all of it.
        "velocity_grid": _grid_facts(momentum.grid),
    }
    text = json.dumps(facts, sort_keys=True).encode("utf-8")
    image.header.extensions.append(Nifti1Extension(_COMMENT, text))
    return save_nifti(path, image)


def read_momentum(path: PathLike) -> Momentum:
    """Read a momentum.

    Parameters
    ----------
    path : path-like
        File of :func:`write_momentum`.

    Returns
    -------
    Momentum
        The momentum, its grids, kernel and steps.

    Raises
    ------
    InputError
        If the file is missing or damaged, lacks the facts about its kernel and grids, or was
        moved to another grid since.
    """
    what = "momentum"
    image, world = open_image(path, what)
    facts = _facts(image, path)
    if len(image.shape) != 5 or image.shape[3:] != (1, 3):
        raise InputError(f"{path}: has shape {image.shape}, not (X, Y, Z, 1, 3); write it again")
    data = read_data(image, path, what, np.float32)[:, :, :, 0, :]
    if not np.isfinite(data).all():
        raise InputError(f"{path}: the momentum holds NaN or infinite values; compute it again")
    try:
        momentum = Momentum(
            data=data,
            grid=_grid(facts["velocity_grid"]),
            kernel={str(key): float(value) for key, value in facts["kernel"].items()},
            steps=int(facts["steps"]),
            working_grid=_grid(facts["working_grid"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: its momentum parameters are damaged; write it again") from error
    x, y, z = image.shape[:3]
    if not Grid((x, y, z), world.affine).equals(momentum.grid, tol=1e-2):
        raise InputError(f"{path}: was moved to another grid; use the momentum as it was written")
    return momentum


def _grid_facts(grid: Grid) -> dict[str, Any]:
    """Return a grid as JSON holds it."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid(facts: dict[str, Any]) -> Grid:
    """Return the grid that :func:`_grid_facts` described."""
    x, y, z = facts["shape"]
    return Grid((x, y, z), np.array(facts["affine"], dtype=float))


def _facts(image: SpatialImage, path: PathLike) -> dict[str, Any]:
    """Return the JSON in the header extension."""
    extensions = image.header.extensions if isinstance(image, Nifti1Pair) else []
    for extension in extensions:
        try:
            # Extensions are padded with zero bytes to a multiple of 16.
            facts = json.loads(extension.text.rstrip("\0"))
        except (ValueError, TypeError):
            continue
        if isinstance(facts, dict) and facts.get("format") == _FORMAT:
            if facts.get("version") != _VERSION:
                raise InputError(f"{path}: is of a later format; update nipype-quicksilver")
            return facts
    raise InputError(
        f"{path}: is no momentum (its header tells no kernel and grid); give a file that "
        "quicksilver wrote as momentum"
    )
