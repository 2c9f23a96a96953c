"""Map the vertices of GIFTI surfaces like points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import staged
from nipype_quicksilver.spatial.limits import check_coordinates
from nipype_quicksilver.spatial.tables import whole

_POINTS = "NIFTI_INTENT_POINTSET"
_EXTERNAL, _MOST_DIMENSIONS = "ExternalFileBinary", 6


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
    surface = _read(source)
    number = 0
    for array in surface.darrays:
        if array.intent != _code(_POINTS):
            continue
        try:
            points = np.asarray(array.data, dtype=float)
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: its vertices are not numbers; repair it") from error
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(f"{source}: its vertices are not finite points; repair the surface")
        check_coordinates(points, source, "vertices")
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
        if path.suffix.lower() == ".gii":
            _check_arrays(path)
        surface = nib.load(path)
    except InputError:
        raise
    except Exception as error:  # parsers raise any exception on other content
        raise InputError(f"{path}: not a GIFTI file that can be read; convert it first") from error
    if not isinstance(surface, GiftiImage):
        raise InputError(f"{path}: is not a GIFTI surface; convert it first")
    return surface


def _check_arrays(path: Path) -> None:
    """Raise an error for arrays on which nibabel would count for ever, or read other files."""

    def start(name: str, attributes: dict[str, str]) -> None:
        if name != "DataArray":
            return
        if not 1 <= whole(attributes.get("Dimensionality", "")) <= _MOST_DIMENSIONS:
            raise ValueError("too many dimensions")
        if attributes.get("Encoding") == _EXTERNAL:
            raise InputError(f"{path}: keeps its data in another file; save it as one file")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with open(path, "rb") as file:
        parser.ParseFile(file)


def _code(intent: str) -> int:
    from nibabel.nifti1 import intent_codes

    return int(str(intent_codes.code[intent]))
