"""Map the vertices of GIFTI surfaces like points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import check_apart, staged

_POINTS = "NIFTI_INTENT_POINTSET"


def map_surface(source: Path, output: Path, map_points: Callable[[np.ndarray], np.ndarray]) -> int:
    """Map the vertices of a surface; everything else is copied.

    Parameters
    ----------
    source, output : Path
        GIFTI files.
    map_points : callable
        Maps (N, 3) points, RAS mm.

    Returns
    -------
    int
        Number of vertices.

    Raises
    ------
    InputError
        If the source is not a surface.
    """
    check_apart([output], [source])
    surface = _read(source)
    number = 0
    for array in surface.darrays:
        if array.intent != _code(_POINTS):
            continue
        points = np.asarray(array.data, dtype=float)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(f"{source}: its vertices are not finite points; repair the surface")
        array.data = map_points(points).astype(np.float32)
        number += len(points)
    if number == 0:
        raise InputError(f"{source}: has no vertices; give a surface such as .surf.gii")
    with staged(output) as temporary:
        surface.to_filename(temporary)
    return number


def _read(path: Path) -> Any:
    import nibabel as nib
    from nibabel.gifti.gifti import GiftiImage

    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path of the surface")
    try:
        surface = nib.load(path)
    except Exception as error:  # parsers raise any exception on other content
        raise InputError(f"{path}: not a GIFTI file that can be read; convert it first") from error
    if not isinstance(surface, GiftiImage):
        raise InputError(f"{path}: is not a GIFTI surface; convert it first")
    return surface


def _code(intent: str) -> int:
    from nibabel.nifti1 import intent_codes

    return int(str(intent_codes.code[intent]))
