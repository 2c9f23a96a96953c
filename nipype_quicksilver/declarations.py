"""Declarations of options: name, kind, default, allowed values and help."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from numbers import Integral
from typing import Any, TypeVar, get_args, get_type_hints

from nipype_quicksilver.errors import InputError

# Devices of torch; the choices of an option show them to users.
_DEVICE = r"auto|cpu|cuda(:[0-9]+)?"

Function = TypeVar("Function", bound=Callable[..., Any])


class Kind(Enum):
    """Kinds of values."""

    NAME = "one of the names"
    FILE = "a file"
    NAME_OR_FILE = "one of the names, or a file"
    COUNT = "a whole number"
    COUNTS = "whole numbers"
    FLAG = "yes or no"
    DEVICE = "a device of torch"


@dataclass(frozen=True)
class Option:
    """Declaration of an option.

    Attributes
    ----------
    help : str
        Help text: one phrase, without a full stop at the end.
    default : object
        Default value; None if it depends on other options.
    kind : Kind
        Kind of the value.
    choices : tuple of str
        Allowed names.
    least : int
        Smallest allowed whole number.
    node : str
        Name of the trait of a node; empty if it is the same as in Python.
    method : str
        Attribute of `methods.MethodTraits` that is true for the methods that use the option; empty
        if all methods use it.
    needs : str
        Name of another option that this one requires; empty if there is none.
    without : mapping
        Interfaces that do not have the option (``workflow``, ``cohort``), and the reason.
    name : str
        Keyword in Python; :func:`declared` sets it.
    """

    help: str
    default: Any = None
    kind: Kind = Kind.NAME
    choices: tuple[str, ...] = ()
    least: int = 1
    node: str = ""
    method: str = ""
    needs: str = ""
    without: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    @property
    def flag(self) -> str:
        """The argument of the command, such as ``--brain-extraction``."""
        return "--" + self.name.replace("_", "-")

    @property
    def title(self) -> str:
        """The name in plain words, for messages."""
        return self.name.replace("_", " ")

    @property
    def trait(self) -> str:
        """Name of the trait of a node."""
        return self.node or self.name

    def check(self, value: Any) -> None:
        """Raise an error if a value is not allowed.

        Parameters
        ----------
        value : object
            A value of the option's kind; None is always allowed.

        Raises
        ------
        InputError
            If the value is of another kind, the name is unknown or a number is too small; the
            message says what is allowed.
        """
        if value is None:
            return
        if self.kind is Kind.NAME:
            self._check_name(value, value in self.choices)
        elif self.kind is Kind.DEVICE:
            self._check_name(value, re.fullmatch(_DEVICE, str(value)) is not None)
        elif self.kind is Kind.COUNT:
            self._check_number(value)
        elif self.kind is Kind.COUNTS:
            if not isinstance(value, (tuple, list)):
                raise InputError(f"{self.title} {value!r}: give a whole number for each stage")
            for number in value:
                self._check_number(number)
        elif self.kind is Kind.FLAG and not isinstance(value, bool):
            raise InputError(f"{self.title} {value!r}: give True or False")

    def _check_name(self, value: Any, allowed: bool) -> None:
        if not allowed:
            raise InputError(f"{self.title} '{value}' is unknown; give {', '.join(self.choices)}")

    def _check_number(self, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise InputError(f"{self.title} {value!r}: give a whole number")
        if int(value) < self.least:
            raise InputError(f"{self.title} {value}: give at least {self.least}")

    def is_file(self, value: object) -> bool:
        """Return whether a value is a file."""
        if value is None or self.kind not in (Kind.FILE, Kind.NAME_OR_FILE):
            return False
        return not self.is_name(value)

    def is_name(self, value: object) -> bool:
        """Return whether a value of the kind `NAME_OR_FILE` is one of the names."""
        return isinstance(value, str) and value in self.choices


def declared(options: type) -> dict[str, Option]:
    """Return the declarations in the annotations of a `TypedDict`.

    Parameters
    ----------
    options : type
        A `TypedDict` whose annotations are ``Annotated[type, Option(...)]``.

    Returns
    -------
    dict
        Declarations by name.
    """
    hints = get_type_hints(options, include_extras=True)
    return {name: replace(get_args(hint)[1], name=name) for name, hint in hints.items()}


def numpydoc(option: Option) -> str:
    """Return the entry of an option in a numpydoc section of parameters.

    Parameters
    ----------
    option : Option
        Its declaration.

    Returns
    -------
    str
        Indented lines: name, type and default; help.
    """
    names = f"{{{', '.join(map(repr, option.choices))}}}"
    types = {
        Kind.NAME: names,
        Kind.DEVICE: "str or torch.device",
        Kind.FILE: "path-like",
        Kind.NAME_OR_FILE: f"{names} or path-like",
        Kind.COUNT: "int",
        Kind.COUNTS: "tuple of int",
        Kind.FLAG: "bool",
    }
    default = "optional" if option.default is None else f"default: {option.default!r}"
    text = textwrap.fill(
        f"{option.help[0].upper()}{option.help[1:]}.",
        96,
        initial_indent=" " * 8,
        subsequent_indent=" " * 8,
    )
    return f"    {option.name} : {types[option.kind]}, {default}\n{text}"


def documents(options: Mapping[str, Option]) -> Callable[[Function], Function]:
    """Return a decorator that documents the options of a function that takes ``**options``.

    They replace ``{options}`` in its docstring, and ``**options`` in its signature.

    Parameters
    ----------
    options : mapping
        Declarations by name.

    Returns
    -------
    callable
        Decorator of a function, which it returns.
    """

    def decorate(function: Function) -> Function:
        if function.__doc__:
            entries = "\n".join(numpydoc(option) for option in options.values())
            function.__doc__ = function.__doc__.replace("{options}", entries.strip())
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for name, option in options.items()
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *parameters]
        )
        return function

    return decorate
