"""Methods that estimate the momentum, with their networks and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.methods import METHODS, MethodTraits, methods_that
from nipype_quicksilver.options import RegistrationOptions

if TYPE_CHECKING:
    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.networks.predictor import Predictor


@dataclass(frozen=True)
class Method:
    """A method that estimates the momentum.

    Attributes
    ----------
    name : str
        A key of `methods.METHODS`.
    settings : Settings
        Of the optimisation.
    predictor : Predictor or None
        The networks; None if the method does not predict.
    corrections : int
        Number of corrections of the prediction.
    samples : int
        Number of momenta whose mean is used; 0 for a deterministic prediction.
    """

    name: str
    settings: Settings
    predictor: Predictor | None = None
    corrections: int = 1
    samples: int = 0

    @property
    def traits(self) -> MethodTraits:
        """Steps of the method."""
        return METHODS[self.name]


def choose_method(options: RegistrationOptions, settings: Settings | None = None) -> Method:
    """Return a method with its networks.

    Parameters
    ----------
    options : RegistrationOptions
        As `options.completed` returns them.
    settings : Settings, optional
        Of the optimisation; default: the method's schedule, see :func:`choose_settings`.

    Returns
    -------
    Method
        With the networks loaded.

    Raises
    ------
    InputError
        If the method does not use `settings`, or a checkpoint cannot be used.
    """
    from nipype_quicksilver.networks.loading import load_predictor

    name, samples = options["method"], options["samples"]
    traits = METHODS[name]
    if settings is not None and not traits.optimizes:
        raise InputError(
            f"method '{name}' does not use settings; leave them out, or choose "
            f"{methods_that('optimizes')}"
        )
    chosen = choose_settings(
        traits.schedule, options["similarity"], options["iterations"], settings
    )
    if not traits.predicts:
        return Method(name, chosen)
    predictor = load_predictor(
        options["prediction_network"],
        options["correction_network"],
        probabilistic=samples is not None,
        with_correction=traits.corrects,
    )
    corrections = options["corrections"]
    if not traits.corrects:
        corrections = 0
    elif corrections is None:
        corrections = 1
    return Method(name, chosen, predictor, corrections, samples or 0)


def choose_settings(
    schedule: str,
    similarity: str | None = None,
    iterations: Sequence[int] | None = None,
    settings: Settings | None = None,
) -> Settings:
    """Return the settings of an optimisation, with changes of the user.

    Parameters
    ----------
    schedule : str
        A key of `lddmm.settings.SCHEDULES`; if it is empty, the default settings are used.
    similarity : str, optional
        Similarity measure.
    iterations : sequence of int, optional
        Maximum number of iterations of each stage; 0 skips a stage.
    settings : Settings, optional
        Settings to change instead of those of the schedule.

    Returns
    -------
    Settings
        With the changes.

    Raises
    ------
    InputError
        If `iterations` has another number of stages than the settings, or only zeros.
    """
    from nipype_quicksilver.lddmm.settings import SCHEDULES, Settings

    if settings is None:
        settings = SCHEDULES[schedule] if schedule else Settings()
    if similarity is not None:
        settings = replace(settings, similarity=similarity)
    if iterations is None:
        return settings
    default = "x".join(str(stage.iterations) for stage in settings.stages)
    if len(iterations) != len(settings.stages):
        number = len(settings.stages)
        raise InputError(
            f"iterations: the schedule has {number} stage{'' if number == 1 else 's'}; give "
            f"a number for each, such as {default}"
        )
    stages = tuple(
        replace(stage, iterations=number)
        for stage, number in zip(settings.stages, iterations, strict=True)
        if number > 0
    )
    if not stages:
        raise InputError(f"iterations: one stage must have iterations, such as {default}")
    return replace(settings, stages=stages)
