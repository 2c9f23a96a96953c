"""What a run tells about itself: versions, grids, seconds."""

import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from nipype_quicksilver import __version__
from nipype_quicksilver.spatial.grids import Grid

_LIBRARIES = ("torch", "numpy", "SimpleITK", "nibabel", "scipy")


class Clock:
    """Seconds spent in named parts of a run.

    Attributes
    ----------
    seconds, cpu_seconds : dict
        By the name of the part: on the wall clock, and of all threads of this process.

    Examples
    --------
    >>> clock = Clock()
    >>> with clock.part("read"):
    ...     pass
    >>> list(clock.seconds)
    ['read']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu

    def with_total(self) -> dict[str, float]:
        """Return the seconds of all parts, and their sum as ``total``."""
        return {**self.seconds, "total": sum(self.seconds.values())}


def versions() -> dict[str, str]:
    """Return the versions of this package, its numerical libraries and Python."""
    own = {"nipype-quicksilver": __version__, "python": platform.python_version()}
    return {**own, **{name: metadata.version(name) for name in _LIBRARIES}}


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Return shape, spacing (mm) and affine (RAS mm) of a grid as JSON holds them."""
    return {
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "affine": grid.affine.tolist(),
    }


def thread_counts() -> dict[str, int]:
    """Return the threads that torch and ITK compute with."""
    import SimpleITK as sitk
    import torch

    itk = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    return {"torch": torch.get_num_threads(), "itk": itk}


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Note what a run warns its user of; warnings are shown as ever.

    Yields
    ------
    list of str
        Grows with every `UserWarning` of the block.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True), noted_warnings() as told:
    ...     warnings.warn("head.nii: upside down", UserWarning)
    >>> told
    ['head.nii: upside down']
    """
    told: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if category is UserWarning:
                told.append(str(message))
            show(message, category, *rest, **more)

        warnings.showwarning = note
        yield told
