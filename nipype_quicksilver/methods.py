"""The methods that estimate the momentum, and what each of them does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class MethodTraits:
    """Steps of a method that estimates the momentum.

    Attributes
    ----------
    help : str
        Help text: one phrase.
    predicts, corrects, optimizes : bool
        Whether a network predicts the momentum, whether the prediction is corrected, and whether
        the momentum is optimised.
    schedule : str
        Schedule of the optimisation, a key of `lddmm.settings.SCHEDULES`; empty without an
        optimisation.
    """

    help: str
    predicts: bool = False
    corrects: bool = False
    optimizes: bool = False
    schedule: str = ""


#: Methods that estimate the momentum; the first one is the default.
METHODS: Mapping[str, MethodTraits] = MappingProxyType(
    {
        "correct": MethodTraits(
            "predicted by a network and corrected by a second one (LPC)",
            predicts=True,
            corrects=True,
        ),
        "predict": MethodTraits("predicted by a network (LP)", predicts=True),
        "refine": MethodTraits(
            "predicted, corrected, and then optimised",
            predicts=True,
            corrects=True,
            optimizes=True,
            schedule="refine",
        ),
        "optimize": MethodTraits("optimised from zero (LO)", optimizes=True, schedule="full"),
    }
)


def method_that(*, predicts: bool = False, corrects: bool = False, optimizes: bool = False) -> str:
    """Return the name of the first method with exactly these steps.

    Parameters
    ----------
    predicts, corrects, optimizes : bool
        Steps, see :class:`MethodTraits`.

    Returns
    -------
    str
        A key of :data:`METHODS`.

    Examples
    --------
    >>> method_that(predicts=True, corrects=True)
    'correct'
    """
    wanted = (predicts, corrects, optimizes)
    return next(
        name
        for name, traits in METHODS.items()
        if (traits.predicts, traits.corrects, traits.optimizes) == wanted
    )


def methods_that(trait: str) -> str:
    """Return the names of the methods with a step, as a phrase for messages.

    Parameters
    ----------
    trait : str
        Attribute of :class:`MethodTraits`.

    Returns
    -------
    str
        The names, separated by commas and "or".

    Examples
    --------
    >>> "refine" in methods_that("corrects"), "predict" in methods_that("corrects")
    (True, False)
    """
    *names, last = (name for name, traits in METHODS.items() if getattr(traits, trait))
    return f"{', '.join(names)} or {last}"
