#!/usr/bin/env python
"""ITK's nearest-neighbour resampling rounds integers of 64 bits to double precision.

What surprised us: a label of 2**53 + 1 becomes 2**53 under ``sitkNearestNeighbor`` (and under
``sitkLabelLinear``) although the type of the image is kept and no value is interpolated. The
interpolators return real numbers. Here, labels of 64 bits are resampled by their ranks.
SimpleITK 2.5 (ITK 5.4).

Prints the label before and after.
"""

import numpy as np
import SimpleITK as sitk

label = 2**53 + 1
image = sitk.GetImageFromArray(np.full((2, 2, 2), label, np.int64))
result = sitk.Resample(image, image, sitk.Transform(), sitk.sitkNearestNeighbor)
print(label, sitk.GetArrayFromImage(result)[0, 0, 0])
