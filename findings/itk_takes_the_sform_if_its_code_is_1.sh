#!/usr/bin/env bash
# Which of the two forms of a NIfTI header ITK takes where they differ.
#
# One would expect the rule of nibabel, FSL and SPM: the sform counts if its code is not 0. ITK 5.4 takes
# the qform unless the sform has code 1 (scanner): a file that was coregistered by SPM (sform 2, qform 1)
# lies elsewhere in ITK than everywhere else. Nor does "differ" mean what one would guess: ITK takes the
# sform also if both forms have one origin and parallel axes whatever their signs, so that a mirrored
# qform counts as the same.
#
# Seen: SimpleITK 2.5.3 (ITK 5.4), nibabel 5.3.2, Python 3.11: for a qform that is moved by 12 mm, the
# sform for sform code 1 and the qform for codes 2, 3 and 4, whatever the qform code; for a mirrored
# qform, the sform for all codes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    numpy==2.3.5 nibabel==5.3.2 SimpleITK==2.5.3 2>/dev/null

"$folder/venv/bin/python" - "$folder/x.nii" <<'PYTHON'
import sys

import nibabel as nib
import numpy as np
import SimpleITK as sitk

sform, mirrored = np.diag([2.0, 2, 2, 1]), np.diag([-2.0, 2, 2, 1])
moved = sform.copy()
moved[0, 3] = 12


def taken(qform, scode, qcode):
    """Return the form that ITK takes."""
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), sform)
    image.set_sform(sform, scode)
    image.set_qform(qform, qcode)
    nib.save(image, sys.argv[1])
    read = sitk.ReadImage(sys.argv[1])
    axes = np.reshape(read.GetDirection(), (3, 3)) * read.GetSpacing()
    same = np.allclose(-axes[0, 0], sform[0, 0]) and np.allclose(read.GetOrigin()[0], 0)
    return "sform" if same else "qform"


found = {}
for name, qform in (("moved", moved), ("mirrored", mirrored)):
    for scode in range(1, 5):
        row = [taken(qform, scode, qcode) for qcode in range(1, 5)]
        print(f"qform {name}, sform code {scode}, qform codes 1 to 4:", *row)
        found[name, scode] = set(row)
expected = {("moved", code): {"sform" if code == 1 else "qform"} for code in range(1, 5)}
expected |= {("mirrored", code): {"sform"} for code in range(1, 5)}
if found != expected:
    sys.exit("ITK takes other forms: this finding has changed")
PYTHON
