"""Intermediate results of registrations, stored by a digest of their inputs."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import QuicksilverError
from nipype_quicksilver.execution.locks import locked
from nipype_quicksilver.execution.provenance import Clock, recorded_warnings
from nipype_quicksilver.networks.card import card_path
from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.registration.fit import Fit, find_momentum
from nipype_quicksilver.registration.method import Method
from nipype_quicksilver.registration.preparation import Prepared
from nipype_quicksilver.registration.shooting import shoot_momentum
from nipype_quicksilver.registration.summary import FitSummary, Reuse
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.images import read_mask, read_series, write_image
from nipype_quicksilver.spatial.momentum import read_momentum, write_momentum
from nipype_quicksilver.spatial.records import as_json, from_json

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.registration.fit import Progress

Step = TypeVar("Step", BrainSummary, AffineSummary)
# Keys of the records, in addition to those of a summary.
_WARNINGS, _MATRIX = "warnings", "matrix"


class WorkFolder:
    """Brain masks, affines and momenta, stored by a digest of their inputs.

    Several runs may share the folder: each locks it while it reads or writes one result.

    Parameters
    ----------
    folder : path-like or None
        An existing folder; None to store nothing.
    """

    def __init__(self, folder: PathLike | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def reuse_or_compute(
        self,
        what: str,
        parts: list[Any],
        compute: Callable[[], tuple[np.ndarray, Step]],
        kind: type[Step],
        like: Nifti1Image | None = None,
    ) -> tuple[np.ndarray, Step]:
        """Return a result and its summary, from the folder if it contains them.

        Parameters
        ----------
        what : str
            Name of the result.
        parts : list
            Images, arrays and settings on which the result depends.
        compute : callable
            Computes the result and its summary.
        kind : type
            Class of the summary.
        like : Nifti1Image, optional
            Image on whose grid the result is; default: the result is a matrix.

        Returns
        -------
        data : ndarray
            The result: (X, Y, Z), or a 4x4 matrix.
        summary : object
            Its summary; `reused` is whether the result was in the folder, None without a folder.
        """
        if self.folder is None:
            return compute()
        stem = self._stem(self.folder, what, parts)
        image, record = Path(f"{stem}.nii.gz"), Path(f"{stem}.json")
        with locked(self.folder):
            earlier = _read(image if like is not None else None, record, kind)
        if earlier is not None:
            return earlier[0], replace(earlier[1], reused=True)
        with recorded_warnings() as messages:
            data, summary = compute()
        matrix = {_MATRIX: data} if like is None else {}
        with locked(self.folder):
            if like is not None:
                write_image(image, data, like.affine, like=like)
            # Written last: other files of the result are ignored without the record.
            write_json(record, {**as_json(summary), **matrix, _WARNINGS: messages})
        return data, replace(summary, reused=False)

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
        """Return a fit, whose momentum is from the folder if it contains one.

        Parameters
        ----------
        prepared, method, device, seed, clock, progress
            As for `fit.find_momentum`.

        Returns
        -------
        Fit
            As `fit.find_momentum` returns it; a momentum from the folder is shot again.
        """

        def compute() -> Fit:
            return find_momentum(
                prepared, method, device=device, seed=seed, clock=clock, progress=progress
            )

        if self.folder is None:
            return compute()
        stem = self._stem(self.folder, "momentum", _parts_of_fit(prepared, method, device, seed))
        image, variance = Path(f"{stem}.nii.gz"), Path(f"{stem}_variance.nii.gz")
        record = Path(f"{stem}.json")
        with locked(self.folder):
            fit = _read_fit(image, variance if method.samples else None, record, device, clock)
        if fit is not None:
            summary = replace(fit.summary, masks=prepared.masks)
            return _marked(replace(fit, summary=summary), reused=True)
        with recorded_warnings() as messages:
            fit = compute()
        with locked(self.folder):
            write_momentum(image, fit.momentum)
            if fit.variance is not None:
                write_image(variance, fit.variance, prepared.grid.affine)
            write_json(record, {**as_json(fit.summary), _WARNINGS: messages})
        return _marked(fit, reused=False)

    @staticmethod
    def _stem(folder: Path, what: str, parts: list[Any]) -> Path:
        return folder / f"{what}_{_digest([what, __version__, *parts])}"


def _parts_of_fit(prepared: Prepared, method: Method, device: torch.device, seed: int) -> list[Any]:
    """Return everything on which a momentum depends."""
    images = [prepared.fixed, prepared.moving, prepared.weight, prepared.moving_weight]
    places = [prepared.grid.affine, prepared.to_fixed, prepared.fixed_brain.affine]
    parts: list[Any] = [*images, *places, device.type, method.name]
    if method.traits.optimizes:
        parts.append(asdict(method.settings))
    if method.predictor is not None:
        # The card contains the number of steps of a network, which changes the momentum.
        for file in method.predictor.files:
            parts += [Path(file), card_path(file)]
    numbers = [getattr(method, name) for name in _names_of_numbers(method)]
    return [*parts, *numbers, *([seed] if method.samples else [])]


def _names_of_numbers(method: Method) -> list[str]:
    """Return the fields of a method that are not looked at one by one, also later ones."""
    apart = ("name", "settings", "predictor")
    return [field.name for field in fields(method) if field.name not in apart]


def _marked(fit: Fit, *, reused: bool) -> Fit:
    return replace(fit, summary=replace(fit.summary, momentum=Reuse(reused)))


def _read_fit(
    image: Path, variance: Path | None, record: Path, device: torch.device, clock: Clock
) -> Fit | None:
    """Return a fit from the folder; None if it is missing or damaged."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        summary = from_json(FitSummary, data, str(record), "it is computed again")
        momentum = read_momentum(image)
        variances = None if variance is None else np.asanyarray(read_series(variance).dataobj)
    except (OSError, ValueError, QuicksilverError):
        return None
    _repeat_warnings(data)
    with clock.part("maps"):
        maps = shoot_momentum(momentum, device)
    return Fit(momentum, maps, summary, variances)


def _read(image: Path | None, record: Path, kind: type[Step]) -> tuple[np.ndarray, Step] | None:
    """Return a result from the folder; None if it is missing or damaged."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        summary = from_json(kind, data, str(record), "it is computed again")
        if image is None:
            array = np.array(data[_MATRIX], dtype=float)
        else:
            array = np.asanyarray(read_mask(image).dataobj)
    except (OSError, ValueError, KeyError, TypeError, QuicksilverError):
        return None
    _repeat_warnings(data)
    return array, summary


def _repeat_warnings(data: dict[str, Any]) -> None:
    """Repeat the warnings of the run that wrote a file."""
    for text in data.get(_WARNINGS, []):
        warnings.warn(text, UserWarning, stacklevel=4)


def _digest(parts: list[Any]) -> str:
    """Return a digest of images, arrays, files and settings, 16 hexadecimal digits."""
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
