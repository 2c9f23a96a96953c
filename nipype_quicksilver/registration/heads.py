"""From two heads as they come from a scanner to two brains that are aligned."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.preprocessing.templates import is_template, template_file
from nipype_quicksilver.registration.inputs import Inputs
from nipype_quicksilver.registration.summary import Clock
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.images import image_name, read_mask, write_image

if TYPE_CHECKING:
    import torch

BRAIN_EXTRACTIONS = ("deepbet", "none")
#: Names of ways to find the affine; anything else is a file.
AFFINES = ("simpleitk", "none")

SMALLEST = 50_000.0  # mm3 that are not zero; the affine engine is made for human brains

_logger = logging.getLogger(__name__)


class WorkFolder:
    """Intermediate results, found again by what they were made from.

    Parameters
    ----------
    folder : path-like or None
        An existing folder; nothing is kept without one.
    """

    def __init__(self, folder: PathLike | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def kept(
        self,
        what: str,
        parts: list[Any],
        compute: Callable[[], tuple[np.ndarray, dict[str, Any]]],
        like: Nifti1Image | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an array and its facts, from the folder if they are there.

        Parameters
        ----------
        what : str
            Name of the result.
        parts : list
            Images, arrays and settings that it depends on.
        compute : callable
            Makes the result.
        like : Nifti1Image, optional
            The image on whose grid the array is; without it the array is a matrix.

        Returns
        -------
        data : ndarray
            The result.
        facts : dict
            With ``reused``: whether it was found in the folder.
        """
        if self.folder is None:
            return compute()
        stem = self.folder / f"{what}_{_digest([what, __version__, *parts])}"
        image, facts_file = Path(f"{stem}.nii.gz"), Path(f"{stem}.json")
        found = _read(image if like is not None else None, facts_file)
        if found is not None:
            return found[0], {**found[1], "reused": True}
        data, facts = compute()
        if like is not None:
            write_image(image, data, like.affine, like=like)
        # Last: without it, the rest does not count.
        matrix = None if like is not None else data
        write_json(facts_file, {**facts, "matrix": matrix} if matrix is not None else facts)
        return data, {**facts, "reused": False}


def _read(image: Path | None, facts_file: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Return what is kept, None where it is not there or damaged."""
    try:
        facts: dict[str, Any] = json.loads(facts_file.read_text(encoding="utf-8"))
        if image is None:
            return np.array(facts.pop("matrix"), dtype=float), facts
        return np.asanyarray(read_mask(image).dataobj), facts
    except (OSError, ValueError, KeyError, QuicksilverError):
        return None


def _digest(parts: list[Any]) -> str:
    """Return a short name for images, arrays and settings that changes with any of them."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Nifti1Image):
            data = np.asanyarray(part.dataobj)
            header = [data.shape, str(data.dtype), part.affine.tolist()]
            digest.update(json.dumps(header).encode())
            digest.update(np.ascontiguousarray(data).tobytes())
        else:
            digest.update(json.dumps(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def named_file(image: PathLike, stack: ExitStack, work_dir: PathLike | None) -> Path:
    """Return the file of an image or of a template's name.

    Parameters
    ----------
    image : path-like
        A path, or ``MNI152``.
    stack : ExitStack
        Keeps a temporary folder for the template.
    work_dir : path-like or None
        An existing folder to keep the template in instead.

    Returns
    -------
    Path
        The file.
    """
    if not is_template(image):
        return Path(image)
    folder = work_dir or stack.enter_context(TemporaryDirectory(prefix="quicksilver-"))
    return template_file(image, folder)


def affine_file(affine: PathLike | None, brain_extraction: str) -> PathLike | None:
    """Return the file of an affine, None where it is to be found or not needed.

    Raises
    ------
    InputError
        If the way to extract brains is unknown.
    """
    if brain_extraction not in BRAIN_EXTRACTIONS:
        names = " or ".join(BRAIN_EXTRACTIONS)
        raise InputError(f"brain extraction '{brain_extraction}' is unknown; give {names}")
    return None if affine is None or str(affine) in AFFINES else affine


def to_aligned_brains(
    inputs: Inputs,
    *,
    brain_extraction: str,
    affine: PathLike | None,
    work: WorkFolder,
    device: torch.device,
    clock: Clock,
) -> tuple[Inputs, dict[str, Any]]:
    """Find the brains of two heads and the affine between them.

    Parameters
    ----------
    inputs : Inputs
        What was read. Masks that are given are used; an image without skull is left alone.
    brain_extraction : {'deepbet', 'none'}
        How brains are found.
    affine : path-like or None
        ``simpleitk`` to find the affine; it is left as it was read otherwise.
    work : WorkFolder
        Where intermediate results are kept.
    device : torch.device
        Where networks run.
    clock : Clock
        Told the seconds of ``extract`` and ``align``.

    Returns
    -------
    inputs : Inputs
        With masks and affine.
    facts : dict
        ``fixed_brain``, ``moving_brain``, ``affine``: how they were found.
    """
    facts: dict[str, Any] = {}
    if brain_extraction != "none":
        with clock.part("extract"):
            fixed_mask, facts["fixed_brain"] = _brain(inputs.fixed, inputs.fixed_mask, work, device)
            moving_mask, facts["moving_brain"] = _brain(
                inputs.moving, inputs.moving_mask, work, device
            )
        inputs = replace(inputs, fixed_mask=fixed_mask, moving_mask=moving_mask)
    small = [image for image in (inputs.fixed, inputs.moving) if _is_small(image)]
    if str(affine) == "simpleitk" and small:
        _logger.info(
            "%s: is too small for a human head; its header is trusted, no affine is looked for",
            image_name(small[0]),
        )
        facts["affine"] = {"how": "headers"}
    elif str(affine) == "simpleitk":
        with clock.part("align"):
            matrix, facts["affine"] = _affine(inputs, work)
        inputs = replace(inputs, affine=matrix)
    return inputs, facts


def _is_small(image: Nifti1Image) -> bool:
    """Tell whether an image holds less than any human brain: an animal's, or a phantom."""
    occupied = np.count_nonzero(np.asanyarray(image.dataobj))
    return bool(occupied * abs(np.linalg.det(image.affine[:3, :3])) < SMALLEST)


def _brain(
    image: Nifti1Image, mask: Nifti1Image | None, work: WorkFolder, device: torch.device
) -> tuple[Nifti1Image | None, dict[str, Any]]:
    """Return the mask of an image, None where the image is a brain already."""
    from nipype_quicksilver.preprocessing.brain import extract
    from nipype_quicksilver.spatial.brains import named

    if mask is not None:
        return mask, {"how": "given"}

    def compute() -> tuple[np.ndarray, dict[str, Any]]:
        found = extract(image, device=device)
        return np.asanyarray(found.mask.dataobj), found.facts

    data, facts = work.kept("brainmask", [image], compute, like=image)
    return (None if facts["how"] == "stripped" else named(data, image)), facts


def _affine(inputs: Inputs, work: WorkFolder) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the affine from fixed to moving points."""
    from nipype_quicksilver.preprocessing.affine import align

    def compute() -> tuple[np.ndarray, dict[str, Any]]:
        alignment = align(
            inputs.fixed,
            inputs.moving,
            fixed_mask=inputs.fixed_mask,
            moving_mask=inputs.moving_mask,
            num_threads=sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        )
        return alignment.matrix, alignment.facts

    parts = [inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask]
    return work.kept("affine", parts, compute)
