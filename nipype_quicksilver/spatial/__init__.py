"""Files and frames: images, grids, intensities, ITK transforms, resampling, evaluation.

World coordinates are RAS+ millimetres everywhere; ITK's LPS appears only inside
:mod:`nipype_quicksilver.spatial.transforms` and where it hands images to SimpleITK.
"""

from nipype_quicksilver.spatial.grids import Grid, working_grid

__all__ = ["Grid", "working_grid"]
