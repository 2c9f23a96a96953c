"""Shooting a momentum, from a file or an array; torch is imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock, thread_counts, versions
from nipype_quicksilver.registration.summary import Energy, GridSummary, with_total
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.spatial.jacobians import JacobianSummary, jacobian_summary, log_jacobian
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum
from nipype_quicksilver.spatial.records import as_json
from nipype_quicksilver.spatial.transforms import write_displacement

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.kernel import KernelOperator
    from nipype_quicksilver.lddmm.shooting import Geodesic


@dataclass(frozen=True)
class Maps:
    """Both maps of a shoot, on the working grid.

    Attributes
    ----------
    inverse : ndarray
        (X, Y, Z, 3), displacement of phi^-1, fixed to moving points, RAS mm, float32.
    forward : ndarray
        (X, Y, Z, 3), displacement of phi, moving to fixed points.
    energies : list of float
        <m, K m> along the path.
    """

    inverse: np.ndarray
    forward: np.ndarray
    energies: list[float]


@dataclass(frozen=True)
class ShootingParameters:
    """Kernel, time steps, device and threads of a shoot."""

    kernel: dict[str, float]
    steps: int
    device: str
    threads: dict[str, int]


@dataclass(frozen=True)
class ShootingSummary:
    """A shoot, from file to files.

    Attributes
    ----------
    versions : dict
        Of this package, its libraries and Python.
    inputs : dict
        Path of the momentum.
    parameters : ShootingParameters
        What it was shot with.
    working_grid, velocity_grid : GridSummary
        Of the maps, and of the momentum.
    energy : Energy
        Along the geodesic.
    jacobian : JacobianSummary
        Of phi^-1.
    seconds : dict
        Wall-clock seconds of each part, and ``total``.
    """

    versions: dict[str, str]
    inputs: dict[str, str]
    parameters: ShootingParameters
    working_grid: GridSummary
    velocity_grid: GridSummary
    energy: Energy
    jacobian: JacobianSummary
    seconds: dict[str, float]


def shoot_file(momentum: PathLike, output_dir: PathLike, device: torch.device) -> ShootingSummary:
    """Shoot a momentum and write both maps, or nothing.

    Parameters
    ----------
    momentum : path-like
        File of `spatial.momentum.write_momentum`.
    output_dir : path-like
        Folder for ``displacement.nii.gz`` (phi^-1, fixed to moving points),
        ``inverse_displacement.nii.gz`` (phi), ``log_jacobian.nii.gz`` (of phi^-1) and
        ``summary.json``, all on the momentum's working grid; made if needed.
    device : torch.device
        Where to compute.

    Returns
    -------
    ShootingSummary
        What is written as ``summary.json``.

    Raises
    ------
    InputError
        If the momentum cannot be used, or the folder cannot be written to.
    """
    clock = Clock()
    with clock.part("read"):
        start = read_momentum(momentum)
    grid = start.working_grid
    with clock.part("maps"):
        maps = shoot_momentum(start, device, str(momentum))
    with clock.part("measure"):
        logarithm = log_jacobian(maps.inverse, grid)
        jacobian = jacobian_summary(maps.inverse, grid, logarithm=logarithm)
    with staged_folder(output_dir) as stage:
        with clock.part("write"):
            write_displacement(stage / "displacement.nii.gz", maps.inverse, grid)
            write_displacement(stage / "inverse_displacement.nii.gz", maps.forward, grid)
            write_image(stage / "log_jacobian.nii.gz", logarithm, grid.affine)
        summary = ShootingSummary(
            versions=versions(),
            inputs={"momentum": str(Path(momentum).absolute())},
            parameters=ShootingParameters(
                kernel=start.kernel,
                steps=start.steps,
                device=str(device),
                threads=thread_counts(),
            ),
            working_grid=GridSummary.of(grid),
            velocity_grid=GridSummary.of(start.grid),
            energy=describe_energies(maps),
            jacobian=jacobian,
            seconds=with_total(clock.seconds),
        )
        write_json(stage / "summary.json", as_json(summary))
    return summary


def shoot_momentum(momentum: Momentum, device: torch.device, name: str = "momentum") -> Maps:
    """Follow the geodesic of a momentum to its end, in both directions.

    Parameters
    ----------
    momentum : Momentum
        With its grid and kernel.
    device : torch.device
        Where to compute.
    name : str
        The momentum's file, for messages.

    Returns
    -------
    Maps
        Displacements on the momentum's working grid.

    Raises
    ------
    InputError
        If the geodesic blows up.
    """
    return maps_at_end(_shoot(momentum, device, name), momentum, device)


def maps_at_end(geodesic: Geodesic, momentum: Momentum, device: torch.device) -> Maps:
    """Return the maps of a momentum's geodesic, see :func:`shoot_momentum`."""
    from nipype_quicksilver.lddmm.maps import registration_maps

    maps = registration_maps(geodesic, operator_of(momentum, device), factor=momentum.factor)
    return Maps(to_array(maps.inverse), to_array(maps.forward), list(maps.energies))


def check_geodesic(momentum: Momentum, device: torch.device, name: str) -> None:
    """Refuse a momentum from which no optimisation can start.

    Parameters
    ----------
    momentum : Momentum
        With its grid and kernel.
    device : torch.device
        Where to compute.
    name : str
        The momentum's file, for messages.

    Raises
    ------
    InputError
        If the geodesic blows up.
    """
    _shoot(momentum, device, name)


def _shoot(momentum: Momentum, device: torch.device, name: str) -> Geodesic:
    """Return the geodesic of a momentum, with both maps and the energies, if it has one."""
    import torch

    from nipype_quicksilver.lddmm.shooting import shoot

    start, operator = to_tensor(momentum.data, device), operator_of(momentum, device)
    with torch.no_grad():
        geodesic = shoot(start, operator, steps=momentum.steps, energies=True)
    # What leads out of the grid is no map, though all its numbers may be finite.
    size = max(n * h for n, h in zip(operator.shape, operator.spacing, strict=True))
    if not bool(geodesic.inverse.abs().max() < size):
        raise InputError(
            f"{name}: its geodesic blows up; give a momentum as a registration finds it"
        )
    return geodesic


def operator_of(momentum: Momentum, device: torch.device) -> KernelOperator:
    """Return the kernel of a momentum on its grid."""
    import torch

    from nipype_quicksilver.lddmm.kernel import KernelOperator
    from nipype_quicksilver.lddmm.settings import Kernel

    kernel = Kernel(**momentum.kernel)
    return KernelOperator(kernel, momentum.grid.shape, momentum.grid.spacing, torch.float32, device)


def describe_energies(maps: Maps) -> Energy:
    """Return <m, K m> at the start of a geodesic and along it, where it should be constant."""
    return Energy(maps.energies[0], maps.energies)


def to_tensor(data: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return (1, 1, X, Y, Z) of an image, (1, 3, X, Y, Z) of a vector field."""
    import torch

    channels = data[None] if data.ndim == 3 else np.moveaxis(data, -1, 0)
    return torch.from_numpy(np.array(channels[None], dtype=np.float32, order="C")).to(device)


def to_array(field: torch.Tensor) -> np.ndarray:
    """Return (X, Y, Z, 3) of a vector field (1, 3, X, Y, Z)."""
    return np.ascontiguousarray(np.moveaxis(field[0].detach().cpu().numpy(), 0, -1))
