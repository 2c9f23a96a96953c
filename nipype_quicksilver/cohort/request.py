"""The request for a cohort: what is derived from it, and checks before anything is written."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from nipype_quicksilver.cohort.derivatives import Place
from nipype_quicksilver.cohort.images import CohortImage, find_images
from nipype_quicksilver.cohort.jobs import PAIRWISE, CohortOptions
from nipype_quicksilver.cohort.ownership import is_ours, is_same_folder
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.resources import LOCAL, visible_gpus
from nipype_quicksilver.methods import METHODS
from nipype_quicksilver.options import MNI152
from nipype_quicksilver.preprocessing.templates import find_template, is_template
from nipype_quicksilver.registration.method import choose_settings
from nipype_quicksilver.spatial.files import check_readable
from nipype_quicksilver.spatial.folders import check_output_dir
from nipype_quicksilver.tools import DEEPBET, check_tools


def default_similarity(method: str, fixed: str, suffix: str) -> str | None:
    """Return the similarity measure that suits the contrasts of a cohort.

    Parameters
    ----------
    method : str
        A key of :data:`nipype_quicksilver.methods.METHODS`.
    fixed : str
        What the images are registered to.
    suffix : {'T1w', 'T2w'}
        Contrast of the images.

    Returns
    -------
    str or None
        ``mind`` for T2w images and the template MNI152, which is T1w; else None, for the default.
    """
    two_contrasts = suffix == "T2w" and fixed == MNI152
    return "mind" if two_contrasts and METHODS[method].optimizes else None


def choose_place(source: Path, output_dir: Path) -> Place:
    """Return the folders of a cohort.

    Parameters
    ----------
    source : Path
        Folder of a BIDS data set, or a table of images.
    output_dir : Path
        Folder of the derivatives.

    Raises
    ------
    InputError
        If the derivatives cannot be written there, or would be mixed with another data set.
    """
    output = output_dir.absolute()
    source_dir = source.absolute() if source.is_dir() else None
    if source_dir is not None and is_same_folder(source_dir, output):
        raise InputError(f"{output_dir}: is the data set itself; choose another OUT")
    check_output_dir(output)
    is_ours(output)
    return Place(output, source_dir)


def choose_images(
    source: Path,
    chosen: CohortOptions,
    *,
    suffix: str,
    participants: Collection[str],
    labels_dir: Path | None,
) -> list[CohortImage]:
    """Find the images of a cohort, and check that they can be registered with the options.

    Parameters
    ----------
    source, suffix, participants, labels_dir
        See :func:`nipype_quicksilver.cohort.images.find_images`.
    chosen : CohortOptions
        How the images are registered.

    Returns
    -------
    list of CohortImage
        The images, sorted by name.

    Raises
    ------
    InputError
        If there are too few images, or brains cannot be extracted.
    """
    images = find_images(
        source.absolute(), suffix=suffix, participants=participants, labels_dir=labels_dir
    )
    if chosen.fixed == PAIRWISE and len(images) < 2:
        raise InputError(f"{source}: has one image; pairwise needs two")
    unmasked = [image for image in images if image.mask is None and image.suffix != "T1w"]
    if unmasked and chosen.registration["brain_extraction"] == DEEPBET:
        raise InputError(
            f"{unmasked[0].path}: deepbet extracts brains from T1w images only; give masks in a "
            "table, another --brain-extraction, or none for images without skull"
        )
    return images


def choose_gpus(device: str, plugin: str, n_gpus: int | None) -> int:
    """Return the number of GPUs to use at the same time.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    plugin : str
        One of :data:`nipype_quicksilver.execution.resources.PLUGINS`.
    n_gpus : int or None
        What the user asked for.

    Raises
    ------
    InputError
        If the values contradict each other, or there are fewer GPUs.
    """
    if device.startswith("cuda:"):
        raise InputError(
            f"--device {device}: a cohort may use several GPUs; give --device cuda and choose them "
            "with CUDA_VISIBLE_DEVICES"
        )
    if device == "cpu":
        if n_gpus:
            raise InputError("--device cpu: leave --n-gpus out, or give --device cuda")
        return 0
    if plugin not in LOCAL:
        return int(device == "cuda") if n_gpus is None else n_gpus
    visible = len(visible_gpus())
    if n_gpus is not None and n_gpus > visible:
        raise InputError(f"--n-gpus {n_gpus}: this machine has {visible}; give at most {visible}")
    if n_gpus is not None:
        return n_gpus
    return visible if device == "cuda" or (visible and _torch_uses_gpus()) else 0


def _torch_uses_gpus() -> bool:
    import torch

    return torch.cuda.is_available()


def check_options(chosen: CohortOptions, images: Sequence[CohortImage]) -> None:
    """Refuse options with which no image could be registered.

    Parameters
    ----------
    chosen : CohortOptions
        How the images are registered.
    images : sequence of CohortImage
        The cohort.

    Raises
    ------
    InputError
        If an external tool, a file or a template is missing.
    """
    options = chosen.registration
    check_tools(options["brain_extraction"], options["affine"])
    choose_settings(
        METHODS[options["method"]].schedule, options["similarity"], options["iterations"]
    )
    _check_fixed_labels(chosen, images)
    for file in chosen.files():
        check_readable(file, "fixed image" if file == chosen.fixed_file else "file")
    if chosen.fixed_file is None and chosen.fixed != PAIRWISE and not is_template(chosen.fixed):
        _fetch_template(chosen.fixed)


def _check_fixed_labels(chosen: CohortOptions, images: Sequence[CohortImage]) -> None:
    if chosen.fixed_labels is None:
        return
    if chosen.fixed == PAIRWISE:
        raise InputError(
            "--fixed-labels: in pairwise registration, the images have their own labels; leave it "
            "out"
        )
    check_readable(chosen.fixed_labels, "fixed labels")
    if not any(image.labels for image in images):
        raise InputError(
            "--fixed-labels: no image has labels to compare with; give --labels, or a table "
            "with a column labels"
        )


def _fetch_template(name: str) -> None:
    """Let TemplateFlow download a template once; refuse a name that it does not know."""
    with tempfile.TemporaryDirectory() as folder:
        find_template(name, folder)
