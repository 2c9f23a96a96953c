"""Templates that come with what is installed, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import write_image

#: ICBM 152 nonlinear symmetric 2009a at 1 mm, without skull; it comes inside nilearn.
MNI152 = "MNI152"
TEMPLATES = (MNI152,)


def is_template(name: PathLike) -> bool:
    """Tell whether an argument is the name of a template rather than a path.

    Examples
    --------
    >>> is_template("MNI152"), is_template("./MNI152"), is_template("brain.nii.gz")
    (True, False, False)
    """
    return str(name) in TEMPLATES


def template_file(name: PathLike, folder: PathLike) -> Path:
    """Return the file of a template, or of the image a path names.

    Parameters
    ----------
    name : path-like
        One of :data:`TEMPLATES`, which is written into the folder unless it is there already; any
        other is a path and returned as it is.
    folder : path-like
        An existing folder.

    Returns
    -------
    Path
        The file of the image.
    """
    if not is_template(name):
        return Path(name)
    path = Path(folder) / f"{name}_brain.nii.gz"
    if not path.exists():
        # nilearn takes seconds to import.
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=1)
        data = np.asarray(template.dataobj, dtype=np.float32)
        write_image(path, data, template.affine)
    return path
