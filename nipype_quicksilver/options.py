"""Every choice of a user, declared once: its name, default, allowed values and help.

The arguments of the command, the traits of the nodes, the parameters of the workflows and the
keywords of :func:`nipype_quicksilver.register` are made from these declarations. Importing this
module loads the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypedDict, cast

from nipype_quicksilver.declarations import Kind, Option, declared
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import MEASURES, SCHEDULES, Settings
from nipype_quicksilver.tools import (
    AFFINE_TOOLS,
    BRAIN_EXTRACTION_TOOLS,
    DEEPBET,
    SIMPLEITK,
    ExternalTool,
)


@dataclass(frozen=True)
class MethodTraits:
    """What a method of finding the momentum does.

    Attributes
    ----------
    help : str
        One phrase.
    predicts, corrects, optimizes : bool
        Whether a network predicts the momentum, whether the prediction is corrected, and whether
        the momentum is optimised.
    schedule : str
        Of the optimisation, a key of `lddmm.settings.SCHEDULES`; empty where there is none.
    """

    help: str
    predicts: bool = False
    corrects: bool = False
    optimizes: bool = False
    schedule: str = ""


#: Where the momentum comes from; the first one is the default.
METHODS: Mapping[str, MethodTraits] = MappingProxyType(
    {
        "correct": MethodTraits(
            "predicted by a network and corrected by a second one (LPC)",
            predicts=True,
            corrects=True,
        ),
        "predict": MethodTraits("predicted by a network (LP)", predicts=True),
        "refine": MethodTraits(
            "predicted, corrected, and optimised from there",
            predicts=True,
            corrects=True,
            optimizes=True,
            schedule="refine",
        ),
        "optimize": MethodTraits("optimised from zero (LO)", optimizes=True, schedule="full"),
    }
)


def method_that(*, predicts: bool = False, corrects: bool = False, optimizes: bool = False) -> str:
    """Return the name of the method that does these things and no others.

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


#: Interpolations of images, with the names that ANTs gives them.
INTERPOLATIONS = (
    *("Linear", "NearestNeighbor", "BSpline", "Gaussian", "CosineWindowedSinc"),
    *("HammingWindowedSinc", "LanczosWindowedSinc", "WelchWindowedSinc"),
)
#: Interpolations that keep the values and the type of label maps.
LABEL_INTERPOLATIONS = ("GenericLabel", "MultiLabel")
#: Interpolations of label maps.
KEEPING_LABELS = ("NearestNeighbor", *LABEL_INTERPOLATIONS)
#: All interpolations of files that are brought through transforms.
APPLY_INTERPOLATIONS = (*INTERPOLATIONS[:2], *LABEL_INTERPOLATIONS, *INTERPOLATIONS[2:])
#: Degrees of freedom of an affine.
DOF = {12: "affine", 6: "rigid", 7: "rigid and one scale", 9: "rigid and a scale along each axis"}
#: Suffixes of files of affines.
AFFINE_SUFFIXES = (".mat", ".txt", ".tfm", ".h5")
#: Formats of affines of other programs: in world coordinates (greedy, NiftyReg), FLIRT's, ITK's.
AFFINE_FORMATS = ("ras", "fsl", "itk")
#: How label maps of several atlases are fused; the first one is the default.
FUSIONS = {
    "weighted": "votes weighted by local similarity to the target",
    "staple": "STAPLE",
    "majority": "majority voting",
}
#: What networks are for.
ROLES = ("prediction", "correction")

#: Names that stand for no file and no tool.
AUTO, NONE = "auto", "none"
#: The template that nilearn brings.
MNI152 = "MNI152"


def _listed(tools: Mapping[str, ExternalTool]) -> str:
    return ", ".join(
        name if name == tool.title else f"{name}: {tool.title}" for name, tool in tools.items()
    )


_EXTRACTS = {"workflow": "takes brains; `init_preprocessing_wf` extracts and aligns them"}


