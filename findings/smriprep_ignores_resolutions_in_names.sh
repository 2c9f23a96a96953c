#!/usr/bin/env bash
# smriprep takes resolution 1 of a template although its name asks for resolution 2.
#
# `MNI152NLin2009cAsym:res-2` is the usual way to name a template with a resolution. smriprep's
# TemplateFlowSelect splits the name itself, so the resolution is the text "2", and then compares it with
# the numbers of the resolutions that TemplateFlow has. Text never equals a number: a warning says that the
# template does not have resolution '2', and the first one is taken. Given apart from the name, as a
# number, the same resolution is found. One would expect both to give the same files.
#
# Seen: smriprep 0.19.5, Python 3.11; also smriprep 0.20.0, Python 3.13.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check smriprep==0.19.5 2>/dev/null

export NO_ET=1 TEMPLATEFLOW_HOME="$folder/templateflow" TEMPLATEFLOW_AUTOUPDATE=off
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
from pathlib import Path

import nibabel
import numpy

home = Path(os.environ["TEMPLATEFLOW_HOME"]) / "tpl-MNI152NLin2009cAsym"
home.mkdir(parents=True)
for resolution in (1, 2):
    affine = numpy.diag([resolution, resolution, resolution, 1.0])
    for end in ("T1w", "desc-brain_mask"):
        image = nibabel.Nifti1Image(numpy.ones((4, 4, 4), numpy.uint8), affine)
        nibabel.save(image, home / f"tpl-MNI152NLin2009cAsym_res-0{resolution}_{end}.nii.gz")

from smriprep.interfaces.templateflow import TemplateFlowSelect

name = "MNI152NLin2009cAsym"
in_name = TemplateFlowSelect(template=f"{name}:res-2").run().outputs.t1w_file
apart = TemplateFlowSelect(template=name, resolution=2).run().outputs.t1w_file
print(f"{name}:res-2 gives", Path(in_name).name)
print(f"{name}, resolution 2, gives", Path(apart).name)
if "_res-01_" not in in_name or "_res-02_" not in apart:
    sys.exit("smriprep takes the resolution in the name: this finding has changed")
PYTHON
