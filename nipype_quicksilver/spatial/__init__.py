"""Files and frames: images, grids, intensities, ITK transforms, resampling, measures.

World coordinates are RAS+ millimetres everywhere; ITK's LPS appears only in
:mod:`nipype_quicksilver.spatial.transforms` and where images are passed to SimpleITK.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nipype_quicksilver.spatial.grids import Grid, working_grid

__all__ = ["Grid", "working_grid"]


def __getattr__(name: str) -> Any:
    """Import what has been asked for: readers of tables and records start without SimpleITK."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nipype_quicksilver.spatial import grids

    return getattr(grids, name)
