#!/usr/bin/env bash
# pybids lists images whose content is not there.
#
# In a data set that DataLad or git-annex manages, an image whose content was not fetched is a symbolic
# link to a file that does not exist. One would expect `BIDSLayout.get` to leave such files out, or to
# mark them. pybids 0.22.0 returns them like all others: a program that takes every listed image for a
# file fails when it opens it, or, where it builds a whole workflow first, for all images at once.
#
# Seen: pybids 0.22.0, Python 3.11: two T1w images are listed, of which one exists.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pybids==0.22.0 2>/dev/null

"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import json
import sys
from pathlib import Path

from bids import BIDSLayout

root = Path(sys.argv[1])
for label in ("01", "02"):
    (root / f"sub-{label}" / "anat").mkdir(parents=True)
description = {"Name": "two images", "BIDSVersion": "1.8.0"}
(root / "dataset_description.json").write_text(json.dumps(description))
fetched = root / "sub-01/anat/sub-01_T1w.nii.gz"
fetched.write_bytes(b"")
(root / "sub-02/anat/sub-02_T1w.nii.gz").symlink_to("../../.git/annex/objects/k/k.nii.gz")

listed = [Path(file.path) for file in BIDSLayout(root).get(suffix="T1w")]
for path in listed:
    print(path.name, "exists" if path.exists() else "does not exist")
if sorted(path.exists() for path in listed) != [False, True]:
    sys.exit("pybids no longer lists the image without content: this finding has changed")
PYTHON
