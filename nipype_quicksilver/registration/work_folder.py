"""What is kept of a registration for the next one, found again by what it was made from."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import QuicksilverError
from nipype_quicksilver.execution.provenance import Clock, noted_warnings
from nipype_quicksilver.networks.card import card_path
from nipype_quicksilver.registration.fit import Fit, find_momentum
from nipype_quicksilver.registration.method import Method
from nipype_quicksilver.registration.preparation import Prepared
from nipype_quicksilver.registration.shooting import shoot_momentum
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.images import read_mask, read_series, write_image
from nipype_quicksilver.spatial.momentum import read_momentum, write_momentum

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.registration.fit import Progress


_WARNINGS = "warnings"  # among the facts of a file


class WorkFolder:
    """Brain masks, affines and momenta, found again by what they were made from.

    Parameters
    ----------
    folder : path-like or None
        An existing folder; nothing is kept without one.
    """

    def __init__(self, folder: PathLike | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def kept(
        self,
        what: str,
        parts: list[Any],
        compute: Callable[[], tuple[np.ndarray, dict[str, Any]]],
        like: Nifti1Image | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an array and its facts, from the folder if they are there.

        Parameters
        ----------
        what : str
            Name of the result.
        parts : list
            Images, arrays and settings that it depends on.
        compute : callable
            Makes the result.
        like : Nifti1Image, optional
            The image on whose grid the array is; without it the array is a matrix.

        Returns
        -------
        data : ndarray
            The result.
        facts : dict
            With ``reused``: whether it was found in the folder.
        """
        if self.folder is None:
            return compute()
        stem = self._stem(self.folder, what, parts)
        image, facts_file = Path(f"{stem}.nii.gz"), Path(f"{stem}.json")
        found = _read(image if like is not None else None, facts_file)
        if found is not None:
            return found[0], {**_told_again(found[1]), "reused": True}
        with noted_warnings() as told:
            data, facts = compute()
        if like is not None:
            write_image(image, data, like.affine, like=like)
        # Last: without it, the rest does not count.
        matrix = {"matrix": data} if like is None else {}
        write_json(facts_file, {**facts, **matrix, _WARNINGS: told})
        return data, {**facts, "reused": False}

    def fit(
        self,
        prepared: Prepared,
        method: Method,
        *,
        device: torch.device,
        seed: int,
        clock: Clock,
        progress: Progress | None = None,
    ) -> Fit:
        """Return what `engine.fit` does; its momentum from the folder if it is there.

        Parameters
        ----------
        prepared, method, device, seed, clock, progress
            As for `engine.fit`.

        Returns
        -------
        Fit
            A momentum that was kept is shot again. With a folder, the facts tell under
            ``momentum`` whether it was ``reused``.
        """

        def compute() -> Fit:
            return find_momentum(
                prepared, method, device=device, seed=seed, clock=clock, progress=progress
            )

        if self.folder is None:
            return compute()
        stem = self._stem(self.folder, "momentum", _parts_of_fit(prepared, method, device, seed))
        image, variance = Path(f"{stem}.nii.gz"), Path(f"{stem}_variance.nii.gz")
        facts_file = Path(f"{stem}.json")
        fit = _read_fit(image, variance if method.samples else None, facts_file, device, clock)
        if fit is not None:
            facts = {
                **_told_again(fit.facts),
                "masks": prepared.masks,
                "momentum": {"reused": True},
            }
            return replace(fit, facts=facts)
        with noted_warnings() as told:
            fit = compute()
        write_momentum(image, fit.momentum)
        if fit.variance is not None:
            write_image(variance, fit.variance, prepared.grid.affine)
        write_json(facts_file, {**fit.facts, _WARNINGS: told})
        return replace(fit, facts={**fit.facts, "momentum": {"reused": False}})

    @staticmethod
    def _stem(folder: Path, what: str, parts: list[Any]) -> Path:
        return folder / f"{what}_{_digest([what, __version__, *parts])}"


def _told_again(facts: dict[str, Any]) -> dict[str, Any]:
    """Warn of what the first run was warned of; return the other facts."""
    for text in facts.get(_WARNINGS, []):
        warnings.warn(text, UserWarning, stacklevel=3)
    return {name: value for name, value in facts.items() if name != _WARNINGS}


def _parts_of_fit(prepared: Prepared, method: Method, device: torch.device, seed: int) -> list[Any]:
    """Return all that a momentum depends on."""
    images = [prepared.fixed, prepared.moving, prepared.weight, prepared.moving_weight]
    places = [prepared.grid.affine, prepared.to_fixed, prepared.fixed_brain.affine]
    parts: list[Any] = [*images, *places, device.type, method.name]
    if method.name in ("optimize", "refine"):
        parts.append(asdict(method.settings))
    if method.predictor is not None:
        seeds = [seed] if method.samples else []
        # The card tells how often a network is applied: with another one, other momenta.
        for file in method.predictor.files:
            parts += [Path(file), card_path(file)]
        parts += [method.corrections, method.samples, *seeds]
    return parts


def _read_fit(
    image: Path, variance: Path | None, facts_file: Path, device: torch.device, clock: Clock
) -> Fit | None:
    """Return a fit that is kept, None where it is not there or damaged."""
    try:
        facts: dict[str, Any] = json.loads(facts_file.read_text(encoding="utf-8"))
        momentum = read_momentum(image)
        spread = None if variance is None else np.asanyarray(read_series(variance).dataobj)
    except (OSError, ValueError, QuicksilverError):
        return None
    with clock.part("maps"):
        maps = shoot_momentum(momentum, device)
    return Fit(momentum, maps, facts, spread)


def _read(image: Path | None, facts_file: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Return what is kept, None where it is not there or damaged."""
    try:
        facts: dict[str, Any] = json.loads(facts_file.read_text(encoding="utf-8"))
        if image is None:
            return np.array(facts.pop("matrix"), dtype=float), facts
        return np.asanyarray(read_mask(image).dataobj), facts
    except (OSError, ValueError, KeyError, QuicksilverError):
        return None


def _digest(parts: list[Any]) -> str:
    """Return a short name for images, arrays, files and settings; it changes with any of them."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Nifti1Image):
            data = np.asanyarray(part.dataobj)
            header = [data.shape, str(data.dtype), part.affine.tolist()]
            digest.update(json.dumps(header).encode())
            digest.update(np.ascontiguousarray(data).tobytes())
        elif isinstance(part, np.ndarray):
            digest.update(json.dumps([part.shape, str(part.dtype)]).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, Path):
            digest.update(part.read_bytes())
        else:
            digest.update(json.dumps(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]
