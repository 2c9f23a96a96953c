"""Shooting from file to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.execution.provenance import Clock, describe_grid, thread_counts, versions
from nipype_quicksilver.registration.shooting import describe_energies, shoot_momentum
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.spatial.measures import jacobian_summary, log_jacobian
from nipype_quicksilver.spatial.momentum import read_momentum
from nipype_quicksilver.spatial.transforms import write_displacement

if TYPE_CHECKING:
    import torch


def shoot_file(momentum: PathLike, output_dir: PathLike, device: torch.device) -> dict[str, Any]:
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
    dict
        The summary.

    Raises
    ------
    InputError
        If the momentum cannot be used, or the folder not be written to.
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
        summary = {
            "versions": versions(),
            "inputs": {"momentum": str(Path(momentum).absolute())},
            "parameters": {
                "kernel": start.kernel,
                "steps": start.steps,
                "device": str(device),
                "threads": thread_counts(),
            },
            "working_grid": describe_grid(grid),
            "velocity_grid": describe_grid(start.grid),
            "energy": describe_energies(maps),
            "jacobian": jacobian,
            "seconds": clock.with_total(),
        }
        write_json(stage / "summary.json", summary)
    return summary
