#!/usr/bin/env bash
# fMRIPrep 24.1 ignores all transforms of an ITK composite after the second, without a word.
#
# An ITK composite file (.h5) can hold any number of transforms, and ITK's and ANTs' programs apply all of
# them. fMRIPrep 24.1.1 reads the first as an affine and the second as a field; a third is neither applied
# nor reported, so that images are resampled in a wrong place. ANTs itself writes two; composites that end in
# a second affine, which is what a registration on a grid between the two images gives, are valid as well.
# One would expect all transforms to be applied, or an error. fMRIPrep 25.0 reads by nitransforms, which
# applies all.
#
# Seen: fMRIPrep 24.1.1 with nitransforms 25.1.0 and SimpleITK 2.5.2, Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() {
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2>/dev/null
}
pip nitransforms==25.1.0 transforms3d==0.4.2 SimpleITK==2.5.2
pip --no-deps fmriprep==24.1.1 # reading transforms needs none of its other dependencies

"$folder/venv/bin/python" - "$folder/composite.h5" <<'PYTHON'
import sys
from pathlib import Path

import nitransforms
import numpy
import SimpleITK
from fmriprep.utils.transforms import load_transforms

field = SimpleITK.Image([9, 9, 9], SimpleITK.sitkVectorFloat64)
field.SetOrigin([-4.0, -4.0, -4.0])
composite = SimpleITK.CompositeTransform([
    SimpleITK.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 1], [0.0, 0.0, 30.0]),
    SimpleITK.DisplacementFieldTransform(field),
    SimpleITK.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 1], [0.0, 0.0, 2.0]),
])
SimpleITK.WriteTransform(composite, sys.argv[1])

point = [0.0, 0.0, 0.0]
mapped = {
    "ITK": composite.TransformPoint(point)[2],
    "nitransforms": nitransforms.manip.load(sys.argv[1], fmt="itk").map([point])[0][2],
    "fMRIPrep": load_transforms([Path(sys.argv[1])], [False]).map([point])[0][2],
}
for reader, height in mapped.items():
    print(f"{reader}: the origin is mapped to z = {height:g} mm")
if not numpy.allclose(list(mapped.values()), [32, 32, 30]):
    sys.exit("fMRIPrep 24.1.1 or nitransforms reads the composite in another way: this finding has changed")
PYTHON
