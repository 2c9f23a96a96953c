"""Map the vertices of GIFTI surfaces like points.

The vertices of a surface are in scanner RAS, the world of images, unless its metadata say
otherwise: a coordinate matrix that leads there, or the geometry of a volume, which FreeSurfer
writes with vertices in its surface RAS.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
from nibabel.affines import apply_affine, from_matvec

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike, check_apart, staged
from nipype_quicksilver.spatial.limits import check_coordinates
from nipype_quicksilver.spatial.tables import whole

_POINTS = "NIFTI_INTENT_POINTSET"
_EXTERNAL, _MOST_DIMENSIONS = "ExternalFileBinary", 6
# Codes of spaces, as for the forms of NIfTI.
_UNKNOWN, _SCANNER, _ALIGNED = 0, 1, 2
# Metadata of FreeSurfer that describe the volume of the surface, which is not that of the result.
_OF_VOLUME = ("VolGeom", "SurfaceCenter")
# Axes of FreeSurfer's conformed volumes, in columns.
_CONFORMED = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def map_surface(source: Path, output: Path, map_points: Callable[[np.ndarray], np.ndarray]) -> int:
    """Map the vertices of a surface; everything else is copied.

    Parameters
    ----------
    source, output : Path
        GIFTI files. The vertices of the output are in scanner RAS, and its metadata say so.
    map_points : callable
        Maps (N, 3) points, scanner RAS mm.

    Returns
    -------
    int
        Number of vertices.

    Raises
    ------
    InputError
        If the source is not a surface, or its metadata do not say where it lies.

    Warns
    -----
    UserWarning
        If the vertices are not taken as scanner RAS, but for a matrix that leads there.
    """
    from nibabel.gifti.gifti import GiftiCoordSystem

    check_apart([output], [source])
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
        matrix = _to_scanner(array.coordsys, {**surface.meta, **array.meta}, source)
        points = apply_affine(matrix, points)
        check_coordinates(points, source, "vertices")
        array.data = map_points(points).astype(np.float32)
        array.coordsys = GiftiCoordSystem(_SCANNER, _SCANNER, np.eye(4))
        number += len(points)
    if number == 0:
        raise InputError(f"{source}: has no vertices; give a surface such as .surf.gii")
    for part in (surface, *surface.darrays):
        for name in [name for name in part.meta if name.startswith(_OF_VOLUME)]:
            del part.meta[name]
    with staged(output) as temporary:
        surface.to_filename(temporary)
    return number


def _to_scanner(system: Any, meta: Mapping[str, str], source: PathLike) -> np.ndarray:
    """Return the matrix from the coordinates of a surface to scanner RAS, 4x4."""
    matrix = np.asarray(system.xform, float)
    if not np.allclose(matrix, np.eye(4), atol=1e-6):
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
            raise InputError(f"{source}: its coordinate matrix is singular; repair the surface")
        if system.dataspace == _SCANNER and system.xformspace == _SCANNER:
            raise InputError(
                f"{source}: its coordinate matrix moves it although it is in scanner RAS already; "
                "set the matrix to the identity, or correct its spaces"
            )
        # A matrix to a standard space, such as Talairach's, does not say where the head is.
        if system.dataspace != _SCANNER and system.xformspace in (_UNKNOWN, _SCANNER, _ALIGNED):
            if system.xformspace != _SCANNER:
                _warn(source, "its coordinate matrix is taken to lead to scanner RAS")
            return matrix
    if system.dataspace != _UNKNOWN:
        if system.dataspace not in (_SCANNER, _ALIGNED):
            _warn(
                source,
                f"its DataSpace (code {system.dataspace}) is a standard space; its vertices are "
                "taken as scanner RAS; check that the images of the transform are in that space",
            )
        return np.eye(4)
    return _of_volume(meta, source)


def _of_volume(meta: Mapping[str, str], source: PathLike) -> np.ndarray:
    """Return the matrix from FreeSurfer's surface RAS to scanner RAS; the identity without it."""
    center, *axes = (_vector(meta, name, source) for name in "CXYZ")
    known = [axis for axis in axes if axis is not None]
    if len(known) not in (0, 3) or (known and center is None):
        raise InputError(f"{source}: parts of its VolGeom are missing; write the surface again")
    if center is None:
        return np.eye(4)
    cosines = np.array(known).T if known else _CONFORMED
    # Surface RAS has the origin in the middle of the volume, and the axes of a conformed volume.
    rotation = cosines @ _CONFORMED.T
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise InputError(f"{source}: VolGeomX, Y and Z are not orthogonal axes; write it again")
    matrix = from_matvec(rotation, center)
    if not np.allclose(matrix, np.eye(4), atol=1e-6):
        origin = ", ".join(f"{value:g}" for value in center)
        _warn(
            source,
            f"its vertices are taken as FreeSurfer's surface RAS, with the origin at ({origin}) of "
            "scanner RAS; if they are in scanner RAS already, as by mris_convert --to-scanner, set "
            "their DataSpace to NIFTI_XFORM_SCANNER_ANAT",
        )
    return matrix


def _vector(meta: Mapping[str, str], name: str, source: PathLike) -> np.ndarray | None:
    """Return one vector of the geometry of a volume; None if it is not there."""
    texts = [meta.get(f"VolGeom{name}_{axis}") for axis in "RAS"]
    if all(text is None for text in texts):
        return None
    try:
        vector = np.array([float(str(text)) for text in texts])  # also a number is missing: None
    except ValueError:
        vector = np.full(3, np.nan)
    if not np.isfinite(vector).all():
        raise InputError(f"{source}: VolGeom{name} is not a vector; write the surface again")
    return vector


def _warn(source: PathLike, text: str) -> None:
    warnings.warn(f"{source}: {text}", UserWarning, stacklevel=1)


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
