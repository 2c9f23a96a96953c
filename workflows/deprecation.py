"""Parameters that were renamed; the earlier names work for one more version."""

from __future__ import annotations

import warnings
from typing import TypeVar

Value = TypeVar("Value")


def renamed(earlier: str, value: Value | None, name: str, default: Value) -> Value:
    """Return the value of a parameter that may be given by its earlier name.

    Parameters
    ----------
    earlier : str
        The earlier name.
    value : object or None
        Value of the parameter of the earlier name; None if that is not used.
    name : str
        The new name.
    default : object
        Value of the parameter of the new name.

    Returns
    -------
    object
        `value` if it is not None, and `default` otherwise.

    Warns
    -----
    DeprecationWarning
        If the earlier name is used.

    Examples
    --------
    >>> renamed("engine", None, "affine", "simpleitk")
    'simpleitk'
    """
    if value is None:
        return default
    warnings.warn(
        f"the parameter '{earlier}' is called '{name}' since version 0.2; the earlier name will be "
        "removed in version 0.3",
        DeprecationWarning,
        stacklevel=3,
    )
    return value
