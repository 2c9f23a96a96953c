"""Jobs of a cohort: the images to register, the options, and the names of the results."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Unpack

from nipype_quicksilver import __version__
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import (
    COHORT_OPTIONS,
    MNI152,
    OPTIONS,
    RegistrationOptions,
    completed,
    described,
)

#: Value of `CohortOptions.fixed` with which every image is registered to every other one.
PAIRWISE = "pairwise"
#: BIDS names of the templates that come with this package.
SPACES = {MNI152: "MNI152NLin2009aSym"}
_IMAGES = (".nii", ".nii.gz", ".mgz", ".mgh")

#: Name of the workflow that prepares the fixed image.
FIXED = "fixed"

# Outputs that not every registration has.
_OPTIONAL = ("warped_labels", "uncertainty", "brain_mask")


@dataclass(frozen=True)
class CohortOptions:
    """What a user chooses for all images of a cohort.

    Attributes
    ----------
    fixed : str
        ``MNI152``, the file of an image, a template of TemplateFlow, or ``pairwise``.
    fixed_labels : str or None
        Label map of the fixed image, to compare with the warped labels.
    registration : RegistrationOptions
        All options of a registration.
    """

    fixed: str
    fixed_labels: str | None
    registration: RegistrationOptions

    @classmethod
    def of(
        cls,
        fixed: str = MNI152,
        *,
        fixed_labels: str | None = None,
        **options: Unpack[RegistrationOptions],
    ) -> CohortOptions:
        """Return options with the defaults of those that are not given.

        Raises
        ------
        InputError
            If a value is not allowed, or the method does not use the option.
        """
        for name, option in OPTIONS.items():
            if options.get(name) and name not in COHORT_OPTIONS:
                raise InputError(
                    f"{option.title}: a cohort {option.without['cohort']}; leave it out"
                )
        return cls(fixed, fixed_labels, completed(options, COHORT_OPTIONS))

    @property
    def fixed_file(self) -> Path | None:
        """The file of the fixed image; None for the name of a template, or pairwise."""
        return Path(self.fixed) if self.fixed.endswith(_IMAGES) else None

    @property
    def space(self) -> str:
        """BIDS name of the space of the fixed image.

        Examples
        --------
        >>> CohortOptions.of().space, CohortOptions.of("MNIPediatricAsym:cohort-4").space
        ('MNI152NLin2009aSym', 'MNIPediatricAsymcohort4')
        >>> CohortOptions.of("/data/tpl-Study_T1w.nii.gz").space
        'Study'
        >>> CohortOptions.of("our_brain.nii").space
        'ourbrain'
        """
        if self.fixed_file is not None:
            name = self.fixed_file.name.split(".")[0]
            template = re.match(r"tpl-([0-9A-Za-z]+)", name)
            return template[1] if template else re.sub(r"[^0-9A-Za-z]", "", name)
        return SPACES.get(self.fixed, re.sub(r"[^0-9A-Za-z]", "", self.fixed))

    def described(self) -> dict[str, Any]:
        """Return the options that are not None, as JSON can hold them."""
        own = {"fixed": self.fixed, "fixed_labels": self.fixed_labels}
        named = {name: value for name, value in own.items() if value is not None}
        return {**named, **described(self.registration)}

    def files(self) -> list[Path]:
        """Return the files that the options name."""
        values = dict(self.registration)
        named = (values[o.name] for o in COHORT_OPTIONS.values() if o.is_file(values[o.name]))
        files = (self.fixed_file, self.fixed_labels, *named)
        return [Path(str(file)) for file in files if file is not None]


@dataclass(frozen=True)
class Job:
    """The registration of one image.

    Attributes
    ----------
    moving : CohortImage
        The image that is registered.
    space : str
        BIDS name of the space of the fixed image.
    fixed : CohortImage or None
        The fixed image, if it is one of the cohort.
    """

    moving: CohortImage
    space: str
    fixed: CohortImage | None = None

    @property
    def name(self) -> str:
        """Unique name among the jobs of a cohort, also of its workflow."""
        return f"{self.moving.name}_to-{self.space}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the workflows that it depends on: those of its images, and its own."""
        images = [self.moving] if self.fixed is None else [self.moving, self.fixed]
        return (FIXED, *(image.name for image in images), self.name)

    @property
    def transform(self) -> str:
        """Name of the transform from the image to the fixed image, without suffix."""
        return self._transform(self.moving.suffix, self.space)

    @property
    def inverse_transform(self) -> str:
        """Name of the transform from the fixed image to the image, without suffix."""
        return self._transform(self.space, self.moving.suffix)

    def _transform(self, start: str, end: str) -> str:
        return f"{self.moving.stem}_from-{start}_to-{end}_mode-image"

    def in_space(self, ending: str) -> str:
        """Return the name of a file in the space of the fixed image."""
        return f"{self.moving.stem}_space-{self.space}_{ending}"

    def files(self) -> dict[str, str]:
        """Return the file name of each derivative, by the name of the node's output."""
        contrast = "" if self.moving.suffix == "T1w" else self.moving.suffix
        return {
            "composite_transform": f"{self.transform}_xfm.h5",
            "inverse_composite_transform": f"{self.inverse_transform}_xfm.h5",
            "warped_image": self.in_space(f"desc-preproc_{self.moving.suffix}.nii.gz"),
            "warped_labels": self.in_space(f"{contrast and f'desc-{contrast}_'}dseg.nii.gz"),
            "log_jacobian": self.in_space(f"desc-{contrast}jacobian_map.nii.gz"),
            "uncertainty": self.in_space(f"desc-{contrast}uncertainty_map.nii.gz"),
            "brain_mask": f"{self.moving.stem}_desc-{contrast}brain_mask.nii.gz",
        }

    @property
    def label_table(self) -> str:
        """File name of the table of the warped labels."""
        return f"{_bare(self.files()['warped_labels'])}.tsv"

    def in_folder(self, file: str) -> str:
        """Return the name of a file of the image's folder, in the folder of all derivatives."""
        return (self.moving.folder / file).as_posix()

    def written(self) -> set[str]:
        """Return the names of all files that may be written, in the folder of all derivatives.

        The record is not among them.
        """
        names = set(self.files().values())
        names |= {sidecar(name) for name in names} | {self.label_table}
        return {self.report, *map(self.in_folder, names)}

    def always_written(self) -> set[str]:
        """Return those of :meth:`written` that every registration has."""
        names = {file for name, file in self.files().items() if name not in _OPTIONAL}
        return set(map(self.in_folder, names | {sidecar(name) for name in names}))

    @property
    def report(self) -> str:
        """File name of the page on the registration, in the folder of all derivatives."""
        return f"{self.name}.html"

    @property
    def record(self) -> str:
        """File name of the record: measures, parameters and files; it is written last."""
        return f"{self.transform}_registration.json"


