"""Methods to compare, by the names that the paper gives them.

Importing this module loads the standard library only: the command takes its choices from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nipype_quicksilver import options
from nipype_quicksilver.data import shipped_networks
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.methods import METHODS as REGISTRATION_METHODS
from nipype_quicksilver.tools import PEERS, SIMPLEITK

if TYPE_CHECKING:
    from nipype_quicksilver.spatial.files import PathLike


@dataclass(frozen=True)
class OwnMethod:
    """A method of this package, as a registration with certain options.

    Attributes
    ----------
    method : str
        A key of `methods.METHODS`.
    corrections : int or None
        Number of corrections; None for the default.
    corrects_itself : bool
        Whether the prediction network is the correction network as well.
    """

    method: str
    corrections: int | None = None
    corrects_itself: bool = False

    @property
    def help(self) -> str:
        """What it is to `quicksilver register`, such as ``correct, 2 corrections``."""
        parts = [self.method]
        if self.corrections is not None:
            parts.append(f"{self.corrections} corrections")
        if self.corrects_itself:
            parts.append("by the prediction network")
        return ", ".join(parts)


#: The methods of this package.
OWN: Mapping[str, OwnMethod] = MappingProxyType(
    {
        "LP": OwnMethod("predict"),
        "LPP": OwnMethod("correct", corrects_itself=True),
        "LPC": OwnMethod("correct"),
        "LPC2": OwnMethod("correct", corrections=2),
        "LPC3": OwnMethod("correct", corrections=3),
        "refine": OwnMethod("refine"),
        "LO": OwnMethod("optimize"),
    }
)
#: All methods that can be compared; those of other packages are in `tools.PEERS`.
METHODS = (*OWN, *PEERS)
#: Methods that are compared by default.
DEFAULT = ("LP", "LPC", "LO")
#: The method with whose deformations those of the others are compared.
REFERENCE = "LO"
#: The affine that all methods start from, which is measured as well.
START = "affine"
#: How it is estimated; the first one is the default.
AFFINES = (SIMPLEITK, options.NONE)


def check_methods(names: Sequence[str]) -> None:
    """Refuse methods that are unknown, repeated, or not installed.

    Parameters
    ----------
    names : sequence of str
        Names of methods, see :data:`METHODS`.

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
        if name in PEERS and PEERS[name].command() is None:
            tool = PEERS[name]
            raise InputError(
                f"method '{name}': {tool.title} is not installed; {tool.install}, or leave the "
                "method out"
            )


def node_inputs(
    name: str,
    prediction_network: PathLike | None = None,
    correction_network: PathLike | None = None,
) -> dict[str, Any]:
    """Return the inputs of `QuicksilverRegistration` for a method of this package.

    Parameters
    ----------
    name : str
        A key of :data:`OWN`.
    prediction_network, correction_network : path-like, optional
        Checkpoints; default: those of the package.

    Returns
    -------
    dict
        Values of traits by name.

    Raises
    ------
    InputError
        If there is a prediction network, but no correction network for a method that needs one.

    Examples
    --------
    >>> node_inputs("LPC2")
    {'method': 'correct', 'corrections': 2}
    """
    own = OWN[name]
    traits = REGISTRATION_METHODS[own.method]
    inputs: dict[str, Any] = {"method": own.method}
    if own.corrections is not None:
        inputs["corrections"] = own.corrections
    if not traits.predicts:
        return inputs
    if own.corrects_itself:  # as a registration does with a single network
        return {**inputs, "prediction_network": str(prediction_network or shipped_networks()[0])}
    if prediction_network is not None:
        inputs["prediction_network"] = str(prediction_network)
    if not traits.corrects:
        return inputs
    if prediction_network is not None and correction_network is None:
        raise InputError(
            f"method '{name}' corrects by a second network: give --correction-network with "
            "--prediction-network, or take LPP"
        )
    if correction_network is not None:
        inputs["correction_network"] = str(correction_network)
    return inputs
