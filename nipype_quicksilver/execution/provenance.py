"""What a run records about itself: versions, grids, computing times, warnings."""

import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from nipype_quicksilver import __version__

_LIBRARIES = ("torch", "numpy", "SimpleITK", "nibabel", "scipy")


class Clock:
    """Measures the time spent in the parts of a run.

    Attributes
    ----------
    seconds, cpu_seconds : dict
        Wall-clock time, and CPU time of all threads of this process, by the name of the part.

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
        """Add the time spent in the block to a part."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu


def versions() -> dict[str, str]:
    """Return the versions of this package, its numerical libraries and Python."""
    own = {"nipype-quicksilver": __version__, "python": platform.python_version()}
    return {**own, **{name: metadata.version(name) for name in _LIBRARIES}}


def thread_counts() -> dict[str, int]:
    """Return the numbers of threads that torch and ITK use."""
    import SimpleITK as sitk
    import torch

    itk = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    return {"torch": torch.get_num_threads(), "itk": itk}


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Record the warnings of a run; they are shown as usual.

    Yields
    ------
    list of str
        The messages of every `UserWarning` in the block so far.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True), recorded_warnings() as messages:
    ...     warnings.warn("head.nii: upside down", UserWarning)
    >>> messages
    ['head.nii: upside down']
    """
    messages: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(
            message: Warning | str, category: type[Warning], *rest: Any, **more: Any
        ) -> None:
            if category is UserWarning:
                messages.append(str(message))
            show(message, category, *rest, **more)

        warnings.showwarning = record
        yield messages
