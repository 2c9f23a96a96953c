"""The checks of a result whose steps wrote files: those of a workflow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TypeVar

import numpy as np

from nipype_quicksilver.options import DEFORMABLE
from nipype_quicksilver.preprocessing.brain_checks import mask_warnings
from nipype_quicksilver.registration.judging import Evidence, judge, radius_of
from nipype_quicksilver.registration.summary import MomentumSummary
from nipype_quicksilver.spatial.brains import mask_on_image, native_brain
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import image_name, nifti, read_image, read_mask
from nipype_quicksilver.spatial.jacobians import JacobianSummary
from nipype_quicksilver.spatial.measures import Spread
from nipype_quicksilver.spatial.records import from_json
from nipype_quicksilver.spatial.transforms import read_affine, read_displacement

Record = TypeVar("Record", MomentumSummary, JacobianSummary)


def judge_files(
    *,
    transform: str = DEFORMABLE,
    jacobian: PathLike,
    affine: PathLike | None = None,
    momentum: PathLike | None = None,
    displacement: PathLike | None = None,
    mask: PathLike | None = None,
) -> list[str]:
    """Judge a registration by the files of its steps.

    Parameters
    ----------
    transform : str
        A key of `options.TRANSFORMS`.
    jacobian : path-like
        Summary of the Jacobian of the whole map in the fixed brain (JSON).
    affine : path-like, optional
        ITK affine from fixed to moving points; default: the headers align the images.
    momentum : path-like, optional
        Summary of the estimate of the momentum (JSON).
    displacement, mask : path-like, optional
        Field of the deformation, and mask of the fixed brain, both on the working grid.

    Returns
    -------
    list of str
        The findings of `judging.CHECKS` that these files allow.

    Raises
    ------
    InputError
        If a file cannot be used, or the mask does not overlap the field.
    """
    estimate = None if momentum is None else _record(MomentumSummary, momentum)
    deformation = radius = None
    if displacement is not None and mask is not None:
        field, grid = read_displacement(displacement)
        inside = mask_on_image(read_mask(mask), nifti(field[..., 0], grid.affine))
        deformation = Spread.of(np.linalg.norm(field[inside], axis=-1))
        radius = radius_of(np.count_nonzero(inside) * math.prod(grid.spacing))
    return judge(
        Evidence(
            transform=transform,
            similarity=None if estimate is None else estimate.similarity,
            jacobian=_record(JacobianSummary, jacobian),
            matrix=np.eye(4) if affine is None else read_affine(affine),
            affine_was_given=affine is not None,
            aligned_by_headers=affine is None,
            deformation=deformation,
            radius=radius,
        )
    )


def judge_mask(image: PathLike, mask: PathLike | None) -> list[str]:
    """Return what does not look like a brain in an image and its mask.

    Parameters
    ----------
    image : path-like
        A head or a brain, on its own grid.
    mask : path-like or None
        Its brain mask, on any grid; None for all voxels that are not background.

    Returns
    -------
    list of str
        One message for each finding, see `brain_checks.mask_warnings`.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    scan = read_image(image)
    given = None if mask is None else read_mask(mask)
    how = "stripped" if given is None else "given"
    found = mask_warnings(scan, native_brain(scan, given), how)
    return [f"{image_name(scan)}: {text}" for text in found]


def _record(kind: type[Record], path: PathLike) -> Record:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return from_json(kind, content, str(path), "give the file that the node before wrote")
