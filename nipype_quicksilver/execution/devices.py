"""The device on which tensors are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.steps import DEVICE

if TYPE_CHECKING:
    import torch


def select_device(name: str | torch.device) -> torch.device:
    """Return the device with a name.

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
    if str(name) == DEVICE.default:
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name}: is unknown; use cpu or auto") from error
    if device.type == "cuda" and (device.index or 0) >= count:
        available = f"torch {torch.__version__} sees {count} GPU{'' if count == 1 else 's'}"
        raise InputError(f"device {name}: {available}; use cpu or auto")
    return device
