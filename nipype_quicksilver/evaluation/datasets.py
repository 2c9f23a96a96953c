"""The labelled data sets of Klein et al. (NeuroImage 2009) as their users have them on disk."""

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

#: Endings of image files, the one that is taken first where there are several.
SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".img", ".img.gz")


@dataclass(frozen=True)
class Layout:
    """Where the files of a subject lie, without their endings; ``{n}`` is its number.

    Attributes
    ----------
    image, labels : str
        Brain or head, and label map.
    mask : str, optional
        Brain mask, where the image has a skull.
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
    """Return the layouts in which the four data sets were shared, subjects called by a letter."""
    subject = letter + "{n}"
    return (
        Layout(f"brain_affine_icbm/{subject}", f"label_affine_icbm/{subject}"),
        Layout(f"Brains/{subject}", f"Atlases/{subject}"),
        Layout(f"Heads/{subject}", f"Atlases/{subject}", f"BrainMasks/{subject}"),
    )


#: Number of subjects, and layouts, the preferred one first.
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
        Where the data set was unpacked, or the folder around it.

    Returns
    -------
    list of Subject
        By their numbers; at least two.

    Raises
    ------
    InputError
        If the data set is unknown, the folder has none of its layouts, or a subject lacks a file.

    Warns
    -----
    UserWarning
        If there are fewer subjects than the data set has.
    """
    if dataset not in DATASETS:
        raise InputError(f"data set '{dataset}' is unknown; give {', '.join(DATASETS)}")
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; give the one in which {dataset} was unpacked")
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
        f"{folder}: is not {dataset}; there must be two images at least, such as {places} "
        f"({', '.join(SUFFIXES[:3])})"
    )


def _subjects(root: Path, layout: Layout, number: int) -> Iterator[Subject]:
    """Yield the subjects that a layout finds."""
    for n in range(1, number + 1):
        image = _image(root / layout.image.format(n=n))
        if image is None:
            continue
        found = [_image(root / layout.labels.format(n=n))]
        if layout.mask is not None:
            found.append(_image(root / layout.mask.format(n=n)))
        for file, place, what in zip(
            found, (layout.labels, layout.mask), ("label map", "brain mask"), strict=False
        ):
            if file is None:
                raise InputError(
                    f"{image}: has no {what} {root / str(place).format(n=n)}{SUFFIXES[0]} (or "
                    f"{', '.join(SUFFIXES[1:3])}); add it, or take the image away"
                )
        labels, *mask = found
        assert labels is not None
        yield Subject(image, labels, mask[0] if mask else None)


def _image(place: Path) -> Path | None:
    """Return the image file of a place without ending, if there is one."""
    files = (place.with_name(place.name + suffix) for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def ordered_pairs(
    dataset: str, subjects: list[Subject], max_pairs: int | None = None, seed: int = 0
) -> list[Pair]:
    """Return every subject registered to every other one, or some of these pairs.

    Parameters
    ----------
    dataset : str
        What the label set is called.
    subjects : list of Subject
        At least two.
    max_pairs : int, optional
        So many pairs, drawn at random; all unless given. A larger number draws the same pairs and
        more.
    seed : int
        Of the draw.

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
