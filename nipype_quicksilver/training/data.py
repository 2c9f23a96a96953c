"""What a network is trained on, as files: found, checked for what goes together, hashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import ROLES
from nipype_quicksilver.spatial.files import PathLike, sha256_of
from nipype_quicksilver.training import momentum_dataset
from nipype_quicksilver.training.recipes import Plan

_SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
FEWEST = 2  # a pair


@dataclass(frozen=True)
class Data:
    """What a network is trained and judged on, as files and folders.

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
        Table of tissues; that of FreeSurfer's segmentation unless given.
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
        """Both."""
        return [*self.training, *self.validation]

    def split(self, things: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return what belongs to the files of training, and to those of validation."""
        number = len(self.training)
        return list(things[:number]), list(things[number:])


@dataclass(frozen=True)
class Inputs:
    """The files of a training."""

    labels: Files = field(default_factory=Files)
    images: Files = field(default_factory=Files)
    image_labels: list[Path] = field(default_factory=list)
    tissues: Path | None = None
    momenta: list[tuple[Path, str]] = field(default_factory=list)
    validation_momenta: list[tuple[Path, str]] = field(default_factory=list)

    def digests(self) -> list[dict[str, str]]:
        """Return every file with its use and its SHA-256."""
        uses = {
            "labels": self.labels.training,
            "validation labels": self.labels.validation,
            "image": self.images.training,
            "validation image": self.images.validation,
            "labels of an image": self.image_labels,
            "tissues": [] if self.tissues is None else [self.tissues],
        }
        hashed = [(use, path, sha256_of(path)) for use, paths in uses.items() for path in paths]
        hashed += [("momenta", *item) for item in self.momenta]
        hashed += [("validation momenta", *item) for item in self.validation_momenta]
        return [
            {"use": use, "file": str(path.absolute()), "sha256": digest}
            for use, path, digest in hashed
        ]


def check_data(data: Data, plan: Plan, role: str, before: Sequence[PathLike]) -> None:
    """Refuse what does not go together, before anything is read."""
    if role not in ROLES:
        raise InputError(f"role '{role}' is not known; give {' or '.join(ROLES)}")
    pictures = (*data.labels, *data.images)
    if (data.momenta is None) == (not pictures):
        raise InputError("give label maps, images, or a data set of momenta to train on")
    if plan.architecture == "patch" and data.momenta is None:
        raise InputError(
            "a patch network is trained on momenta; give a data set of 'quicksilver dataset', or "
            "a recipe with another architecture"
        )
    if plan.architecture != "patch" and data.momenta is not None:
        raise InputError(
            f"{data.momenta}: momenta are for patch networks; give a recipe with that architecture"
        )
    if data.momenta is None and (role == "correction") != bool(before):
        raise InputError(
            "a correction network needs the networks before it, a prediction network none; give "
            "the checkpoint of the prediction network and the role 'correction'"
        )
    beside = data.image_labels or data.tissues or before
    if data.momenta is not None and beside:
        raise InputError(
            f"{data.momenta}: a data set of momenta is trained on alone; leave out tissues, label "
            "maps of images, and networks before"
        )
    if data.validation_momenta is not None and data.momenta is None:
        raise InputError("validation momenta are for training on momenta; give those too")
    judged = data.validation_labels or data.validation_images or data.validation_momenta
    if plan.patience and not judged:
        raise InputError(
            "patience counts validations; give data to be judged on, or a patience of 0"
        )
    if data.validation_labels and not data.labels:
        raise InputError("validation label maps are for training on label maps; give those too")
    if data.validation_images and not data.images:
        raise InputError("validation images are for training on images; give those too")


def find_inputs(data: Data) -> Inputs:
    """Find the files that a training is to read.

    Raises
    ------
    InputError
        If one cannot be used, or is both for training and for validation.
    """
    if data.momenta is not None:
        digests = momentum_dataset.dataset_digests
        judged = data.validation_momenta
        return Inputs(
            momenta=digests(data.momenta),
            validation_momenta=[] if judged is None else digests(judged),
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
                f"{min(both)}: is given for training and for validation; judge on others"
            )
    return inputs


def find_images(paths: Sequence[PathLike], what: str) -> list[Path]:
    """Return the images that files and folders name.

    Parameters
    ----------
    paths : sequence of path-like
        Files, and folders whose images are taken in the order of their names.
    what : str
        What they are to the user, for messages.

    Returns
    -------
    list of Path
        At least two, or none for no paths.

    Raises
    ------
    InputError
        If a path does not exist, a folder holds no image, a file is given twice, or there is one
        file only.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file))
            if not inside:
                raise InputError(f"{path}: holds no image ({', '.join(_SUFFIXES)}); give another")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder; check the {what}")
    twice = [path for path in found if found.count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]}: is given twice among the {what}; leave one out")
    if len(found) == 1:
        raise InputError(f"{found[0]}: is the only one of the {what}; give at least {FEWEST}")
    return found


def _is_image(path: Path) -> bool:
    return path.name.endswith(_SUFFIXES) and not path.name.startswith(".") and path.is_file()


def digests_of(paths: Sequence[PathLike]) -> list[dict[str, str]]:
    """Return files with their SHA-256."""
    return [{"file": str(Path(path).absolute()), "sha256": sha256_of(path)} for path in paths]
