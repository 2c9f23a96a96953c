"""What is to be registered to what, how, and under which names results are kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from nipype_quicksilver import __version__
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.options import DEFAULT_METHOD

#: Instead of a template: every image is registered to every other one.
PAIRWISE = "pairwise"
#: BIDS' names of the templates that come with this package.
SPACES = {"MNI152": "MNI152NLin2009aSym"}
_IMAGES = (".nii", ".nii.gz", ".mgz", ".mgh")

#: Name of the workflow that prepares the fixed image.
FIXED = "fixed"


@dataclass(frozen=True)
class Settings:
    """How images are registered; the same for all images of a cohort.

    Attributes
    ----------
    fixed : str
        ``MNI152``, the file of an image, a name of TemplateFlow's, or ``pairwise``.
    method, similarity, iterations, prediction_network, correction_network, samples, corrections
        As `quicksilver register` has them; None where it is to choose.
    brain_extraction, affine : str
        Engines.
    fixed_labels : str or None
        Label map of the fixed image, with which warped labels are compared.
    seed : int
        Of random numbers.
    """

    fixed: str = "MNI152"
    method: str = DEFAULT_METHOD
    similarity: str | None = None
    iterations: tuple[int, ...] | None = None
    prediction_network: str | None = None
    correction_network: str | None = None
    samples: int | None = None
    corrections: int | None = None
    brain_extraction: str = "deepbet"
    affine: str = "simpleitk"
    fixed_labels: str | None = None
    seed: int = 0

    @property
    def fixed_file(self) -> Path | None:
        """The file of the fixed image; None where that is a template by name, or pairwise."""
        return Path(self.fixed) if self.fixed.endswith(_IMAGES) else None

    @property
    def space(self) -> str:
        """BIDS' name of the space of the fixed image.

        Examples
        --------
        >>> Settings("MNI152").space, Settings("MNIPediatricAsym:cohort-4").space
        ('MNI152NLin2009aSym', 'MNIPediatricAsymcohort4')
        >>> Settings("/data/tpl-Study_T1w.nii.gz").space, Settings("our_brain.nii").space
        ('Study', 'ourbrain')
        """
        if self.fixed_file is not None:
            name = self.fixed_file.name.split(".")[0]
            of_template = re.match(r"tpl-([0-9A-Za-z]+)", name)
            return of_template[1] if of_template else re.sub(r"[^0-9A-Za-z]", "", name)
        return SPACES.get(self.fixed, re.sub(r"[^0-9A-Za-z]", "", self.fixed))

    def described(self) -> dict[str, Any]:
        """Return what differs from nothing given, for people and for comparison."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Job:
    """One image to be registered.

    Attributes
    ----------
    moving : CohortImage
        The image.
    space : str
        BIDS' name of the space of the fixed image.
    fixed : CohortImage or None
        The fixed image, if it is one of the cohort.
    """

    moving: CohortImage
    space: str
    fixed: CohortImage | None = None

    @property
    def name(self) -> str:
        """What tells it from the other jobs of a cohort; a name for a workflow."""
        return f"{self.moving.stem}{self._unless_t1w('_')}_to-{self.space}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the workflows that it needs: its own, and those of its images."""
        images = [self.moving] if self.fixed is None else [self.moving, self.fixed]
        return (FIXED, *(image.stem for image in images), self.name)

    @property
    def transform(self) -> str:
        """Name of the transform that brings the image to the fixed one, without suffix."""
        return self._transform(self.moving.suffix, self.space)

    @property
    def inverse_transform(self) -> str:
        """The same from the fixed image to this one."""
        return self._transform(self.space, self.moving.suffix)

    def _transform(self, start: str, end: str) -> str:
        return f"{self.moving.stem}_from-{start}_to-{end}_mode-image"

    def _unless_t1w(self, before: str = "") -> str:
        """Return what tells files apart that two contrasts of one session would both have."""
        return "" if self.moving.suffix == "T1w" else before + self.moving.suffix

    def in_space(self, ending: str) -> str:
        """Return the name of a file in the space of the fixed image."""
        return f"{self.moving.stem}_space-{self.space}_{ending}"

    def files(self) -> dict[str, str]:
        """Return the name of each derivative by that of the output it is made of."""
        contrast = self._unless_t1w()
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
    def report(self) -> str:
        """Name of the page on the registration, in the folder of all derivatives."""
        return f"{self.name}.html"

    @property
    def record(self) -> str:
        """Name of the file of figures, which is written last."""
        return f"{self.transform}_registration.json"


def plan(images: Sequence[CohortImage], settings: Settings) -> list[Job]:
    """Say what is to be registered to what.

    Parameters
    ----------
    images : sequence of CohortImage
        The cohort.
    settings : Settings
        With the fixed image. Pairwise, each image is registered to all that come before it: one
        registration gives both directions.

    Returns
    -------
    list of Job
        In the order of the images.
    """
    if settings.fixed == PAIRWISE:
        return [Job(moving, fixed.label, fixed) for fixed, moving in combinations(images, 2)]
    return [Job(image, settings.space) for image in images]


def digest(job: Job, settings: Settings) -> str:
    """Return a short name of all that a result depends on.

    Files count by path, size and time of their last change.
    """
    images = [job.moving] if job.fixed is None else [job.moving, job.fixed]
    files = [path for image in images for path in (image.path, image.mask, image.labels)]
    files += [settings.fixed_file]
    for name in ("prediction_network", "correction_network", "fixed_labels"):
        file = getattr(settings, name)
        files.append(None if file is None else Path(file))
    facts = [__version__, settings.described(), [_state(path) for path in files]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _state(path: Path | None) -> list[Any] | None:
    if path is None:
        return None
    state = path.stat()
    return [str(path), state.st_size, state.st_mtime_ns]
