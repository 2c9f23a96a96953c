"""Names of parameters that changed; the earlier ones work for one more version."""

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
        What was given by it.
    name : str
        The name.
    default : object
        What was given by the name.

    Returns
    -------
    object
        `value`, unless it is None.

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
        f"the parameter '{earlier}' is called '{name}' since version 0.2; it goes with version 0.3",
        DeprecationWarning,
        stacklevel=3,
    )
    return value
