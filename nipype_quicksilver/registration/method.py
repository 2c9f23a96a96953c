"""The choice of a method: where the momentum comes from, with its networks and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nipype_quicksilver.options import check_method
from nipype_quicksilver.spatial.files import PathLike

if TYPE_CHECKING:
    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.networks.predictor import Predictor


@dataclass(frozen=True)
class Method:
    """Where the momentum comes from.

    Attributes
    ----------
    name : str
        ``optimize``: by optimisation (LO); ``predict``: by the prediction network (LP);
        ``correct``: with corrections of it (LPC); ``refine``: optimised from there.
    settings : Settings
        Of the optimisation.
    predictor : Predictor or None
        Networks; all methods but ``optimize`` need them.
    corrections : int
        Times that the prediction is corrected, for ``correct`` and ``refine``.
    samples : int
        Of the momentum, whose mean is taken; 0 for a deterministic prediction.
    """

    name: str
    settings: Settings
    predictor: Predictor | None = None
    corrections: int = 1
    samples: int = 0


def choose_method(
    name: str,
    *,
    settings: Settings | None = None,
    prediction_network: PathLike | None = None,
    correction_network: PathLike | None = None,
    corrections: int | None = None,
    samples: int | None = None,
) -> Method:
    """Return a method with its networks.

    Parameters
    ----------
    name : str
        One of :data:`nipype_quicksilver.options.METHODS`.
    settings : Settings, optional
        Of the optimisation; the full schedule unless given, for ``refine`` a short one.
    prediction_network, correction_network : path-like, optional
        Checkpoints; the shipped networks unless given.
    corrections : int, optional
        Times that the prediction is corrected, for ``correct`` and ``refine``; once unless given.
    samples : int, optional
        Of a probabilistic network, whose mean is taken; none unless given.

    Returns
    -------
    Method

    Raises
    ------
    InputError
        If there is no such method, it has no use for what is given, or a checkpoint cannot be
        used.
    """
    from nipype_quicksilver.lddmm.settings import SCHEDULES
    from nipype_quicksilver.networks.predictor import load_predictor

    check_method(
        name,
        corrections=corrections,
        samples=samples,
        prediction_network=prediction_network,
        correction_network=correction_network,
        settings=settings,
    )
    if name == "optimize":
        return Method(name, settings or SCHEDULES["full"])
    predictor = load_predictor(
        prediction_network,
        correction_network,
        probabilistic=samples is not None,
        correcting=name != "predict",
    )
    if name == "predict":
        corrections = 0
    return Method(
        name,
        settings or SCHEDULES["refine"],
        predictor,
        1 if corrections is None else corrections,
        samples or 0,
    )
