"""The card of a checkpoint: what has to be known to use the weights, and where they come from.

The card is a JSON file beside the weights, with the same name but for its ending. Nothing here
needs torch.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.momentum import KERNEL_KEYS

FORMAT = "quicksilver-checkpoint"
VERSION = 1
WEIGHTS_SUFFIX = ".safetensors"
CARD_SUFFIX = ".json"
IMPORT_HINT = "'quicksilver checkpoint import' makes one of a file of the original project"

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Card:
    """What belongs to the weights of a network.

    Parameters
    ----------
    architecture : str
        Name in :data:`nipype_quicksilver.networks.checkpoint.ARCHITECTURES`.
    parameters : dict
        Keyword arguments of the architecture's class.
    role : str
        ``prediction`` for a network of moving and target image, ``correction`` for one of the
        moving image and the target in the moving image's space.
    spacing : float
        Voxel size of the working grid, in millimetres.
    velocity_factor : int
        Momentum and velocity live on the working grid pooled by this factor.
    kernel : dict
        Operator of the LDDMM model: alpha, beta, gamma and power.
    steps : int
        Time steps of the shoot.
    percentile : float
        Percentile of the brain's intensities that is scaled to 1.
    equalize : bool
        Whether the histogram of the brain is equalised then.
    training : dict
        Data and recipe.
    validation : dict
        Numbers measured on data that training did not see.
    licence : str
        Licence of the weights, as an SPDX expression where there is one.
    like_contrast : bool
        Whether images of opposite contrasts are given like ones first, see
        :func:`nipype_quicksilver.spatial.intensity.with_like_contrast`.
    sha256 : str
        Of the file of the weights; filled in when a checkpoint is saved.
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
    like_contrast: bool = False
    sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the card as its file holds it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "role": self.role,
            "architecture": {"name": self.architecture, "parameters": self.parameters},
            "grid": {"spacing": self.spacing, "velocity_factor": self.velocity_factor},
            "intensity": {
                "percentile": self.percentile,
                "equalize": self.equalize,
                "like_contrast": self.like_contrast,
            },
            "lddmm": {"kernel": self.kernel, "steps": self.steps},
            "training": self.training,
            "validation": self.validation,
            "licence": self.licence,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, facts: Any) -> Card:
        """Return the card that :meth:`as_json` described.

        Raises
        ------
        ValueError
            If something is missing or cannot be; the text says what.
        """
        whole = _Facts(facts, "")
        if whole.get("format", str) != FORMAT:
            raise ValueError("it is no card of a checkpoint")
        if whole.get("version", int) != VERSION:
            raise ValueError("it is of a later format; update nipype-quicksilver")
        architecture, grid = whole.part("architecture"), whole.part("grid")
        intensity, lddmm = whole.part("intensity"), whole.part("lddmm")
        kernel = lddmm.part("kernel")
        card = cls(
            architecture=architecture.get("name", str),
            parameters=architecture.get("parameters", dict),
            role=whole.get("role", str),
            spacing=grid.number("spacing", above=0),
            velocity_factor=grid.whole("velocity_factor"),
            kernel={key: kernel.number(key) for key in KERNEL_KEYS},
            steps=lddmm.whole("steps"),
            percentile=intensity.number("percentile", above=0),
            equalize=intensity.get("equalize", bool),
            training=whole.get("training", dict),
            validation=whole.get("validation", dict),
            licence=whole.get("licence", str),
            # Older cards do not have it.
            like_contrast="like_contrast" in intensity.facts
            and intensity.get("like_contrast", bool),
            sha256=whole.get("sha256", str),
        )
        card.check()
        return card

    def check(self) -> None:
        """Refuse values that cannot be.

        Raises
        ------
        ValueError
            The text says what is wrong.
        """
        if set(self.kernel) != set(KERNEL_KEYS):
            raise ValueError(f"its kernel lacks one of {', '.join(KERNEL_KEYS)}")
        if min(self.kernel["alpha"], self.kernel["beta"]) < 0:
            raise ValueError("its kernel has a negative alpha or beta")
        if min(self.kernel["gamma"], self.kernel["power"]) <= 0:
            raise ValueError("its kernel lacks a positive gamma and power")
        if not 0 < self.percentile <= 100:
            raise ValueError("its percentile is none")
        if not (self.spacing > 0 and self.velocity_factor >= 1 and self.steps >= 1):
            raise ValueError("its spacing, velocity factor and steps must be positive")
        if not self.role:
            raise ValueError("its role is empty")


def card_path(path: str | os.PathLike[str]) -> Path:
    """Return where the card of a checkpoint is.

    Raises
    ------
    InputError
        If `path` is no name of a checkpoint.

    Examples
    --------
    >>> card_path("nets/prediction.safetensors").name
    'prediction.json'
    """
    path = Path(path)
    if path.suffix != WEIGHTS_SUFFIX:
        raise InputError(
            f"{path}: a checkpoint is a {WEIGHTS_SUFFIX} file, with its card, a {CARD_SUFFIX} file "
            f"of the same name, beside it; {IMPORT_HINT}"
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
        If there is no card, or it is damaged.
    """
    file = card_path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{file}: no such file; {Path(path).name} needs its card beside it, under this name"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the card cannot be read; get it again") from error
    try:
        return Card.from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: the card is no JSON; get it again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: this card cannot be used: {error}") from error


class _Facts:
    """Entries of a JSON object, checked as they are taken."""

    def __init__(self, facts: Any, where: str) -> None:
        if not isinstance(facts, dict):
            raise ValueError(f"{where or 'the whole'} is no JSON object")
        self.facts = facts
        self.where = where

    def get(self, key: str, kind: type[_Kind]) -> _Kind:
        """Return an entry of some kind; `bool` is not taken for a number."""
        name = f"{self.where}.{key}" if self.where else key
        if key not in self.facts:
            raise ValueError(f"{name} is missing")
        value = self.facts[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} is no {_KINDS[kind]}")
        return value

    def part(self, key: str) -> _Facts:
        """Return the entries of an object inside this one."""
        return _Facts(self.get(key, dict), f"{self.where}.{key}" if self.where else key)

    def number(self, key: str, above: float = -math.inf) -> float:
        """Return a finite number that is larger than another."""
        value = float(self.get(key, int if isinstance(self.facts.get(key), int) else float))
        if not math.isfinite(value) or value <= above:
            raise ValueError(f"{self.where}.{key} is {value}")
        return value

    def whole(self, key: str) -> int:
        """Return a whole number of at least 1."""
        value = self.get(key, int)
        if value < 1:
            raise ValueError(f"{self.where}.{key} is {value}")
        return value


_KINDS: dict[type, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dict: "JSON object",
}
