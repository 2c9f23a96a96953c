#!/usr/bin/env bash
# ITK's nearest-neighbour resampling rounds integers of 64 bits to double precision.
#
# One would expect `sitkNearestNeighbor` to copy voxels: the type of the image is kept, and no value is
# interpolated. But ITK's interpolators return real numbers, so that a label beyond 2^53, as some
# atlases and hashed label maps have, changes without a word. `sitkLabelLinear` does the same.
#
# Seen: SimpleITK 2.5.3 (ITK 5.4), Python 3.11: 9007199254740993 becomes 9007199254740992.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.3.5 SimpleITK==2.5.3 2>/dev/null

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import SimpleITK as sitk

label = 2**53 + 1
image = sitk.GetImageFromArray(np.full((2, 2, 2), label, np.int64))
for interpolator in (sitk.sitkNearestNeighbor, sitk.sitkLabelLinear):
    result = sitk.Resample(image, image, sitk.Transform(), interpolator)
    found = int(sitk.GetArrayFromImage(result)[0, 0, 0])
    print(label, "becomes", found)
    if found != 2**53:
        sys.exit("labels of 64 bits are no longer rounded: this finding has changed")
PYTHON
