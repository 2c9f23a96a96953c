"""Files and frames: images, grids, intensities, ITK transforms, resampling, measures.

World coordinates are RAS+ millimetres everywhere; ITK's LPS appears only in
:mod:`nipype_quicksilver.spatial.transforms` and where images are passed to SimpleITK.
"""
