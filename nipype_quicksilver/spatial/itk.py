"""Transforms of ITK in files: read within limits, and written completely or not at all."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import from_matvec

from nipype_quicksilver.errors import InputError, QuicksilverError, naming
from nipype_quicksilver.options import AFFINE_SUFFIXES
from nipype_quicksilver.spatial import limits
from nipype_quicksilver.spatial.files import (
    PathLike,
    check_readable,
    check_space,
    silent_stderr,
    staged,
)
from nipype_quicksilver.spatial.grids import LPS
from nipype_quicksilver.spatial.tables import number

_ITK_SUFFIXES = (*AFFINE_SUFFIXES, ".hdf5", ".xfm")
# What reads a file first: the memory that it may take, bytes (for ITK, and for each of its copies
# of what the file holds), the time, and the speed of the slowest disk.
_MEMORY, _COPIES, _SECONDS, _BYTES_PER_SECOND = 1 << 30, 4, 10.0, 1e6
_NO_ITK = 1  # its exit code where it could not even start
_READING = """
import resource, sys
import SimpleITK as sitk
print("ready", flush=True)
file, memory = sys.argv[1:]
try:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), hard))
    sitk.ReadTransform(file)
except Exception:
    sys.exit(2)
"""

_OVERHEAD = 1 << 16  # bytes; more than a file of transforms holds in addition to its parameters


def affine_matrix(transform: sitk.Transform) -> np.ndarray:
    """Return the matrix of a linear SimpleITK transform.

    Parameters
    ----------
    transform : SimpleITK.Transform
        Linear, in LPS.

    Returns
    -------
    ndarray
        4x4, RAS+ mm.
    """
    origin = map_points(transform, np.zeros((1, 3)))[0]
    return from_matvec((map_points(transform, np.eye(3)) - origin).T, origin)


def map_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Map points one by one; for whole grids see :func:`displacement_on_grid`.

    Parameters
    ----------
    transform : SimpleITK.Transform
        In LPS.
    points : ndarray
        (N, 3), RAS+ mm.

    Returns
    -------
    ndarray
        (N, 3), RAS+ mm, float64.

    Raises
    ------
    InputError
        If the transform maps a point to no finite position.
    """
    lps = np.asarray(points, dtype=float).reshape(-1, 3) * LPS
    mapped = np.array([transform.TransformPoint(point) for point in lps.tolist()], dtype=float)
    if not np.isfinite(mapped).all():
        raise InputError("the transform maps points to no finite position; estimate it again")
    # Adding 0 turns -0 into 0.
    return mapped.reshape(-1, 3) * LPS + 0.0


def read_itk(path: PathLike) -> sitk.Transform:
    """Read a file of ITK transforms with SimpleITK.

    Parameters
    ----------
    path : path-like
        ``.mat``, ``.txt``, ``.tfm``, ``.xfm`` or ``.h5``.

    Returns
    -------
    SimpleITK.Transform
        In LPS, within the limits.

    Raises
    ------
    InputError
        If the file cannot be read, or its parameters are beyond the limits.
    """
    check_readable(path, "transform")
    if Path(path).suffix.lower() not in _ITK_SUFFIXES:
        raise InputError(f"{path}: not a transform file; give one of ITK (.mat, .txt, .tfm, .h5)")
    try:
        if Path(path).suffix.lower() in (".txt", ".tfm"):
            _check_numbers(Path(path))
        if not _is_harmless(Path(path)):
            raise RuntimeError("ITK does not survive it")
        with silent_stderr():
            transform = sitk.ReadTransform(str(path))
    except Exception as error:  # the text of ITK's error may not be UTF-8
        raise InputError(
            f"{path}: not an ITK transform that can be read; convert it to ITK's format"
        ) from error
    if transform.GetDimension() != 3:
        raise InputError(f"{path}: is not a 3-D transform; give one between 3-D images")
    parts = _parts(transform)
    if not parts:
        raise InputError(f"{path}: contains no transform; estimate it again")
    for part in parts:
        _check_part(part, path)
    return transform


def _check_numbers(file: Path) -> None:
    """Raise an error if parameters are not numbers: ITK would read fewer, and other memory."""
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("Parameters", "FixedParameters"):
            for value in values.split():
                number(value)


def _is_harmless(file: Path) -> bool:
    """Return whether ITK can read a file, by letting a process of its own read it first.

    On damaged files ITK and HDF5 may crash, never come back, or take all memory. The price is the
    start of the process: about 0.3 s of CPU time.
    """
    size = file.stat().st_size
    memory = min(limits.machine_memory(), _MEMORY + _COPIES * limits.GZIP_RATIO * size)
    command = [sys.executable, "-P", "-c", _READING, str(file), str(memory)]
    quiet: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **quiet) as process:
        assert process.stdout is not None
        process.stdout.read(1)  # when it is about to read
        try:
            return process.wait(_SECONDS + size / _BYTES_PER_SECOND) in (0, _NO_ITK)
        except subprocess.TimeoutExpired:
            process.kill()
            return False


def _check_part(transform: sitk.Transform, path: PathLike) -> None:
    """Raise an error if a transform that is not a composite is beyond the limits."""
    if transform.GetTransformEnum() == sitk.sitkDisplacementField:
        field = sitk.DisplacementFieldTransform(transform).GetDisplacementField()
        limits.check_shape(field.GetSize(), path, "displacement field")
        limits.check_world(_affine_of(field), field.GetSize(), path)
        limits.check_coordinates(sitk.GetArrayViewFromImage(field), path, "displacements")
        return
    fixed, numbers = (
        np.array(values, dtype=float)
        for values in (transform.GetFixedParameters(), transform.GetParameters())
    )
    limits.check_coordinates(np.concatenate([fixed, numbers]), path, "parameters")
    if transform.IsLinear():
        with naming(path):
            matrix = affine_matrix(transform)
        limits.check_matrix(matrix, path)


def _affine_of(image: sitk.Image) -> np.ndarray:
    """Return the affine of a SimpleITK image, 4x4, voxel indices to RAS+ mm."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return from_matvec(LPS[:, None] * direction * image.GetSpacing(), LPS * image.GetOrigin())


def write_itk(path: PathLike, transform: sitk.Transform, suffixes: tuple[str, ...]) -> Path:
    """Write a transform under a temporary name, then rename it.

    Parameters
    ----------
    path : path-like
        Where to write.
    transform : SimpleITK.Transform
        What to write.
    suffixes : tuple of str
        Accepted suffixes.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError, QuicksilverError
        If the suffix is another one, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        raise InputError(f"{path}: a transform of this kind is written as {', '.join(suffixes)}")
    size = 8 * _number_of_parameters(transform) + _OVERHEAD
    with staged(path) as temporary:
        check_space(path, size)
        try:
            with silent_stderr():
                sitk.WriteTransform(transform, str(temporary))
        except RuntimeError as error:
            temporary.unlink(missing_ok=True)
            check_space(path, size)  # the disk may have been filled in the meantime
            raise QuicksilverError(f"{path}: ITK could not write it; check the disk") from error
    return path


def _number_of_parameters(transform: sitk.Transform) -> int:
    """Return the number of parameters of a transform, or of all transforms of a composite."""
    return sum(int(part.GetNumberOfParameters()) for part in _parts(transform))


def _parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """Return the transforms of a composite, and of composites in it; else the transform itself."""
    if transform.GetTransformEnum() != sitk.sitkComposite:
        return [transform]
    composite = sitk.CompositeTransform(transform)
    composite.FlattenTransform()
    return [composite.GetNthTransform(i) for i in range(composite.GetNumberOfTransforms())]