class RegistrationOptions(TypedDict, total=False):
    """Options of a registration, by name."""

    brain_extraction: Annotated[
        str,
        Option(
            "how brains without mask are extracted: deepbet; an external tool, where it is "
            f"installed ({_listed(BRAIN_EXTRACTION_TOOLS)}); none: what is not zero is brain. "
            "Images without skull are left as they are",
            default=DEEPBET,
            choices=(DEEPBET, *BRAIN_EXTRACTION_TOOLS, NONE),
            without=_EXTRACTS,
        ),
    ]
    affine: Annotated[
        str | Path,
        Option(
            "how the images are aligned first: simpleitk; an external tool, where it is installed "
            f"({_listed(AFFINE_TOOLS)}); none: their headers align them; or the file of an ITK "
            "affine that maps fixed to moving points",
            default=SIMPLEITK,
            kind=Kind.NAME_OR_FILE,
            choices=(SIMPLEITK, *AFFINE_TOOLS, NONE),
            without=_EXTRACTS,
        ),
    ]
    template: Annotated[
        str | Path | None,
        Option(
            "template on whose grid of 1 mm the images are compared, after another affine to the "
            "fixed image: MNI152 or a file; none: in the world of the fixed image; auto: MNI152, "
            "but none where no affine is estimated or the brains do not fit it",
            default=AUTO,
            kind=Kind.NAME_OR_FILE,
            choices=(AUTO, MNI152, NONE),
        ),
    ]
    method: Annotated[
        str,
        Option(
            "where the momentum comes from: "
            + "; ".join(f"{name}: {traits.help}" for name, traits in METHODS.items()),
            default=next(iter(METHODS)),
            choices=tuple(METHODS),
        ),
    ]
    corrections: Annotated[
        int | None,
        Option(
            "number of corrections of the prediction, for correct and refine (default: 1)",
            kind=Kind.COUNT,
            method="corrects",
        ),
    ]
    prediction_network: Annotated[
        str | Path | None,
        Option(
            "checkpoint of the prediction network (default: that of the package)",
            kind=Kind.FILE,
            method="predicts",
        ),
    ]
    correction_network: Annotated[
        str | Path | None,
        Option(
            "checkpoint of the correction network (default: that of the package, or the prediction "
            "network again where another one than the package's is given)",
            kind=Kind.FILE,
            method="corrects",
        ),
    ]
    samples: Annotated[
        int | None,
        Option(
            "number of momenta drawn from a probabilistic network, at least 2: their mean is "
            "taken, and their spread gives the uncertainty (default: a deterministic prediction)",
            kind=Kind.COUNT,
            least=2,
            node="n_samples",
            method="predicts",
        ),
    ]
    uncertainty_components: Annotated[
        bool,
        Option(
            "with samples: also give the variances of the displacement along x, y and z",
            default=False,
            kind=Kind.FLAG,
            needs="samples",
            without={"cohort": "keeps the uncertainty itself"},
        ),
    ]
    similarity: Annotated[
        str | None,
        Option(
            "similarity measure of the optimisation; "
            + "; ".join(f"{name}: {text}" for name, text in MEASURES.items())
            + f" (default: {Settings().similarity})",
            choices=tuple(MEASURES),
            method="optimizes",
        ),
    ]
    iterations: Annotated[
        tuple[int, ...] | None,
        Option(
            "largest number of iterations of each stage of the optimisation, coarse to fine, of "
            "which the last only measures; 0 leaves a stage out (default: those of the schedule)",
            kind=Kind.COUNTS,
            least=0,
            method="optimizes",
        ),
    ]
    interpolation: Annotated[
        str,
        Option(
            "interpolation of the warped images; labels are warped as labels",
            default=INTERPOLATIONS[0],
            choices=INTERPOLATIONS,
        ),
    ]
    seed: Annotated[
        int,
        Option(
            "seed of random numbers, which only samples draw",
            default=0,
            kind=Kind.COUNT,
            least=0,
            node="random_seed",
        ),
    ]


#: The declarations of :class:`RegistrationOptions`, by name.
OPTIONS: Mapping[str, Option] = MappingProxyType(declared(RegistrationOptions))


