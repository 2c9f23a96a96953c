"""Exchange files with other software: affines that it estimated, images that it reads."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.forms import is_same_for_itk
from nipype_quicksilver.spatial.headers import open_image
from nipype_quicksilver.spatial.images import read_series, write_image
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


def link_or_unify(path: PathLike, output: PathLike) -> Path:
    """Give an image a name under which programs that use ITK read it as this package does.

    Parameters
    ----------
    path : path-like
        NIfTI or MGH file, (X, Y, Z) or (X, Y, Z, T).
    output : path-like
        ``.nii`` or ``.nii.gz``; replaced if it exists.

    Returns
    -------
    Path
        `output`: a link to the file, or a copy whose forms are both the form that counts here.

    Raises
    ------
    InputError
        As :func:`read_series`.
    """
    output = Path(output)
    output.unlink(missing_ok=True)
    source, world = open_image(path, "image")
    if (
        isinstance(source, Nifti1Image)
        and not isinstance(source, Nifti2Image)  # ITK does not read it
        and Path(path).suffix == output.suffix
        and is_same_for_itk(source.header, world.affine)
    ):
        output.symlink_to(Path(path).absolute())
        return output
    image = read_series(path)
    step = image.header.get_zooms()[3] if len(image.shape) == 4 else None
    data = np.asanyarray(image.dataobj)
    return write_image(output, data, image.affine, like=image, time_step=step)