def sidecar(file: str) -> str:
    """Return the name of the sidecar of a derivative.

    Examples
    --------
    >>> sidecar("sub-01_desc-brain_mask.nii.gz")
    'sub-01_desc-brain_mask.json'
    """
    return f"{_bare(file)}.json"


def _bare(file: str) -> str:
    return file.split(".")[0]


def plan(images: Sequence[CohortImage], chosen: CohortOptions) -> list[Job]:
    """Return the registrations of a cohort.

    Parameters
    ----------
    images : sequence of CohortImage
        The cohort.
    chosen : CohortOptions
        With the fixed image. With `pairwise`, each image is registered to all images before it:
        one registration gives both directions.

    Returns
    -------
    list of Job
        In the order of the images.

    Raises
    ------
    InputError
        If two registrations would write files of the same names.
    """
    if chosen.fixed == PAIRWISE:
        jobs = [Job(moving, fixed.label, fixed) for fixed, moving in combinations(images, 2)]
    else:
        jobs = [Job(image, chosen.space) for image in images]
    _check_names(jobs, chosen)
    return jobs


def _check_names(jobs: Iterable[Job], chosen: CohortOptions) -> None:
    """Refuse registrations that would write files of the same names."""
    writers: dict[str, Job] = {}
    for job in jobs:
        fixed = chosen.fixed if job.fixed is None else job.fixed.path
        if job.space in ("", job.moving.suffix):
            raise InputError(
                f"{fixed}: its space would be called '{job.space}' in names of files; give it a "
                "name with other letters or digits"
            )
        for name in (job.report, job.in_folder(job.record)):
            other = writers.setdefault(name, job)
            if other is not job:
                raise InputError(_same_names(other, job, name))


def _same_names(first: Job, second: Job, name: str) -> str:
    """Return the message on two registrations that would write a file of the same name."""
    images = [first.moving.path, second.moving.path]
    if first.fixed is not None and second.fixed is not None and images[0] == images[1]:
        images = [first.fixed.path, second.fixed.path]
    return f"{images[0]} and {images[1]}: both would give {name}; rename one, or leave it out"


def digest(job: Job, chosen: CohortOptions) -> str:
    """Return a hash of everything that a result depends on.

    Files count by path, size and modification time.
    """
    images = [job.moving] if job.fixed is None else [job.moving, job.fixed]
    files = [file for image in images for file in image.files()]
    state = [__version__, chosen.described(), [_state(file) for file in (*files, *chosen.files())]]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def _state(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def __getattr__(name: str) -> Any:
    if name == "Settings":
        warnings.warn(
            "cohort.jobs.Settings is called CohortOptions.of since version 0.2; it goes with "
            "version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return CohortOptions.of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
