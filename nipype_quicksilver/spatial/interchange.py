"""Read affines in the formats of other software."""

from __future__ import annotations

import warnings

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.limits import check_matrix, is_invertible
from nipype_quicksilver.spatial.transforms import read_affine


def read_matrix(
    path: PathLike,
    form: str,
    fixed: PathLike | None = None,
    moving: PathLike | None = None,
) -> np.ndarray:
    """Read an affine that was estimated by other software.

    Parameters
    ----------
    path : path-like
        The file.
    form : str
        One of `options.AFFINE_FORMATS`.
    fixed, moving : path-like, optional
        The aligned images, on which FSL's coordinates depend.

    Returns
    -------
    ndarray
        4x4, maps fixed to moving points, RAS mm.

    Raises
    ------
    InputError
        If the file does not contain such an affine, or an image is missing.
    """
    if form == "itk":
        return read_affine(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is an error below
            matrix = np.loadtxt(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not a matrix; give a file with a matrix of 4 by 4") from error
    if form == "ras":
        return check_matrix(matrix, path)
    if matrix.shape != (4, 4) or not is_invertible(matrix):
        raise InputError(f"{path}: is not an invertible matrix of 4 by 4; estimate it again")
    if fixed is None or moving is None:
        raise InputError(
            f"{path}: FSL's matrices refer to both images; give the fixed and the moving image"
        )
    from nitransforms.io.fsl import FSLLinearTransform

    transform = FSLLinearTransform.from_filename(path)
    return check_matrix(transform.to_ras(moving=str(moving), reference=str(fixed)), path)
