"""Recipes: JSON files with everything that decides how a network is trained."""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from typing import Any

import torch

from nipype_quicksilver.data import SHIPPED
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.checkpoint import build_network
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.grids import MULTIPLE
from nipype_quicksilver.spatial.records import read_json
from nipype_quicksilver.training.families import FAMILIES, EndToEnd
from nipype_quicksilver.training.plan import FORMAT, VERSION, Plan
from nipype_quicksilver.training.synthesis import Ranges


def read_plan(path: PathLike) -> Plan:
    """Read a recipe.

    Parameters
    ----------
    path : path-like
        JSON file; entries that it does not have take their default values.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        If it cannot be read, or has an entry that is unknown or cannot be used.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; give a recipe, or one of {', '.join(SHIPPED)}")
    content = read_json(path, "recipe", "give a recipe (JSON)")
    try:
        return plan_from_json(content)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: this recipe cannot be used: {error}") from error


def plan_from_json(content: Any) -> Plan:
    """Return the plan of a recipe.

    Parameters
    ----------
    content : dict
        What :meth:`Plan.as_json` returns; entries may be left out.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        The text says which entry is wrong.
    """
    known = ("format", "version", "architecture", "grid", "training", "validation")
    recipe = _entries(content, "the recipe", known)
    if recipe.get("format") != FORMAT:
        raise ValueError(f'it needs the entry "format": "{FORMAT}"')
    if recipe.get("version") != VERSION:
        raise ValueError("it is of another version of the format; update nipype-quicksilver")
    network = _entries(recipe.get("architecture", {}), "architecture", ("name", "parameters"))
    name = network.get("name", EndToEnd.architecture)
    if name not in FAMILIES:
        raise ValueError(f"architecture.name is '{name}', not one of {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    parameters = _entries(network.get("parameters", {}), "architecture.parameters")
    with torch.device("meta"):  # a check only: a wrong recipe must not allocate gigabytes
        build_network(name, dict(parameters))
    validation = _entries(
        recipe.get("validation", {}), "validation", ("ranges", "pairs", "every", "patience")
    )
    numbers = {
        key: _whole(validation[key], f"validation.{key}", least)
        for key, least in (("pairs", 1), ("every", 1), ("patience", 0))
        if key in validation
    }
    plan = Plan(
        family=family,
        parameters=dict(parameters),
        grid=_grid(recipe.get("grid", [176, 208, 176])),
        training=_instance(family.recipe, recipe.get("training", {}), "training"),
        validation=_instance(Ranges, validation.get("ranges", {}), "validation.ranges"),
        **numbers,
    )
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out."""
    for name in plan.family.positive:
        if getattr(plan.training, name) <= 0:
            raise ValueError(f"training.{name} is not positive")
    if not 0 <= plan.training.averaging < 1:
        raise ValueError("training.averaging is not from 0 to less than 1")
    plan.family.check_plan(plan)


def _entries(content: Any, where: str, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return a JSON object, all of whose keys are known."""
    if not isinstance(content, dict):
        raise ValueError(f"{where} is not a JSON object")
    for key in content:
        if known is not None and key not in known:
            raise ValueError(f"{where} has no entry '{key[:80]}' (known: {', '.join(known)})")
    return content


def _grid(sides: Any) -> tuple[int, int, int]:
    three = isinstance(sides, list) and len(sides) == 3
    if not three or any(type(n) is not int or n < MULTIPLE or n % MULTIPLE for n in sides):
        raise ValueError(f"grid is not three multiples of {MULTIPLE}")
    x, y, z = sides
    return x, y, z


def _whole(value: Any, name: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is not a whole number of at least {least}")
    return value


def _instance(kind: type, content: Any, where: str) -> Any:
    """Return an instance of a dataclass from a JSON object; other fields have their defaults."""
    hints = typing.get_type_hints(kind)
    names = tuple(item.name for item in dataclasses.fields(kind))
    values = {}
    for key, value in _entries(content, where, names).items():
        values[key] = _converted(hints[key], value, f"{where}.{key}")
    return kind(**values)


def _converted(hint: Any, value: Any, name: str) -> Any:
    """Return a JSON value as the type of a field."""
    if dataclasses.is_dataclass(hint):
        return _instance(typing.cast(type, hint), value, name)
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
