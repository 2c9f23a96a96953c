"""What is to be trained and how, for any family of networks."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import ROLES
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.training.data import Data, Inputs
from nipype_quicksilver.training.distributed import Processes
from nipype_quicksilver.training.end_to_end import EndToEndRecipe
from nipype_quicksilver.training.on_momenta import PatchRecipe
from nipype_quicksilver.training.synthesis import Ranges
from nipype_quicksilver.training.trainer import Task

FORMAT = "quicksilver-recipe"
VERSION = 1


class Family(ABC):
    """How the networks of one architecture are trained."""

    #: Name in `nipype_quicksilver.networks.checkpoint.ARCHITECTURES`.
    architecture: ClassVar[str]
    #: Class of :attr:`Plan.training`.
    recipe: ClassVar[type]
    #: Entries of the recipe that have to be positive.
    positive: ClassVar[tuple[str, ...]]
    #: Whether the images of a pair are brought to matching contrasts first.
    match_contrast: ClassVar[bool]

    @abstractmethod
    def check_plan(self, plan: Plan) -> None:
        """Refuse a plan that cannot be carried out.

        Raises
        ------
        ValueError
            With the reason.
        """

    @abstractmethod
    def check_job(self, job: Job) -> None:
        """Refuse data on which these networks cannot be trained.

        Raises
        ------
        InputError
            With the reason.
        """

    @abstractmethod
    def task(self, job: Job, inputs: Inputs, network: nn.Module, processes: Processes) -> Task:
        """Read the data and return the trainer of a network."""


@dataclass(frozen=True)
class Plan:
    """A recipe in memory.

    Attributes
    ----------
    family : Family
        ``force-unet``, trained end to end, or ``patch``, the paper's network, trained on momenta.
    parameters : dict
        Keyword arguments of the network's class.
    grid : tuple of int
        Sides of the box of 1 mm voxels in which all brains lie.
    training : EndToEndRecipe or PatchRecipe
        The class is that of the family.
    validation : Ranges
        How much the images vary that are synthesised for validation.
    pairs : int
        Largest number of validation pairs.
    every : int
        Iterations between two validations.
    patience : int
        Validations without improvement after which the training ends; 0 for no limit.
    """

    family: Family
    parameters: dict[str, Any]
    grid: tuple[int, int, int]
    training: EndToEndRecipe | PatchRecipe
    validation: Ranges
    pairs: int = 8
    every: int = 100
    patience: int = 0

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return self.family.architecture

    def as_json(self) -> dict[str, Any]:
        """Return the plan as the file of a recipe holds it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "architecture": {"name": self.architecture, "parameters": self.parameters},
            "grid": list(self.grid),
            "training": dataclasses.asdict(self.training),
            "validation": {
                "ranges": dataclasses.asdict(self.validation),
                "pairs": self.pairs,
                "every": self.every,
                "patience": self.patience,
            },
        }


@dataclass(frozen=True)
class Job:
    """A plan and what it is applied to.

    Attributes
    ----------
    plan : Plan
    data : Data
    role : {'prediction', 'correction'}
    before : sequence of path-like
        Checkpoints that a correction network corrects, in their order.
    start : path-like, optional
        Checkpoint with the initial weights.
    """

    plan: Plan
    data: Data
    role: str = ROLES[0]
    before: Sequence[PathLike] = ()
    start: PathLike | None = None

    def check(self) -> None:
        """Refuse options that do not go together, before any file is read.

        Raises
        ------
        InputError
            With the remedy.
        """
        data = self.data
        if self.role not in ROLES:
            raise InputError(f"role '{self.role}' is not known; give {' or '.join(ROLES)}")
        images_or_labels = (*data.labels, *data.images)
        if (data.momenta is None) == (not images_or_labels):
            raise InputError("give label maps, images, or a data set of momenta to train on")
        self.plan.family.check_job(self)
        if data.validation_momenta is not None and data.momenta is None:
            raise InputError("validation momenta are for training on momenta; give those too")
        validation = data.validation_labels or data.validation_images or data.validation_momenta
        if self.plan.patience and not validation:
            raise InputError(
                "patience counts validations; give data for validation, or a patience of 0"
            )
        if data.validation_labels and not data.labels:
            raise InputError("validation label maps are for training on label maps; give those too")
        if data.validation_images and not data.images:
            raise InputError("validation images are for training on images; give those too")
