"""Recipes: everything that decides how a network is trained, as a JSON file."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.data import SHIPPED
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE

if TYPE_CHECKING:
    from nipype_quicksilver.training.end_to_end import Recipe
    from nipype_quicksilver.training.on_momenta import PatchRecipe
    from nipype_quicksilver.training.synthesis import Ranges

FORMAT = "quicksilver-recipe"
VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Attributes
    ----------
    architecture : str
        ``force-unet``, trained end to end, or ``patch``, the paper's network, trained on momenta.
    parameters : dict
        Keyword arguments of its class.
    grid : tuple of int
        Sides of the box of 1 mm voxels in which all brains lie.
    training : Recipe or PatchRecipe
        Of the architecture.
    validation : Ranges
        How much the synthesised images vary on which the network is judged.
    pairs : int
        Validation pairs, at most.
    every : int
        Iterations between two validations.
    patience : int
        Validations without improvement after which the training ends; 0 for never.
    """

    architecture: str
    parameters: dict[str, Any]
    grid: tuple[int, int, int]
    training: Recipe | PatchRecipe
    validation: Ranges
    pairs: int = 8
    every: int = 100
    patience: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the plan as its file holds it."""
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


def read_plan(path: PathLike) -> Plan:
    """Read a recipe.

    Parameters
    ----------
    path : path-like
        JSON; what it does not tell has its default value.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If it cannot be read, or an entry is not known or cannot be.
    """
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; give a recipe, or one of {', '.join(SHIPPED)}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read; give a recipe (JSON)") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON (line {error.lineno}); correct it") from error
    try:
        return plan_of(facts)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: this recipe cannot be used: {error}") from error


def plan_of(facts: Any) -> Plan:
    """Return the plan that :meth:`Plan.as_json` described.

    Raises
    ------
    ValueError
        The text says which entry is wrong.
    """
    from nipype_quicksilver.networks.checkpoint import build_network
    from nipype_quicksilver.training.end_to_end import Recipe
    from nipype_quicksilver.training.on_momenta import PatchRecipe
    from nipype_quicksilver.training.synthesis import Ranges

    known = ("format", "version", "architecture", "grid", "training", "validation")
    whole = _entries(facts, "the recipe", known)
    if whole.get("format") != FORMAT:
        raise ValueError(f'it needs the entry "format": "{FORMAT}"')
    if whole.get("version") != VERSION:
        raise ValueError("it is of another version of the format; update nipype-quicksilver")
    network = _entries(whole.get("architecture", {}), "architecture", ("name", "parameters"))
    name = network.get("name", "force-unet")
    kinds: dict[str, type] = {"force-unet": Recipe, "patch": PatchRecipe}
    if name not in kinds:
        raise ValueError(f"architecture.name is '{name}', not one of {', '.join(kinds)}")
    parameters = _entries(network.get("parameters", {}), "architecture.parameters")
    build_network(name, dict(parameters))
    judged = _entries(
        whole.get("validation", {}), "validation", ("ranges", "pairs", "every", "patience")
    )
    numbers = {
        key: _whole(judged[key], f"validation.{key}", least)
        for key, least in (("pairs", 1), ("every", 1), ("patience", 0))
        if key in judged
    }
    plan = Plan(
        architecture=name,
        parameters=dict(parameters),
        grid=_grid(whole.get("grid", [176, 208, 176])),
        training=_filled(kinds[name], whole.get("training", {}), "training"),
        validation=_filled(Ranges, judged.get("ranges", {}), "validation.ranges"),
        **numbers,
    )
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Refuse numbers with which nothing could be trained."""
    from nipype_quicksilver.training.synthesis import GEODESIC_FACTOR
    from nipype_quicksilver.training.tissue_shares import LARGEST_FACTOR

    training = plan.training
    for name in ("iterations", "learning_rate", "warm_up", "steps", "factor", "batch_size"):
        if getattr(training, name, 1) <= 0:
            raise ValueError(f"training.{name} is not positive")
    if not 0 <= training.averaging < 1:
        raise ValueError("training.averaging is not from 0 to less than 1")
    factor = getattr(training, "factor", 1)
    if factor > LARGEST_FACTOR:
        raise ValueError(f"training.factor is more than {LARGEST_FACTOR}")
    image = plan.parameters.get("image", 2)
    if plan.architecture == "force-unet" and image % factor:
        raise ValueError("architecture.parameters.image is no multiple of training.factor")
    coarsest = max(plan.parameters.get("velocity", 4), *plan.parameters.get("scales", (1,)))
    coarsest = max(factor, coarsest)
    if any(n % coarsest for n in plan.grid):
        raise ValueError("the sides of grid are no multiples of the coarsest factor")
    if any(n % (factor * GEODESIC_FACTOR) for n in plan.grid):
        raise ValueError(f"the sides of grid are no multiples of {factor * GEODESIC_FACTOR}")
    crop = getattr(training, "crop", 0) * factor
    if crop < 0 or crop > min(plan.grid) or crop % coarsest:
        raise ValueError("training.crop is no box of whole coarse voxels inside the grid")


def _entries(facts: Any, where: str, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    if not isinstance(facts, dict):
        raise ValueError(f"{where} is no JSON object")
    for key in facts:
        if known is not None and key not in known:
            raise ValueError(f"{where} has no entry '{key}' (known: {', '.join(known)})")
    return facts


def _grid(sides: Any) -> tuple[int, int, int]:
    good = isinstance(sides, list) and len(sides) == 3
    if not good or any(type(n) is not int or n < MULTIPLE or n % MULTIPLE for n in sides):
        raise ValueError(f"grid is not three multiples of {MULTIPLE}")
    x, y, z = sides
    return x, y, z


def _whole(value: Any, name: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is not a whole number of at least {least}")
    return value


def _filled(kind: type, facts: Any, where: str) -> Any:
    """Return an instance of a data class from JSON, with the defaults of the rest."""
    hints = typing.get_type_hints(kind)
    names = tuple(item.name for item in dataclasses.fields(kind))
    values = {}
    for key, value in _entries(facts, where, names).items():
        values[key] = _as(hints[key], value, f"{where}.{key}")
    return kind(**values)


def _as(hint: Any, value: Any, name: str) -> Any:
    """Return a JSON value as the type that a field has."""
    if dataclasses.is_dataclass(hint):
        return _filled(typing.cast(type, hint), value, name)
    if isinstance(hint, types.UnionType):
        hint = next(part for part in hint.__args__ if part is not type(None))
    if hint is float and type(value) in (int, float):
        if value != value or value in (float("inf"), -float("inf")):
            raise ValueError(f"{name} is not finite")
        return float(value)
    if hint in (int, bool, str):
        if type(value) is hint:
            return value
    elif typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    raise ValueError(f"{name} cannot be {json.dumps(value)}")
