"""Series of volumes, read and written one by one: memory does not grow with their number."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
from isal.igzip import GzipFile
from nibabel.nifti1 import Nifti1Header, Nifti1Pair
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.spatial import limits
from nipype_quicksilver.spatial.files import PathLike, staged
from nipype_quicksilver.spatial.headers import (
    World,
    check_size,
    check_whole,
    damaged,
    open_image,
    own_type,
)
from nipype_quicksilver.spatial.voxels import (
    check_finite,
    only_missing,
    smallest_integer,
    squeezed_shape,
    warn_missing,
    whole_numbers,
)

# By NIfTI's codes of units of time; others are not of a time.
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_MILLISECONDS, _TIME_BITS = 16, 0x38


@dataclass(frozen=True, eq=False)
class Series:
    """A 3-D image or a 4-D series in a file; its voxels are still on disk.

    Attributes
    ----------
    path : path-like
        NIfTI or MGH file.
    what : str
        Its role, for messages.
    shape : tuple of int
        (X, Y, Z) or (X, Y, Z, T).
    world : World
        Its world transform, checked.
    dtype : dtype
        Type of the volumes: that of the file; scaled values are floats.
    time_step : float
        Time between volumes, s; 0 if it is unknown.
    """

    path: PathLike
    what: str
    shape: tuple[int, ...]
    world: World
    dtype: np.dtype[Any]
    time_step: float

    @classmethod
    def open(cls, path: PathLike, what: str = "image") -> Self:
        """Open a file and check its header.

        Parameters
        ----------
        path : path-like
            NIfTI-1, NIfTI-2 or MGH file.
        what : str
            Role of the image, for messages.

        Returns
        -------
        Series
            Without its voxels.

        Raises
        ------
        InputError
            If the file or its header cannot be used, or if its data are damaged.
        """
        image, world = open_image(path, what)
        shape = squeezed_shape(image.shape, path, what, dimensions=(3, 4))
        # A volume as it is on disk, scaled, and returned.
        check_size(image, path, what)
        limits.check_memory(3 * 8 * math.prod(shape[:3]), path, f"a volume of the {what}")
        check_whole(image, path, what)
        return cls(path, what, shape, world, own_type(image), time_step(image))

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Number of voxels along the three axes of space."""
        return self.shape[0], self.shape[1], self.shape[2]

    def __len__(self) -> int:
        return self.shape[3] if len(self.shape) == 4 else 1

    def volumes(self) -> Iterator[np.ndarray]:
        """Yield the volumes.

        Yields
        ------
        ndarray
            (X, Y, Z), of type `dtype`; NaN are set to 0.

        Raises
        ------
        InputError
            If the data are damaged, hold infinite values, or are NaN everywhere.

        Warns
        -----
        UserWarning
            At the end, if there were NaN.
        """
        missing = 0
        for values in self._values():
            check_finite(values, self.path, self.what)
            absent = np.isnan(values) if values.dtype.kind == "f" else np.False_
            missing += int(np.count_nonzero(absent))
            known = np.where(absent, 0, values) if absent.any() else values
            labels = self.dtype.kind in "iu" and known.dtype.kind == "f"
            yield np.asarray(np.rint(known) if labels else known, self.dtype)
        if missing == np.prod(self.shape):
            raise only_missing(self.path, self.what)
        if missing:
            warn_missing(missing, self.path)

    def as_labels(self) -> Series:
        """Return the series with an integer type for labels that are stored as floats.

        Returns
        -------
        Series
            With the smallest integer type that holds all labels.

        Raises
        ------
        InputError
            If values are not integers, or too large to be exact.
        """
        if self.dtype.kind in "iu":
            return self
        low = high = 0.0
        for volume in self.volumes():
            whole = whole_numbers(volume, self.path, self.what)
            low, high = min(low, float(whole.min())), max(high, float(whole.max()))
        return replace(self, dtype=smallest_integer(low, high))

    def _values(self) -> Iterator[np.ndarray]:
        """Yield the volumes as they are on disk, scaled."""
        # The file is kept open: a compressed one is read once, from its start to its end.
        image: Any = nib.load(Path(self.path), keep_file_open=True)
        rest = (0,) * (len(image.shape) - len(self.shape))
        for t in range(len(self)):
            index = (..., t, *rest) if len(self.shape) == 4 else (..., *rest)
            yield self._read(image, index)

    def _read(self, image: Any, index: Any) -> np.ndarray:
        """Return a part of the voxels; integers as they are on disk."""
        try:
            # A value beyond the range of float32 becomes infinite, and an error later.
            with np.errstate(over="ignore"):
                values = np.asanyarray(image.dataobj[index])
                native = values.dtype if values.dtype.kind in "iu" else self._float
                return np.array(values, dtype=native.newbyteorder("="), order="F")
        except MemoryError:
            raise
        except Exception as error:  # of several libraries
            raise damaged(self.path, self.what) from error

    @property
    def _float(self) -> np.dtype[Any]:
        return self.dtype if self.dtype.kind == "f" else np.dtype(np.float64)


def write_volumes(path: PathLike, header: Nifti1Header, volumes: Iterable[np.ndarray]) -> Path:
    """Write a series volume by volume; the file is written completely or not at all.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``, in an existing folder.
    header : Nifti1Header
        With the shape (X, Y, Z, T) and the type on disk.
    volumes : iterable of ndarray
        T volumes (X, Y, Z); floats are written in the type of the header.

    Returns
    -------
    Path
        The file written; identical data give identical bytes.

    Raises
    ------
    InputError, QuicksilverError
        If it cannot be written.
    """
    path = Path(path)
    header = header.copy()
    header.set_slope_inter(1, 0)
    start = io.BytesIO()
    header.write_to(start)
    dtype, shape, number = header.get_data_dtype(), header.get_data_shape(), 0
    with staged(path) as temporary, written(temporary) as stream:
        stream.write(start.getvalue())
        for volume in volumes:
            if volume.shape != shape[:3]:
                raise ValueError(f"a volume of {volume.shape} does not fit a series of {shape}")
            # Voxels along x follow one another on disk.
            stream.write(np.ascontiguousarray(volume.T, dtype=dtype).data.cast("B"))
            number += 1
        if number != shape[3]:
            raise ValueError(f"{number} volumes for a series of {shape}")
    return path


@contextmanager
def written(path: Path) -> Iterator[Any]:
    """Open a file for writing; compressed to about the size that zlib gives, but much faster."""
    with open(path, "wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        # Neither name nor time is stored: identical data give identical bytes.
        with GzipFile("", "wb", 1, file, mtime=0) as stream:
            yield stream


def time_step(image: SpatialImage) -> float:
    """Return the time between volumes in a header, s; 0 if it is unknown."""
    zooms = image.header.get_zooms()
    unit = _MILLISECONDS
    if isinstance(image, Nifti1Pair):
        unit = image.header["xyzt_units"].item() & _TIME_BITS
    step = float(zooms[3]) * _SECONDS.get(unit, 1.0) if len(zooms) > 3 else 0.0
    return step if np.isfinite(step) else 0.0


def set_time_step(header: Nifti1Header, seconds: float) -> None:
    """Set the time between volumes in the header of a 4-D image, s."""
    if len(header.get_data_shape()) == 4:
        header.set_zooms((*header.get_zooms()[:3], seconds))
        header.set_xyzt_units("mm", "sec")
