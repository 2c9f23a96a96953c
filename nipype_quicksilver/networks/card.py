"""The card of a checkpoint: what is needed to use the weights, and how they were trained.

The card is a JSON file next to the weights, with the same name except for the suffix. This module
does not import torch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import KERNEL_PARAMETERS, Kernel, check_steps
from nipype_quicksilver.spatial.limits import LARGEST_SPACING, SMALLEST_SPACING
from nipype_quicksilver.spatial.records import read_json

FORMAT = "quicksilver-checkpoint"
VERSION = 1
WEIGHTS_SUFFIX = ".safetensors"
CARD_SUFFIX = ".json"
IMPORT_HINT = "'quicksilver checkpoint import' converts a file of the original project"

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Card:
    """Description of the weights of a network.

    Parameters
    ----------
    architecture : str
        Name in :data:`nipype_quicksilver.networks.checkpoint.ARCHITECTURES`.
    parameters : dict
        Keyword arguments of the architecture's class.
    role : str
        ``prediction`` for a network whose input is the moving and the target image, ``correction``
        for one whose input is the moving image and the target warped to its space.
    spacing : float
        Voxel size of the working grid, in millimetres.
    velocity_factor : int
        Momentum and velocity are on the working grid pooled by this factor.
    kernel : dict
        Parameters of the LDDMM kernel: alpha, beta, gamma and power.
    steps : int
        Time steps of the shooting.
    percentile : float
        Percentile of the brain's intensities that is scaled to 1.
    equalize : bool
        Whether the histogram of the brain is equalised afterwards.
    training : dict
        Data and recipe.
    validation : dict
        Measures on data not used for training.
    licence : str
        Licence of the weights, as an SPDX expression if there is one.
    match_contrast : bool
        Whether images of opposite contrasts are brought to matching contrasts first, by
        :func:`nipype_quicksilver.spatial.intensity.with_matching_contrast`. Its key in the file is
        ``like_contrast``.
    sha256 : str
        Of the file of the weights; set when a checkpoint is saved.
    """

    architecture: str
    parameters: dict[str, Any]
    role: str
    spacing: float
    velocity_factor: int
    kernel: dict[str, float]
    steps: int
    percentile: float
    equalize: bool
    training: dict[str, Any]
    validation: dict[str, Any]
    licence: str
    match_contrast: bool = False
    sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the contents of the card's file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "role": self.role,
            "architecture": {"name": self.architecture, "parameters": self.parameters},
            "grid": {"spacing": self.spacing, "velocity_factor": self.velocity_factor},
            "intensity": {
                "percentile": self.percentile,
                "equalize": self.equalize,
                "like_contrast": self.match_contrast,
            },
            "lddmm": {"kernel": self.kernel, "steps": self.steps},
            "training": self.training,
            "validation": self.validation,
            "licence": self.licence,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, content: Any) -> Card:
        """Return the card of the contents of a file, the inverse of :meth:`as_json`.

        Raises
        ------
        ValueError
            If an entry is missing or invalid; the message names it.
        """
        root = _JsonObject(content, "")
        if root.get("format", str) != FORMAT:
            raise ValueError("it is not the card of a checkpoint")
        if root.get("version", int) != VERSION:
            raise ValueError("it has a newer format; update nipype-quicksilver")
        architecture, grid = root.part("architecture"), root.part("grid")
        intensity, lddmm = root.part("intensity"), root.part("lddmm")
        kernel = lddmm.part("kernel")
        card = cls(
            architecture=architecture.get("name", str),
            parameters=architecture.get("parameters", dict),
            role=root.get("role", str),
            spacing=grid.number("spacing", above=0),
            velocity_factor=grid.positive_integer("velocity_factor"),
            kernel={key: kernel.number(key) for key in KERNEL_PARAMETERS},
            steps=lddmm.positive_integer("steps"),
            percentile=intensity.number("percentile", above=0),
            equalize=intensity.get("equalize", bool),
            training=root.get("training", dict),
            validation=root.get("validation", dict),
            licence=root.get("licence", str),
            # Older cards lack it.
            match_contrast="like_contrast" in intensity.content
            and intensity.get("like_contrast", bool),
            sha256=root.get("sha256", str),
        )
        card.check()
        return card

    def check(self) -> None:
        """Raise an error if a value is invalid.

        Raises
        ------
        ValueError
            The message says what is wrong.
        """
        if set(self.kernel) != set(KERNEL_PARAMETERS):
            raise ValueError(f"its kernel must have {', '.join(KERNEL_PARAMETERS)}")
        Kernel(**self.kernel)
        if not 0 < self.percentile <= 100:
            raise ValueError("its percentile must be above 0 and at most 100")
        check_steps(self.steps)
        if not SMALLEST_SPACING <= self.spacing <= LARGEST_SPACING:
            raise ValueError(f"its spacing of {self.spacing:g} mm is beyond all limits")
        if self.velocity_factor < 1:
            raise ValueError("its velocity factor must be positive")
        if not self.role:
            raise ValueError("its role is empty")


def card_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of the card of a checkpoint.

    Raises
    ------
    InputError
        If `path` does not have the suffix of a checkpoint.

    Examples
    --------
    >>> card_path("nets/prediction.safetensors").name
    'prediction.json'
    """
    path = Path(path)
    if path.suffix != WEIGHTS_SUFFIX:
        raise InputError(
            f"{path}: a checkpoint is a {WEIGHTS_SUFFIX} file, with its card, a {CARD_SUFFIX} file "
            f"of the same name, next to it; {IMPORT_HINT}"
        )
    return path.with_suffix(CARD_SUFFIX)


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read the card of a checkpoint.

    Parameters
    ----------
    path : path-like
        The checkpoint, ``NAME.safetensors``; its card is ``NAME.json``.

    Returns
    -------
    Card

    Raises
    ------
    InputError
        If the card is missing or damaged.
    """
    file = card_path(path)
    if not file.exists():
        raise InputError(
            f"{file}: no such file; {Path(path).name} needs its card next to it, under this name"
        )
    content = read_json(file, "card", "get the card again")
    try:
        return Card.from_json(content)
    except ValueError as error:
        raise InputError(f"{file}: this card cannot be used: {error}") from error


class _JsonObject:
    """Entries of a JSON object, checked when they are read.

    Parameters
    ----------
    content : dict
    name : str
        Dotted path of the object in its file, for messages; empty for the file as a whole.
    """

    def __init__(self, content: Any, name: str) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{name or 'its content'} is not a JSON object")
        self.content = content
        self.name = name

    def get(self, key: str, kind: type[_Kind]) -> _Kind:
        """Return an entry of a type; `bool` is not accepted as a number."""
        if key not in self.content:
            raise ValueError(f"{self._path(key)} is missing")
        value = self.content[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{self._path(key)} is not {_KINDS[kind]}")
        return value

    def part(self, key: str) -> _JsonObject:
        """Return an object inside this one."""
        return _JsonObject(self.get(key, dict), self._path(key))

    def number(self, key: str, above: float = -math.inf) -> float:
        """Return a finite number that is larger than `above`."""
        value = float(self.get(key, int if isinstance(self.content.get(key), int) else float))
        if not math.isfinite(value) or value <= above:
            raise ValueError(f"{self._path(key)} is {value}")
        return value

    def positive_integer(self, key: str) -> int:
        """Return an integer of at least 1."""
        value = self.get(key, int)
        if value < 1:
            raise ValueError(f"{self._path(key)} is {value}")
        return value

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


_KINDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a JSON object",
}
