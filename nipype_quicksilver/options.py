"""Names of the methods, and what each has use for: for every layer, without heavy imports."""

from typing import Any

from nipype_quicksilver.errors import InputError

#: Where the momentum comes from: a network's prediction, corrected by a second one (LPC); the
#: prediction alone (LP); the corrected prediction, optimised further; optimisation only (LO).
METHODS = ("correct", "predict", "refine", "optimize")
#: The one that is taken where none is named.
DEFAULT_METHOD = "correct"
#: What networks are for.
ROLES = ("prediction", "correction")
#: Of the optimisation: from nothing, and from a predicted momentum.
SCHEDULES = ("full", "refine")

# What only some methods have use for.
_OF_NETWORKS = ("corrections", "samples", "prediction_network", "correction_network")
_OF_CORRECTION = ("corrections", "correction_network")
_OF_OPTIMISATION = ("settings", "similarity", "iterations")
_USELESS: dict[str, dict[str, tuple[str, ...]]] = {
    "predict": {"correct or refine": _OF_CORRECTION, "refine or optimize": _OF_OPTIMISATION},
    "correct": {"refine or optimize": _OF_OPTIMISATION},
    "optimize": {"predict, correct or refine": _OF_NETWORKS},
}


def check_method(name: str, **given: Any) -> None:
    """Refuse a method that is unknown, or to which something is given that it cannot use.

    Parameters
    ----------
    name : str
        To be one of :data:`METHODS`.
    **given
        ``corrections``, ``samples``, ``prediction_network``, ``correction_network``, and of the
        optimisation ``settings``, ``similarity``, ``iterations``; None where nothing is given.

    Raises
    ------
    InputError
        With the remedy.

    Examples
    --------
    >>> check_method("predict", samples=50)
    >>> check_method("predict", corrections=2)
    Traceback (most recent call last):
    ...
    nipype_quicksilver.errors.InputError: method 'predict' has no use for corrections; leave ...
    """
    if name not in METHODS:
        raise InputError(f"method '{name}' is unknown; give {', '.join(METHODS)}")
    samples = given.get("samples")
    if samples is not None and samples < 2:
        raise InputError(f"samples: {samples} tell no spread; give at least 2")
    for others, useless in _USELESS.get(name, {}).items():
        for what in useless:
            if given.get(what) is not None:
                raise InputError(
                    f"method '{name}' has no use for {what.replace('_', ' ')}; leave it out, or "
                    f"take {others}"
                )
