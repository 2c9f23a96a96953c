"""The files on which a network is trained and validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.training.digests import FileDigest
from nipype_quicksilver.training.momentum_dataset import dataset_files

_SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
FEWEST = 2  # a pair

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Data:
    """What a network is trained and validated on, as files and folders.

    Attributes
    ----------
    labels, validation_labels : sequence of path-like
        Label maps from which images are synthesised.
    images, validation_images : sequence of path-like
        Brains without skull, aligned to each other.
    image_labels : sequence of path-like
        Label maps of `images` and then of `validation_images`, on their grids, in their order.
    momenta, validation_momenta : path-like, optional
        Data sets of momenta, see `momentum_dataset`; instead of all others.
    tissues : path-like, optional
        Table of tissues. Default: the table of FreeSurfer's segmentation.
    """

    labels: Sequence[PathLike] = ()
    validation_labels: Sequence[PathLike] = ()
    images: Sequence[PathLike] = ()
    validation_images: Sequence[PathLike] = ()
    image_labels: Sequence[PathLike] = ()
    momenta: PathLike | None = None
    validation_momenta: PathLike | None = None
    tissues: PathLike | None = None


@dataclass(frozen=True)
class Files:
    """Files of one kind, for training and for validation.

    Attributes
    ----------
    training, validation : list of Path
    """

    training: list[Path] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)

    @property
    def all(self) -> list[Path]:
        """The files for training, then those for validation."""
        return [*self.training, *self.validation]

    def split(self, items: Sequence[_Item]) -> tuple[list[_Item], list[_Item]]:
        """Split one item for each of :attr:`all` into those for training and for validation."""
        number = len(self.training)
        return list(items[:number]), list(items[number:])


@dataclass(frozen=True)
class Inputs:
    """The files that a training reads.

    Attributes
    ----------
    labels, images : Files
        Label maps and brains.
    image_labels : list of Path
        Label maps of all images.
    tissues : Path or None
        Table of tissues.
    momenta : Files
        All files of the data sets of momenta.
    """

    labels: Files = field(default_factory=Files)
    images: Files = field(default_factory=Files)
    image_labels: list[Path] = field(default_factory=list)
    tissues: Path | None = None
    momenta: Files = field(default_factory=Files)

    def digests(self) -> list[FileDigest]:
        """Return every file with its use and its SHA-256."""
        uses = {
            "labels": self.labels.training,
            "validation labels": self.labels.validation,
            "image": self.images.training,
            "validation image": self.images.validation,
            "labels of an image": self.image_labels,
            "tissues": [] if self.tissues is None else [self.tissues],
            "momenta": self.momenta.training,
            "validation momenta": self.momenta.validation,
        }
        return [FileDigest.of(path, use) for use, paths in uses.items() for path in paths]


def find_inputs(data: Data) -> Inputs:
    """Find the files that a training reads.

    Raises
    ------
    InputError
        If a file cannot be used, or is given both for training and for validation.
    """
    if data.momenta is not None:
        validation = data.validation_momenta
        return Inputs(
            momenta=Files(
                dataset_files(data.momenta),
                [] if validation is None else dataset_files(validation),
            )
        )
    inputs = Inputs(
        labels=Files(
            find_images(data.labels, "label maps"),
            find_images(data.validation_labels, "validation label maps"),
        ),
        images=Files(
            find_images(data.images, "images"),
            find_images(data.validation_images, "validation images"),
        ),
        image_labels=find_images(data.image_labels, "label maps of the images"),
        tissues=None if data.tissues is None else Path(data.tissues),
    )
    for files in (inputs.labels, inputs.images):
        both = {path.absolute() for path in files.training} & {
            path.absolute() for path in files.validation
        }
        if both:
            raise InputError(
                f"{min(both)}: is given for training and for validation; validate on other files"
            )
    return inputs


def find_images(paths: Sequence[PathLike], what: str) -> list[Path]:
    """Return images from a list of files and folders.

    Parameters
    ----------
    paths : sequence of path-like
        Files, and folders whose images are taken in the order of their names.
    what : str
        Description of the images, for messages.

    Returns
    -------
    list of Path
        At least two; empty if `paths` is empty.

    Raises
    ------
    InputError
        If a path does not exist, a folder has no image, a file is given twice, or there is only
        one file.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file))
            if not inside:
                raise InputError(f"{path}: has no image ({', '.join(_SUFFIXES)}); give another")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise InputError(f"{path}: no such file or folder; check the {what}")
    repeated = [path for path in images if images.count(path) > 1]
    if repeated:
        raise InputError(f"{repeated[0]}: is given twice among the {what}; leave one out")
    if len(images) == 1:
        raise InputError(f"{images[0]}: is the only one of the {what}; give at least {FEWEST}")
    return images


def _is_image(path: Path) -> bool:
    return path.name.endswith(_SUFFIXES) and not path.name.startswith(".") and path.is_file()
