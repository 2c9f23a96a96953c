"""What finds brains and affines instead of the engines of this package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Engine:
    """A program of another package.

    Attributes
    ----------
    name : str
        What it is called.
    run : callable
        To extract a brain: called with an image, returns its mask as an array. To align: called
        with a fixed and a moving brain, returns the 4x4 matrix that maps fixed to moving points,
        RAS mm.
    """

    name: str
    run: Callable[..., Any]
