"""Momentum between two images that are on the working grid already, from their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import Clock, versions
from nipype_quicksilver.methods import method_that
from nipype_quicksilver.options import RegistrationOptions, completed
from nipype_quicksilver.registration.fit import Fit, find_momentum, settings_of_initial
from nipype_quicksilver.registration.method import Method, choose_method
from nipype_quicksilver.registration.pair import Pair, Scan, ScanFiles, paths_of, read_pair
from nipype_quicksilver.registration.preparation import ConformedScan, Prepared, assemble
from nipype_quicksilver.registration.shooting import check_geodesic
from nipype_quicksilver.registration.summary import MomentumSummary, with_total
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.conforming import conform_lesion, conform_mask, fill_lesion
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE, Grid, check_same_grid
from nipype_quicksilver.spatial.images import image_name
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.registration.fit import Progress

_BRIGHTEST = 10.0  # normalised intensities reach 1.5, those of scanners more than this


@dataclass(frozen=True)
class MomentumResult:
    """The momentum between two conformed images, and how it was estimated.

    Attributes
    ----------
    momentum : Momentum
        With its kernel and grids.
    summary : MomentumSummary
        Parameters and measures.
    variance : ndarray or None
        (X, Y, Z, 3), float32, mm^2: variances of the components of the displacement, on the
        working grid; None without samples.
    """

    momentum: Momentum
    summary: MomentumSummary
    variance: np.ndarray | None = None


def optimize_files(
    fixed: ScanFiles,
    moving: ScanFiles,
    *,
    initial_momentum: PathLike | None,
    settings: Settings,
    device: torch.device,
    seed: int,
    progress: Progress | None = None,
) -> MomentumResult:
    """Optimise the momentum between two images on one working grid.

    Parameters
    ----------
    fixed, moving : ScanFiles
        Images on the working grid, normalised; masks on any grid in the same world space.
    initial_momentum : path-like or None
        Momentum to start from, whose kernel and time steps are kept; None: zero.
    settings : Settings
        Schedule, kernel and similarity.
    device : torch.device
        Where to compute.
    seed : int
        Seed of the random numbers, which the summary records.
    progress : callable, optional
        Called after each iteration.

    Returns
    -------
    MomentumResult
        Momentum and summary.

    Raises
    ------
    InputError
        If a file cannot be used, or the images are not on one working grid.
    """
    clock, files = Clock(), paths_of(fixed, moving)
    with clock.part("read"):
        pair = read_pair(fixed, moving)
        initial = None if initial_momentum is None else read_momentum(initial_momentum)
    with clock.part("prepare"):
        prepared = prepare_conformed(pair, files)
    start = None
    if initial is not None:
        start = str(Path(str(initial_momentum)).absolute())
        settings = settings_of_initial(settings, initial, prepared.grid, str(initial_momentum))
        check_geodesic(initial, device, str(initial_momentum))
    fit = find_momentum(
        prepared,
        Method(method_that(optimizes=True), settings),
        device=device,
        seed=seed,
        clock=clock,
        initial=initial,
        progress=progress,
    )
    return _result(fit, {**files, "initial_momentum": start}, clock)


def predict_files(
    fixed: ScanFiles,
    moving: ScanFiles,
    options: RegistrationOptions,
    *,
    corrections: int = 1,
    device: torch.device,
    progress: Progress | None = None,
) -> MomentumResult:
    """Predict the momentum between two images on one working grid.

    Parameters
    ----------
    fixed, moving : ScanFiles
        Images on the working grid, normalised; masks on any grid in the same world space.
    options : RegistrationOptions
        Networks, samples and seed.
    corrections : int
        Number of corrections: 0 for the prediction alone (LP), N for LPCn.
    device : torch.device
        Where to compute.
    progress : callable, optional
        Called after each sample.

    Returns
    -------
    MomentumResult
        Momentum and summary; the variance with samples only.

    Raises
    ------
    InputError
        If a file or a network cannot be used, or the images are not on one working grid.
    """
    correction_network = options.get("correction_network")
    if correction_network is not None and not corrections:
        raise InputError(f"{correction_network}: is not used with 0 corrections; leave it out")
    name = method_that(predicts=True, corrects=corrections > 0)
    chosen = completed({**options, "method": name, "corrections": corrections or None})
    method = choose_method(chosen)
    clock, files = Clock(), paths_of(fixed, moving)
    with clock.part("read"):
        pair = read_pair(fixed, moving)
    with clock.part("prepare"):
        prepared = prepare_conformed(pair, files)
    fit = find_momentum(
        prepared, method, device=device, seed=chosen["seed"], clock=clock, progress=progress
    )
    return _result(fit, files, clock)


def _result(fit: Fit, files: dict[str, str | None], clock: Clock) -> MomentumResult:
    summary = MomentumSummary(
        **vars(fit.summary),
        versions=versions(),
        inputs=files,
        seconds=with_total(clock.seconds),
    )
    return MomentumResult(fit.momentum, summary, fit.variance)


def prepare_conformed(pair: Pair, files: dict[str, str | None]) -> Prepared:
    """Check that two images are on one working grid, and resample their masks to it.

    Parameters
    ----------
    pair : Pair
        Images on the working grid; masks on any grid.
    files : dict
        Path of each mask by name, see `pair.paths_of`.

    Returns
    -------
    Prepared
        The images, unchanged except for lesions, which are filled, and their weights.

    Raises
    ------
    InputError
        If the images are not on one working grid or not normalised, or a mask does not overlap
        its image.
    """
    check_same_grid(pair.fixed.image, pair.moving.image)
    for scan in (pair.fixed, pair.moving):
        _check_normalized(scan.image)
    grid = Grid.from_image(pair.fixed.image)
    _check_working_grid(grid, image_name(pair.fixed.image))
    fixed, moving = (_on_grid(scan, grid) for scan in (pair.fixed, pair.moving))
    return assemble(fixed, moving, grid, np.eye(4), files)


def _on_grid(scan: Scan, grid: Grid) -> ConformedScan:
    brain = native_brain(scan.image, scan.mask)
    inside = conform_mask(scan.mask or brain, grid)
    lesion = conform_lesion(scan.lesion, scan.image, grid, np.eye(4))
    data = fill_lesion(np.asanyarray(scan.image.dataobj), inside, lesion, scan.image)
    return ConformedScan(data, inside, lesion, brain)


def _check_working_grid(grid: Grid, name: str) -> None:
    """Raise an error if a grid is not isotropic and RAS, or cannot be coarsened."""
    spacing = grid.spacing[0]
    if not np.allclose(grid.affine[:3, :3], np.eye(3) * spacing, atol=1e-3 * spacing):
        raise InputError(f"{name}: is not isotropic and RAS; bring it to the working grid first")
    if any(n % MULTIPLE for n in grid.shape):
        raise InputError(
            f"{name}: its shape {grid.shape} is not a multiple of {MULTIPLE}; bring it to the "
            "working grid first"
        )


def _check_normalized(image: Nifti1Image) -> None:
    brightest = float(np.abs(np.asanyarray(image.dataobj)).max())
    if brightest > _BRIGHTEST:
        raise InputError(
            f"{image_name(image)}: reaches {brightest:g} instead of about 1; normalise its "
            "intensities first"
        )
