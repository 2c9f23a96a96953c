"""The labelled data sets of Klein et al. (NeuroImage 2009), in the folders they are shared in."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.errors import InputError

if TYPE_CHECKING:
    from nipype_quicksilver.evaluation.pairs import Pair
    from nipype_quicksilver.spatial.files import PathLike

#: Suffixes of image files, in order of preference.
SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".img", ".img.gz")


@dataclass(frozen=True)
class Layout:
    """Paths of the files of a subject, without suffixes; ``{n}`` is its number.

    Attributes
    ----------
    image, labels : str
        Image of the brain or head, and label map.
    mask : str, optional
        Brain mask, if the image shows a head.
    """

    image: str
    labels: str
    mask: str | None = None


@dataclass(frozen=True)
class Subject:
    """The files of one person."""

    image: Path
    labels: Path
    mask: Path | None


def _of_letter(letter: str) -> tuple[Layout, ...]:
    """Return the layouts that the four data sets share; names of subjects start with a letter."""
    subject = letter + "{n}"
    return (
        Layout(f"brain_affine_icbm/{subject}", f"label_affine_icbm/{subject}"),
        Layout(f"Brains/{subject}", f"Atlases/{subject}"),
        Layout(f"Heads/{subject}", f"Atlases/{subject}", f"BrainMasks/{subject}"),
    )


#: Number of subjects, and layouts in order of preference.
DATASETS: dict[str, tuple[int, tuple[Layout, ...]]] = {
    "LPBA40": (
        40,
        (
            *_of_letter("l"),
            *(
                Layout(
                    f"{folder}S{{n:02d}}/S{{n:02d}}.delineation.skullstripped",
                    f"{folder}S{{n:02d}}/S{{n:02d}}.delineation.structure.label",
                )
                for folder in ("delineation_space/", "")
            ),
        ),
    ),
    "IBSR18": (
        18,
        (
            *_of_letter("c"),
            *(
                Layout(
                    f"{folder}IBSR_{{n:02d}}/IBSR_{{n:02d}}_ana_strip",
                    f"{folder}IBSR_{{n:02d}}/IBSR_{{n:02d}}_seg_ana",
                )
                for folder in ("IBSR_nifti_stripped/", "")
            ),
        ),
    ),
    "CUMC12": (12, _of_letter("m")),
    "MGH10": (10, _of_letter("g")),
}


def find_subjects(dataset: str, folder: PathLike) -> list[Subject]:
    """Find the subjects of a data set.

    Parameters
    ----------
    dataset : str
        A key of :data:`DATASETS`.
    folder : path-like
        Folder of the unpacked data set, or its parent.

    Returns
    -------
    list of Subject
        At least two, in the order of their numbers.

    Raises
    ------
    InputError
        If the data set is unknown, the folder has none of its layouts, or a file of a subject is
        missing.

    Warns
    -----
    UserWarning
        If there are fewer subjects than the data set has.
    """
    if dataset not in DATASETS:
        raise InputError(f"data set '{dataset}' is unknown; give {', '.join(DATASETS)}")
    if not Path(folder).is_dir():
        raise InputError(
            f"{folder}: no such folder; give the folder in which {dataset} was unpacked"
        )
    number, layouts = DATASETS[dataset]
    for root in (Path(folder), Path(folder) / dataset):
        for layout in layouts:
            subjects = list(_subjects(root, layout, number))
            if len(subjects) > 1:
                if len(subjects) < number:
                    warnings.warn(
                        f"{folder}: has {len(subjects)} of the {number} subjects of {dataset}",
                        stacklevel=2,
                    )
                return subjects
    places = " or ".join(f"{layout.image.format(n=1)}" for layout in layouts)
    raise InputError(
        f"{folder}: is not {dataset}, which has at least two images such as {places} "
        f"({', '.join(SUFFIXES[:3])})"
    )


def _subjects(root: Path, layout: Layout, number: int) -> Iterator[Subject]:
    """Yield the subjects that exist in a layout."""
    for n in range(1, number + 1):
        image = _image(root / layout.image.format(n=n))
        if image is None:
            continue
        labels = _required(root, layout.labels, n, f"{image}: has no label map")
        mask = None
        if layout.mask is not None:
            mask = _required(root, layout.mask, n, f"{image}: has no brain mask")
        yield Subject(image, labels, mask)


def _required(root: Path, pattern: str, number: int, problem: str) -> Path:
    """Return a file of a subject; refuse a subject without it."""
    path = root / pattern.format(n=number)
    file = _image(path)
    if file is None:
        raise InputError(
            f"{problem} {path}{SUFFIXES[0]} (or {', '.join(SUFFIXES[1:3])}); add it, or remove the "
            "image"
        )
    return file


def _image(path: Path) -> Path | None:
    """Return the image file of a path without suffix; None if there is none."""
    files = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def ordered_pairs(
    dataset: str, subjects: list[Subject], max_pairs: int | None = None, seed: int = 0
) -> list[Pair]:
    """Return all ordered pairs of different subjects, or a random sample of them.

    Parameters
    ----------
    dataset : str
        Name of the label set.
    subjects : list of Subject
        At least two.
    max_pairs : int, optional
        Number of pairs to draw at random; default: all pairs. A larger number adds pairs to those
        of a smaller one.
    seed : int
        Of the random numbers.

    Returns
    -------
    list of Pair
        With names.
    """
    from nipype_quicksilver.evaluation.pairs import Pair, named

    orders = list(permutations(subjects, 2))
    if max_pairs is not None:
        random.Random(seed).shuffle(orders)
        orders = orders[:max_pairs]
    return named(
        [
            Pair(
                name="",
                fixed=fixed.image.absolute(),
                moving=moving.image.absolute(),
                fixed_labels=fixed.labels.absolute(),
                moving_labels=moving.labels.absolute(),
                label_set=dataset,
                fixed_mask=fixed.mask and fixed.mask.absolute(),
                moving_mask=moving.mask and moving.mask.absolute(),
            )
            for fixed, moving in orders
        ]
    )
