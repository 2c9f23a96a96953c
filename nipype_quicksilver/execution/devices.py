"""Devices to compute on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nipype_quicksilver.errors import InputError

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.optimize import Iteration
    from nipype_quicksilver.networks.predictor import Drawn

    Progress = Callable[[Iteration | Drawn], None]


def select_device(name: str | torch.device) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str or torch.device
        ``auto`` (the first GPU that torch can use, else the CPU), ``cpu``, ``cuda``, ``cuda:N``.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    InputError
        If there is no such device.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if str(name) == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name}: is not known; use cpu or auto") from error
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"torch {torch.__version__} sees {count} GPU{'' if count == 1 else 's'}"
        raise InputError(f"device {name}: {found}; use cpu or auto")
    return device
