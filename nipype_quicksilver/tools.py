"""External tools: programs of other packages that can carry out a step of a registration.

The command, the nodes, the workflows, the doctor and the report all use these tables.
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
        Full name.
    install : str
        How to install it.
    citation : str
        Key in ``data/references.json``; empty if there is none.
    program : str
        Name of the program on the ``PATH``.
    package : str
        Python module that provides the same tool; empty if there is none.
    stand_in : str
        Module of this package that runs `package` with the arguments of the program.
    dof : tuple of int
        Degrees of freedom of the affines that it estimates.
    mem_gb : float
        Memory that it takes for a head, GB.
    """

    title: str
    install: str
    citation: str = ""
    program: str = ""
    package: str = ""
    stand_in: str = ""
    dof: tuple[int, ...] = ()
    mem_gb: float = 2.0

    def command(self) -> tuple[str, ...] | None:
        """Return the command that starts the tool, as words; None if it is not installed."""
        if (path := shutil.which(self.program)) is not None:
            return (path,)
        if self.package and find_spec(self.package) is not None:
            return (sys.executable, "-m", self.stand_in)
        return None


#: Tools that are installed with this package: brain extraction and affine registration.
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
        "SynthStrip",
        "install FreeSurfer 7.3 or newer",
        "synthstrip",
        program="mri_synthstrip",
        mem_gb=8.0,
    ),
    "afni": ExternalTool("AFNI 3dSkullStrip", "install AFNI", "afni", program="3dSkullStrip"),
}
#: Brain extraction that needs a template with skull; only a workflow offers it.
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
#: Tools whose deformable registrations can be compared with those of this package.
PEERS = {"greedy": _GREEDY, "SyN": _ANTS}


def listed(tools: Mapping[str, ExternalTool]) -> str:
    """Return the names of tools, with their full names where these differ.

    Examples
    --------
    >>> listed({"bet": BRAIN_EXTRACTION_TOOLS["bet"], "greedy": AFFINE_TOOLS["greedy"]})
    'bet: FSL BET, greedy'
    """
    return ", ".join(
        name if name == tool.title else f"{name}: {tool.title}" for name, tool in tools.items()
    )


def check_installed(name: str, tools: Mapping[str, ExternalTool], default: str) -> None:
    """Raise an error if an external tool is not installed.

    Parameters
    ----------
    name : str
        Name of a tool; a name that is not in `tools` is accepted.
    tools : mapping
        External tools by name.
    default : str
        Name of the tool that the message suggests instead.

    Raises
    ------
    InputError
        If the tool is not installed; the message says how to install it.

    Examples
    --------
    >>> check_installed("simpleitk", AFFINE_TOOLS, SIMPLEITK)
    """
    tool = tools.get(name)
    if tool is None or tool.command() is not None:
        return
    missing = f"{tool.program} is not on the PATH"
    if tool.package:
        missing += f", and the package {tool.package} is not installed"
    raise InputError(f"'{name}': {missing}; {tool.install}, or choose {default}")


def check_tools(brain_extraction: str, affine: str | PathLike[str]) -> None:
    """Raise an error if an external tool of a registration is not installed.

    Parameters
    ----------
    brain_extraction, affine : str or path-like
        Values of the options; names of other tools and files are accepted.

    Raises
    ------
    InputError
        If a tool is not installed; the message says how to install it.
    """
    check_installed(brain_extraction, BRAIN_EXTRACTION_TOOLS, DEEPBET)
    check_installed(str(affine), AFFINE_TOOLS, SIMPLEITK)


def check_dof(name: str, dof: int) -> None:
    """Raise an error if a tool cannot estimate an affine of these degrees of freedom.

    Parameters
    ----------
    name : str
        Name of an affine registration; a name that is not in :data:`AFFINE_TOOLS` is accepted.
    dof : int
        Degrees of freedom.

    Raises
    ------
    InputError
        If it cannot; the message lists the degrees of freedom that it supports.
    """
    tool = AFFINE_TOOLS.get(name)
    if tool is not None and dof not in tool.dof:
        known = ", ".join(map(str, tool.dof))
        raise InputError(f"'{name}' does not estimate {dof} degrees of freedom; give {known}")
