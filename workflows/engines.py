"""Other engines by name: what they need to be there, checked before anything runs."""

import shutil
from collections.abc import Sequence

from nipype_quicksilver.errors import InputError

#: Programs of each engine, and how to get them.
BRAIN_EXTRACTIONS = {
    "deepbet": ((), ""),
    "bet": (("bet",), "install FSL"),
    "synthstrip": (("mri_synthstrip",), "install FreeSurfer 7.3 or newer"),
    "ants": (("antsBrainExtraction.sh",), "install ANTs"),
    "afni": (("3dSkullStrip", "3dcalc"), "install AFNI"),
}
AFFINES = {
    "simpleitk": ((), ""),
    "greedy": (("greedy",), "install greedy (it comes with ITK-SNAP and Convert3D)"),
    "ants": (("antsRegistration",), "install ANTs"),
    "reg_aladin": (("reg_aladin",), "install NiftyReg"),
    "flirt": (("flirt",), "install FSL"),
}


def check_engine(name: str, engines: dict[str, tuple[Sequence[str], str]]) -> None:
    """Refuse an engine that is unknown or not installed.

    Parameters
    ----------
    name : str
        Name of the engine.
    engines : dict
        Programs of each engine, and how to get them.

    Raises
    ------
    InputError
        If there is no such engine, or one of its programs is not on the PATH.

    Examples
    --------
    >>> check_engine("simpleitk", AFFINES)
    >>> check_engine("elastix", AFFINES)
    Traceback (most recent call last):
    nipype_quicksilver.errors.InputError: engine 'elastix' is unknown; give simpleitk, greedy, ...
    """
    if name not in engines:
        raise InputError(f"engine '{name}' is unknown; give {', '.join(engines)}")
    programs, remedy = engines[name]
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise InputError(
            f"engine '{name}': {' and '.join(missing)} is not on the PATH; {remedy}, or choose "
            f"{next(iter(engines))}"
        )
