"""Read JSON strictly, and convert dataclasses to JSON objects and back."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike, check_readable

if TYPE_CHECKING:
    from cattrs import Converter

Record = TypeVar("Record")

# Bounds of JSON files: bytes, levels of nesting, and integers, which have 64 bits elsewhere, too.
# The longest records, of trainings on thousands of images, have megabytes and ten levels.
_LONGEST, _DEEPEST, _LARGEST_INTEGER = 1 << 26, 50, 2**63


def read_json(path: PathLike, what: str, remedy: str) -> Any:
    """Read a JSON file, as strictly as :func:`parse_json`.

    Parameters
    ----------
    path : path-like
        The file.
    what : str
        What it should be, for messages.
    remedy : str
        What to do if it is damaged, for messages.

    Returns
    -------
    Any
        Its content.

    Raises
    ------
    InputError
        If it cannot be read, or is not such JSON.
    """
    check_readable(path, what)
    try:
        with open(path, "rb") as file:
            return parse_json(file.read(_LONGEST + 1))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON (line {error.lineno}); {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON that can be used ({error}); {remedy}") from error


def parse_json(text: bytes | str) -> Any:
    """Return the content of JSON that every reader of it can handle.

    Parameters
    ----------
    text : bytes or str
        JSON; bytes in UTF-8.

    Returns
    -------
    Any
        Dictionaries, lists, strings, finite numbers, booleans, None.

    Raises
    ------
    ValueError
        If it is not JSON or not UTF-8, too long or nested too deeply, or contains numbers that are
        not finite, integers of more than 64 bits, or half of a character.

    Examples
    --------
    >>> parse_json('{"steps": 3}')
    {'steps': 3}
    >>> parse_json("[1e999]")
    Traceback (most recent call last):
    ...
    ValueError: the number 1e999 is not finite
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} bytes")
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        content = json.loads(
            decoded, parse_int=_integer, parse_float=_finite, parse_constant=_refuse
        )
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_values(content)
    return content


def _integer(text: str) -> int:
    # Python refuses to convert thousands of digits.
    value = int(text) if len(text) <= 20 else _LARGEST_INTEGER
    if abs(value) >= _LARGEST_INTEGER:
        raise ValueError(f"the integer {text[:20]} is too large")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is not finite")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"the number {text} is not finite")


def _check_values(content: Any) -> None:
    """Raise an error if containers are nested too deeply, or a string cannot be written."""
    level = [content]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                # Raises an error for half of a pair of surrogates. Other single ones are bytes of
                # names of files that are not UTF-8, as Python holds them.
                value.encode(errors="surrogateescape")
            elif isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def as_json(record: Any) -> Any:
    """Return a dataclass, or a container of dataclasses, as dictionaries and lists.

    Fields that are None, and None by default, are left out.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Brain:
    ...     how: str
    ...     volume_ml: float | None = None
    >>> as_json({"fixed": Brain("given"), "moving": Brain("deepbet", 1400.0)})
    {'fixed': {'how': 'given'}, 'moving': {'how': 'deepbet', 'volume_ml': 1400.0}}
    """
    if is_dataclass(record) and not isinstance(record, type):
        pairs = ((field, getattr(record, field.name)) for field in fields(record))
        return {
            field.name: as_json(value)
            for field, value in pairs
            if value is not None or field.default is not None
        }
    if isinstance(record, dict):
        return {key: as_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [as_json(value) for value in record]
    return record


def from_json(kind: type[Record], data: Any, name: str, remedy: str) -> Record:
    """Return a dataclass from a JSON object; unknown keys are ignored.

    Parameters
    ----------
    kind : type
        The dataclass.
    data : Any
        As :func:`parse_json` returns it.
    name, remedy : str
        Name of the file, and what to do if it is damaged, for messages.

    Returns
    -------
    object
        Of `kind`.

    Raises
    ------
    InputError
        If a field is missing or of the wrong type; the message names it.
    """
    from cattrs import BaseValidationError, transform_error

    if not isinstance(data, dict):
        raise InputError(f"{name}: is not a JSON object; {remedy}")
    try:
        return _converter().structure(data, kind)
    except (BaseValidationError, TypeError, ValueError) as error:
        texts = transform_error(error, path="", format_exception=_problem)
        problem, _, place = texts[0].partition(" @ ")
        where = f" in {place.lstrip('.')}" if place else ""
        raise InputError(f"{name}: {problem}{where}; {remedy}") from error


def _problem(error: BaseException, kind: type | None) -> str:
    """Describe an error; a value of the right type says itself what is wrong with it."""
    from cattrs.v import format_exception

    text = format_exception(error, kind)
    return f"{text} ({error})" if type(error) is ValueError and str(error) else text


@cache
def _converter() -> Converter:
    """Return a converter that does not convert between numbers, strings and booleans."""
    from cattrs import Converter

    converter = Converter()
    for kind, accepted in ((float, (int, float)), (int, (int,)), (str, (str,)), (bool, (bool,))):

        def structure(value: Any, _: type, kind: type = kind, accepted: Any = accepted) -> Any:
            if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
                raise TypeError(f"{value!r} is not a value of type {kind.__name__}")
            return value

        converter.register_structure_hook(kind, structure)
    return converter
