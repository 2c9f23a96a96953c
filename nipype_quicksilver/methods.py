"""Names of the methods, and what each has use for: for every layer, without heavy imports."""

from typing import Any

from nipype_quicksilver.errors import InputError

#: Where the momentum comes from: a network's prediction, corrected by a second one (LPC); the
#: prediction alone (LP); the corrected prediction, optimised further; optimisation only (LO).
METHODS = ("correct", "predict", "refine", "optimize")
#: The one that is taken where none is named.
DEFAULT_METHOD = "optimize"
#: Of the optimisation: from nothing, and from a predicted momentum.
SCHEDULES = ("full", "refine")


def check_method(name: str, **given: Any) -> None:
    """Refuse a method that is unknown, or to which something is given that it cannot use.

    Parameters
    ----------
    name : str
        To be one of :data:`METHODS`.
    **given
        ``corrections``, ``samples``, ``prediction_network``, ``correction_network``; None where
        nothing is given.

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
    useless = {"predict": ("corrections", "correction_network"), "optimize": tuple(given)}
    for what in useless.get(name, ()):
        if given.get(what) is not None:
            others = "correct or refine" if name == "predict" else "predict, correct or refine"
            raise InputError(
                f"method '{name}' has no use for {what.replace('_', ' ')}; leave it out, or take "
                f"{others}"
            )
