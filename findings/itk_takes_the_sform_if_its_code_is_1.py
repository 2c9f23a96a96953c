#!/usr/bin/env python
"""Which of the two forms of a NIfTI header ITK takes where they differ.

What surprised us: ITK 5.4 takes the qform unless the sform has code 1 (scanner), so that a file
that was coregistered by SPM (sform 2, qform 1) lies elsewhere in ITK than in nibabel, FSL and SPM.
It takes the sform, too, if both forms have one origin and axes that are parallel whatever their
signs: a mirrored qform counts as similar. Voxel sizes are those of the qform in any case.
SimpleITK 2.5 (ITK 5.4).

Prints the form by the codes of sform (rows) and qform (columns): first for a qform that is moved by
12 mm, then for a mirrored one.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

SFORM = np.diag([2.0, 2, 2, 1])
MOVED, MIRRORED = SFORM.copy(), np.diag([-2.0, 2, 2, 1])
MOVED[0, 3] = 12


def taken(qform: np.ndarray, codes: tuple[int, int], file: Path) -> str:
    """Return the name of the form that ITK takes."""
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), SFORM)
    image.set_sform(SFORM, codes[0])
    image.set_qform(qform, codes[1])
    nib.save(image, file)
    read = sitk.ReadImage(str(file))
    axes = np.reshape(read.GetDirection(), (3, 3)) * read.GetSpacing()
    same = np.allclose(-axes[0, 0], SFORM[0, 0]) and np.allclose(read.GetOrigin()[0], 0)
    return "sform" if same else "qform"


with tempfile.TemporaryDirectory() as folder:
    for form in (MOVED, MIRRORED):
        for scode in range(1, 5):
            row = [taken(form, (scode, qcode), Path(folder) / "x.nii") for qcode in range(1, 5)]
            print(scode, *row)
        print()
