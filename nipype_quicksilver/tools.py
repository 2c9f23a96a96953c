"""External tools: programs of other packages that can take a step of a registration.

The command, the nodes, the workflows, the doctor and the report read what is known of each here.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike

from nipype_quicksilver.errors import InputError


@dataclass(frozen=True)
class ExternalTool:
    """A program of another package.

    Attributes
    ----------
    title : str
        Its full name.
    install : str
        How to install it.
    citation : str
        Key in ``data/references.json``; empty where there is none.
    program : str
        Name of the program on the ``PATH``.
    package : str
        Module of a Python package that brings the same program; empty where there is none.
    stand_in : str
        Module of this package that runs `package` as if it were the program.
    dof : tuple of int
        Degrees of freedom of the affines that it estimates.
    """

    title: str
    install: str
    citation: str = ""
    program: str = ""
    package: str = ""
    stand_in: str = ""
    dof: tuple[int, ...] = ()

    def command(self) -> tuple[str, ...] | None:
        """Return the words that start the tool; None where it is not installed."""
        if (path := shutil.which(self.program)) is not None:
            return (path,)
        if self.package and find_spec(self.package) is not None:
            return (sys.executable, "-m", self.stand_in)
        return None


#: What comes with this package and its dependencies: a brain extraction and an affine registration.
DEEPBET, SIMPLEITK = "deepbet", "simpleitk"

_GREEDY = ExternalTool(
    title="greedy",
    install="install greedy (it comes with ITK-SNAP and Convert3D) or the package picsl-greedy",
    citation="greedy",
    program="greedy",
    package="picsl_greedy",
    stand_in="nipype_quicksilver.preprocessing.picsl_greedy",
    dof=(6, 7, 12),
)
_ANTS = ExternalTool(
    title="ANTs",
    install="install ANTs or the package antspyx",
    citation="ants",
    program="antsRegistration",
    package="ants",
    stand_in="nipype_quicksilver.preprocessing.antspyx",
    dof=(6, 7, 12),
)

#: Tools that extract brains, by the names that users type.
BRAIN_EXTRACTION_TOOLS = {
    "bet": ExternalTool("FSL BET", "install FSL", "bet", program="bet"),
    "synthstrip": ExternalTool(
        "SynthStrip", "install FreeSurfer 7.3 or newer", "synthstrip", program="mri_synthstrip"
    ),
    "afni": ExternalTool("AFNI 3dSkullStrip", "install AFNI", "afni", program="3dSkullStrip"),
}
#: The brain extraction that needs a template with skull, which only a workflow can be given.
ANTS_BRAIN_EXTRACTION = ExternalTool(
    "ANTs brain extraction", "install ANTs", "ants", program="antsBrainExtraction.sh"
)
#: Tools that estimate affines.
AFFINE_TOOLS = {
    "greedy": _GREEDY,
    "ants": _ANTS,
    "reg_aladin": ExternalTool(
        "NiftyReg reg_aladin", "install NiftyReg", "reg_aladin", program="reg_aladin", dof=(6, 12)
    ),
    "flirt": ExternalTool("FSL FLIRT", "install FSL", "flirt", program="flirt", dof=(6, 7, 9, 12)),
}
#: Tools whose registrations are compared with those of this package.
PEERS = {"greedy": _GREEDY, "SyN": _ANTS}


def check_installed(name: str, tools: Mapping[str, ExternalTool], default: str) -> None:
    """Refuse a tool that is not installed.

    Parameters
    ----------
    name : str
        What a user asked for; names that are not among `tools` pass.
    tools : mapping
        External tools by name.
    default : str
        What can be chosen instead.

    Raises
    ------
    InputError
        With the remedy.

    Examples
    --------
    >>> check_installed("simpleitk", AFFINE_TOOLS, SIMPLEITK)
    """
    tool = tools.get(name)
    if tool is None or tool.command() is not None:
        return
    missing = f"{tool.program} is not on the PATH"
    if tool.package:
        missing = f"neither {tool.program} is on the PATH nor the package {tool.package} installed"
    raise InputError(f"'{name}': {missing}; {tool.install}, or choose {default}")


def check_tools(brain_extraction: str, affine: str | PathLike[str]) -> None:
    """Raise an error if an external tool is not installed; other names and files are accepted.

    Raises
    ------
    InputError
        With the way to install it.
    """
    check_installed(brain_extraction, BRAIN_EXTRACTION_TOOLS, DEEPBET)
    check_installed(str(affine), AFFINE_TOOLS, SIMPLEITK)


def check_dof(name: str, dof: int) -> None:
    """Raise an error if a tool cannot estimate the given degrees of freedom.

    Raises
    ------
    InputError
        With the degrees of freedom that it supports.
    """
    tool = AFFINE_TOOLS.get(name)
    if tool is not None and dof not in tool.dof:
        known = ", ".join(map(str, tool.dof))
        raise InputError(f"'{name}' does not estimate {dof} degrees of freedom; give {known}")
