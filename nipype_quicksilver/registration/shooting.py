"""Shooting a momentum as files hold it: arrays in, arrays out; torch is imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.momentum import Momentum

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


def describe_energies(maps: Maps) -> dict[str, Any]:
    """Tell <m, K m> at the start of a geodesic and along it, where it should be constant."""
    return {"initial": maps.energies[0], "path": maps.energies}


def to_tensor(data: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return (1, 1, X, Y, Z) of an image, (1, 3, X, Y, Z) of a vector field."""
    import torch

    channels = data[None] if data.ndim == 3 else np.moveaxis(data, -1, 0)
    return torch.from_numpy(np.array(channels[None], dtype=np.float32, order="C")).to(device)


def to_array(field: torch.Tensor) -> np.ndarray:
    """Return (X, Y, Z, 3) of a vector field (1, 3, X, Y, Z)."""
    return np.ascontiguousarray(np.moveaxis(field[0].detach().cpu().numpy(), 0, -1))
