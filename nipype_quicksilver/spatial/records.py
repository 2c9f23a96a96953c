"""Convert dataclasses to JSON objects and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from nipype_quicksilver.errors import InputError

if TYPE_CHECKING:
    from cattrs import Converter

Record = TypeVar("Record")


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
        As `json.loads` returns it.
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
        problem, _, place = transform_error(error, path="")[0].partition(" @ ")
        where = f" in {place.lstrip('.')}" if place else ""
        raise InputError(f"{name}: {problem}{where}; {remedy}") from error


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