def completed(options: RegistrationOptions) -> RegistrationOptions:
    """Return options with the defaults of those that are not given; refuse what does not fit.

    Parameters
    ----------
    options : RegistrationOptions
        What a user chose. None stands for the default, but for ``none`` where that is a choice.

    Returns
    -------
    RegistrationOptions
        All options.

    Raises
    ------
    TypeError
        If there is no option of a name.
    InputError
        If a value is not allowed, or the method has no use for it.

    Examples
    --------
    >>> completed({"method": "predict"})["interpolation"]
    'Linear'
    >>> completed({"method": "predict", "corrections": 2})
    Traceback (most recent call last):
    ...
    nipype_quicksilver.errors.InputError: method 'predict' has no use for corrections; leave ...
    """
    chosen: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"unknown option '{name}'; the options are {', '.join(OPTIONS)}")
        if value is not None:
            chosen[name] = value
        elif NONE in OPTIONS[name].choices:
            chosen[name] = NONE
    for name, option in OPTIONS.items():
        option.check(chosen[name])
        if option.needs and chosen[name] and chosen[option.needs] is None:
            raise InputError(f"{option.title}: needs {option.needs}; give them, or leave it out")
    check_method(chosen["method"], chosen)
    return cast(RegistrationOptions, chosen)


def check_method(name: str, given: Mapping[str, Any]) -> None:
    """Refuse a method that is unknown, or that has no use for an option.

    Parameters
    ----------
    name : str
        To be one of :data:`METHODS`.
    given : mapping
        Values of options by name; None where nothing is given.

    Raises
    ------
    InputError
        With the remedy.
    """
    OPTIONS["method"].check(name)
    for option in OPTIONS.values():
        if not option.method or given.get(option.name) is None:
            continue
        if not getattr(METHODS[name], option.method):
            raise InputError(
                f"method '{name}' has no use for {option.title}; leave it out, or take "
                f"{methods_that(option.method)}"
            )


def methods_that(trait: str) -> str:
    """Return the names of the methods with an attribute, as a sentence lists them.

    Examples
    --------
    >>> methods_that("predicts")
    'correct, predict or refine'
    """
    *names, last = (name for name, traits in METHODS.items() if getattr(traits, trait))
    return f"{', '.join(names)} or {last}"


_SCAN_FILES = {
    "mask": "brain mask of the {side} image (default: it is estimated from the image)",
    "lesion_mask": "part of the {side} image without counterpart, which is not compared",
    "labels": "label map of the {side} image; moving ones are warped, and compared with fixed ones",
}
#: Files of each of the two images by their Python names: ``fixed_mask``, ``moving_mask``, ...
SCAN_FILES: Mapping[str, Option] = MappingProxyType(
    {
        f"{side}_{what}": Option(
            text.format(side=side),
            kind=Kind.FILE,
            node=f"{side}_image_mask" if what == "mask" else "",
            needs="moving_labels" if (side, what) == ("fixed", "labels") else "",
            name=f"{side}_{what}",
        )
        for what, text in _SCAN_FILES.items()
        for side in ("fixed", "moving")
    }
)

#: What a step by itself can be asked for: to extract a brain, to estimate an affine, to predict.
BRAIN_EXTRACTION = replace(
    OPTIONS["brain_extraction"],
    choices=tuple(name for name in OPTIONS["brain_extraction"].choices if name != NONE),
    help="what extracts the brain: deepbet, or an external tool "
    f"({_listed(BRAIN_EXTRACTION_TOOLS)})",
)
AFFINE_ESTIMATION = replace(
    OPTIONS["affine"],
    kind=Kind.NAME,
    choices=tuple(name for name in OPTIONS["affine"].choices if name != NONE),
    help=f"what estimates the affine: simpleitk, or an external tool ({_listed(AFFINE_TOOLS)})",
)
CORRECTIONS = replace(
    OPTIONS["corrections"],
    default=1,
    least=0,
    help="number of corrections of the prediction; 0 is the prediction alone",
)
#: The schedule of an optimisation that is a step by itself.
SCHEDULE = Option(
    "stages of the optimisation; full: from coarse to fine; refine: a few fine iterations from a "
    "predicted momentum",
    default=next(iter(SCHEDULES)),
    choices=tuple(SCHEDULES),
    name="schedule",
)
