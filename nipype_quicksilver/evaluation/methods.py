"""Methods to compare, by the names that the paper gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype_quicksilver.data import shipped_networks
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation import ants, greedy

#: What the methods of this package are to `quicksilver register`.
OWN: dict[str, dict[str, Any]] = {
    "LP": {"method": "predict"},
    "LPP": {"method": "correct"},
    "LPC": {"method": "correct"},
    "LPC2": {"method": "correct", "corrections": 2},
    "LPC3": {"method": "correct", "corrections": 3},
    "refine": {"method": "refine"},
    "LO": {"method": "optimize"},
}
#: Programs of other packages.
PEERS = ("greedy", "SyN")
METHODS = (*OWN, *PEERS)
#: What is compared unless methods are named.
DEFAULT = ("LP", "LPC", "LO")
#: The method to which the deformations of the others are compared.
REFERENCE = "LO"
#: The start of all methods, which is measured as well.
START = "affine"
#: How that affine is estimated; the first one is the default.
AFFINES = ("simpleitk", "none")


def check_methods(names: Sequence[str]) -> None:
    """Refuse methods that are unknown, named twice, or whose program is not installed.

    Parameters
    ----------
    names : sequence of str
        To be of :data:`METHODS`.

    Raises
    ------
    InputError
        With the remedy.

    Examples
    --------
    >>> check_methods(["LP", "LO"])
    >>> check_methods(["LP", "demons"])
    Traceback (most recent call last):
    nipype_quicksilver.errors.InputError: method 'demons' is unknown; give LP, LPP, LPC, ...
    """
    if not names:
        raise InputError(f"no method is named; give some of {', '.join(METHODS)}")
    for name in names:
        if name not in METHODS:
            raise InputError(f"method '{name}' is unknown; give {', '.join(METHODS)}")
        if list(names).count(name) > 1:
            raise InputError(f"method '{name}' is named twice; name it once")
    if "greedy" in names and greedy.greedy_command() is None:
        raise InputError(
            "method 'greedy': neither the program greedy nor the package picsl-greedy is "
            "installed; install one, or leave the method out"
        )
    if "SyN" in names and not (ants.has_program() or ants.has_package()):
        raise InputError(
            "method 'SyN': neither the program antsRegistration nor the package antspyx is "
            "installed; install one, or leave the method out"
        )


def settings_of(
    name: str,
    prediction_network: str | Path | None = None,
    correction_network: str | Path | None = None,
) -> dict[str, Any]:
    """Return what a method of this package is to the node `QuicksilverRegistration`.

    Parameters
    ----------
    name : str
        A key of :data:`OWN`.
    prediction_network, correction_network : path-like, optional
        Checkpoints of a user's own.

    Returns
    -------
    dict
        Inputs of the node.

    Raises
    ------
    InputError
        If a method that corrects by a second network has none.

    Examples
    --------
    >>> settings_of("LPC2")
    {'method': 'correct', 'corrections': 2}
    """
    settings = dict(OWN[name])
    if settings["method"] == "optimize":
        return settings
    if name == "LPP":  # the prediction network corrects itself where it is the only one
        return {**settings, "prediction_network": str(prediction_network or shipped_networks()[0])}
    if prediction_network is not None:
        settings["prediction_network"] = str(prediction_network)
    if name == "LP":
        return settings
    if prediction_network is not None and correction_network is None:
        raise InputError(
            f"method '{name}' corrects by a second network: give --correction-network with "
            "--prediction-network, or take LPP"
        )
    if correction_network is not None:
        settings["correction_network"] = str(correction_network)
    return settings
