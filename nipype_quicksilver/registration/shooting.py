"""Shooting of momenta, from files or arrays; torch is imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock, thread_counts, versions
from nipype_quicksilver.registration.summary import Energy, GridSummary, with_total
from nipype_quicksilver.spatial.files import PathLike, check_apart, write_json
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


#: Files of a shooting, the record last.
FILES = (
    "displacement.nii.gz",
    "inverse_displacement.nii.gz",
    "log_jacobian.nii.gz",
    "summary.json",
)


@dataclass(frozen=True)
class Maps:
    """Maps at the end of a geodesic, on the working grid.

    Attributes
    ----------
    inverse : ndarray
        (X, Y, Z, 3), float32, RAS mm: displacement of phi^-1, fixed to moving points.
    forward : ndarray
        (X, Y, Z, 3), float32, RAS mm: displacement of phi, moving to fixed points.
    energies : list of float
        <m, K m> along the geodesic.
    """

    inverse: np.ndarray
    forward: np.ndarray
    energies: list[float]


@dataclass(frozen=True)
class ShootingParameters:
    """Kernel, time steps, device and numbers of threads with which a momentum was shot."""

    kernel: dict[str, float]
    steps: int
    device: str
    threads: dict[str, int]


@dataclass(frozen=True)
class ShootingSummary:
    """Summary of the shooting of a momentum.

    Attributes
    ----------
    versions : dict
        Of this package, its libraries and Python.
    inputs : dict
        Path of the momentum.
    parameters : ShootingParameters
        Kernel, time steps, device and threads.
    working_grid, velocity_grid : GridSummary
        Grid of the maps, and grid of the momentum.
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
    """Shoot a momentum and write both maps; if anything fails, nothing is written.

    Parameters
    ----------
    momentum : path-like
        File that `spatial.momentum.write_momentum` wrote.
    output_dir : path-like
        Folder for ``displacement.nii.gz`` (phi^-1, fixed to moving points),
        ``inverse_displacement.nii.gz`` (phi), ``log_jacobian.nii.gz`` (of phi^-1) and
        ``summary.json``, all on the momentum's working grid; created if needed.
    device : torch.device
        Where to compute.

    Returns
    -------
    ShootingSummary
        Content of ``summary.json``.

    Raises
    ------
    InputError
        If the momentum cannot be used, or the folder cannot be written to.
    """
    check_apart([Path(output_dir) / name for name in FILES], [momentum])
    clock = Clock()
    with clock.part("read"):
        start = read_momentum(momentum)
    grid = start.working_grid
    with clock.part("maps"):
        maps = shoot_momentum(start, device, str(momentum))
    with clock.part("measure"):
        logarithm = log_jacobian(maps.inverse, grid)
        jacobian = jacobian_summary(maps.inverse, grid, logarithm=logarithm)
    with staged_folder(output_dir, FILES, FILES[-1]) as stage:
        displacement, inverse, log_of_jacobian, record = (stage / name for name in FILES)
        with clock.part("write"):
            write_displacement(displacement, maps.inverse, grid)
            write_displacement(inverse, maps.forward, grid)
            write_image(log_of_jacobian, logarithm, grid.affine)
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
        write_json(record, as_json(summary))
    return summary


def shoot_momentum(momentum: Momentum, device: torch.device, name: str = "momentum") -> Maps:
    """Return the maps at the end of the geodesic of a momentum.

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
        If the geodesic diverges.
    """
    return maps_at_end(_shoot(momentum, device, name), momentum, device)


def maps_at_end(geodesic: Geodesic, momentum: Momentum, device: torch.device) -> Maps:
    """Return the maps at the end of a geodesic that was shot.

    Parameters
    ----------
    geodesic : Geodesic
        The geodesic, with its energies.
    momentum : Momentum
        Its momentum, with grids and kernel.
    device : torch.device
        Where to compute.

    Returns
    -------
    Maps
        Displacements on the momentum's working grid.
    """
    from nipype_quicksilver.lddmm.maps import registration_maps

    maps = registration_maps(geodesic, operator_of(momentum, device), factor=momentum.factor)
    return Maps(to_array(maps.inverse), to_array(maps.forward), list(maps.energies))


def check_geodesic(momentum: Momentum, device: torch.device, name: str) -> None:
    """Raise an error if an optimisation cannot start from a momentum.

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
        If the geodesic diverges.
    """
    _shoot(momentum, device, name)


def _shoot(momentum: Momentum, device: torch.device, name: str) -> Geodesic:
    """Return the geodesic of a momentum, with both maps and the energies."""
    import torch

    from nipype_quicksilver.lddmm.shooting import shoot

    start, operator = to_tensor(momentum.data, device), operator_of(momentum, device)
    with torch.no_grad():
        geodesic = shoot(start, operator, steps=momentum.steps, energies=True)
    # A displacement larger than the grid is useless, even if it is finite.
    size = max(n * h for n, h in zip(operator.shape, operator.spacing, strict=True))
    if not bool(geodesic.inverse.abs().max() < size):
        raise InputError(
            f"{name}: its geodesic diverges; give a momentum that a registration wrote"
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
    """Return the energy <m, K m> at the start of a geodesic and along it; it should be constant."""
    return Energy(maps.energies[0], maps.energies)


def to_tensor(data: np.ndarray, device: torch.device) -> torch.Tensor:
    """Convert an array to a tensor.

    Parameters
    ----------
    data : ndarray
        Image (X, Y, Z) or vector field (X, Y, Z, 3).
    device : torch.device
        Device of the tensor.

    Returns
    -------
    Tensor
        (1, 1, X, Y, Z) or (1, 3, X, Y, Z), float32; a copy.
    """
    import torch

    channels = data[None] if data.ndim == 3 else np.moveaxis(data, -1, 0)
    return torch.from_numpy(np.array(channels[None], dtype=np.float32, order="C")).to(device)


def to_array(field: torch.Tensor) -> np.ndarray:
    """Convert a vector field (1, 3, X, Y, Z) to an array (X, Y, Z, 3)."""
    return np.ascontiguousarray(np.moveaxis(field[0].detach().cpu().numpy(), 0, -1))
