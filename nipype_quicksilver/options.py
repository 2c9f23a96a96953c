"""Options of a registration, each declared once: name, default, allowed values and help.

The arguments of the command, the traits of the nodes, the parameters of the workflows and the
keywords of :func:`nipype_quicksilver.register` are made from these declarations. Importing this
module loads the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypedDict, cast

from nipype_quicksilver.declarations import Kind, Option, declared
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.settings import MEASURES, Settings
from nipype_quicksilver.methods import METHODS, methods_that
from nipype_quicksilver.tools import (
    AFFINE_TOOLS,
    BRAIN_EXTRACTION_TOOLS,
    DEEPBET,
    SIMPLEITK,
    listed,
)

#: Interpolations of images, named as in ANTs.
INTERPOLATIONS = (
    *("Linear", "NearestNeighbor", "BSpline", "Gaussian", "CosineWindowedSinc"),
    *("HammingWindowedSinc", "LanczosWindowedSinc", "WelchWindowedSinc"),
)
#: Interpolations that keep the values and the type of label maps.
LABEL_INTERPOLATIONS = ("GenericLabel", "MultiLabel")
#: Interpolations that create no new labels.
LABEL_PRESERVING = ("NearestNeighbor", *LABEL_INTERPOLATIONS)
#: All interpolations, in the order of the command `apply` and the node `ApplyTransforms`.
APPLY_INTERPOLATIONS = (*INTERPOLATIONS[:2], *LABEL_INTERPOLATIONS, *INTERPOLATIONS[2:])
#: Degrees of freedom of an affine.
DOF = {12: "affine", 6: "rigid", 7: "rigid and one scale", 9: "rigid and a scale along each axis"}
#: Suffixes of files of affines.
AFFINE_SUFFIXES = (".mat", ".txt", ".tfm", ".h5")
#: Formats of affines: world coordinates (greedy, NiftyReg), FSL FLIRT, ITK.
AFFINE_FORMATS = ("ras", "fsl", "itk")
#: How label maps of several atlases are fused; the first one is the default.
FUSIONS = {
    "weighted": "votes weighted by local similarity to the target",
    "staple": "STAPLE",
    "majority": "majority voting",
}
#: Roles of networks.
ROLES = ("prediction", "correction")

#: Transforms of a registration, and the degrees of freedom of their affine.
TRANSFORMS = {"rigid": 6, "similarity": 7, "affine": 12, "deformable": 12}
DEFORMABLE = "deformable"

#: Special values of options whose other values are files or tools.
AUTO, NONE = "auto", "none"
#: Name of the template that is installed with nilearn.
MNI152 = "MNI152"

_EXTRACTS = {"workflow": "takes brains; `init_preprocessing_wf` extracts and aligns them"}


class RegistrationOptions(TypedDict, total=False):
    """Options of a registration, by name."""

    transform: Annotated[
        str,
        Option(
            "transform between the images; rigid: rotation and translation, for images of one "
            "person; similarity: also one scale; affine; deformable: an affine and a deformation",
            default=DEFORMABLE,
            choices=tuple(TRANSFORMS),
        ),
    ]
    brain_extraction: Annotated[
        str,
        Option(
            "tool that extracts the brains of images without a mask: deepbet; an external tool, if "
            f"it is installed ({listed(BRAIN_EXTRACTION_TOOLS)}); none: all nonzero voxels are "
            "brain. Images without skull are not changed",
            default=DEEPBET,
            choices=(DEEPBET, *BRAIN_EXTRACTION_TOOLS, NONE),
            without=_EXTRACTS,
        ),
    ]
    affine: Annotated[
        str | Path,
        Option(
            "affine alignment before the registration: simpleitk; an external tool, if it is "
            f"installed ({listed(AFFINE_TOOLS)}); none: the headers align the images; or the file "
            "of an ITK affine that maps fixed to moving points",
            default=SIMPLEITK,
            kind=Kind.NAME_OR_FILE,
            choices=(SIMPLEITK, *AFFINE_TOOLS, NONE),
            without=_EXTRACTS,
        ),
    ]
    template: Annotated[
        str | Path | None,
        Option(
            "template on whose 1 mm grid the images are compared, after its affine alignment to "
            "the fixed image: MNI152 or a file; none: a grid in the world space of the fixed "
            "image; auto: MNI152, or none if no affine is estimated or the brains do not fit it",
            default=AUTO,
            kind=Kind.NAME_OR_FILE,
            choices=(AUTO, MNI152, NONE),
        ),
    ]
    method: Annotated[
        str,
        Option(
            "how the momentum is estimated: "
            + "; ".join(f"{name}: {traits.help}" for name, traits in METHODS.items()),
            default=next(iter(METHODS)),
            choices=tuple(METHODS),
        ),
    ]
    corrections: Annotated[
        int | None,
        Option(
            f"number of corrections of the prediction, for {methods_that('corrects')} (default: 1)",
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
            "checkpoint of the correction network (default: that of the package; with another "
            "prediction network than that of the package, the prediction network again)",
            kind=Kind.FILE,
            method="corrects",
        ),
    ]
    samples: Annotated[
        int | None,
        Option(
            "number of momenta to draw from a probabilistic network, at least 2: their mean is "
            "used, and the uncertainty of the displacement is estimated (default: a deterministic "
            "prediction)",
            kind=Kind.COUNT,
            least=2,
            node="n_samples",
            method="predicts",
        ),
    ]
    uncertainty_components: Annotated[
        bool,
        Option(
            "with samples: also write the variances of the displacement along x, y and z",
            default=False,
            kind=Kind.FLAG,
            needs="samples",
            without={"cohort": "keeps the uncertainty only"},
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
            "maximum number of iterations of each stage of the optimisation, coarse to fine; the "
            "last iteration only measures; 0 skips a stage (default: those of the schedule)",
            kind=Kind.COUNTS,
            least=0,
            method="optimizes",
        ),
    ]
    interpolation: Annotated[
        str,
        Option(
            "interpolation of the warped images; labels have an interpolation of their own",
            default=INTERPOLATIONS[0],
            choices=INTERPOLATIONS,
        ),
    ]
    seed: Annotated[
        int,
        Option(
            "seed of the random numbers; only samples use them",
            default=0,
            kind=Kind.COUNT,
            least=0,
            node="random_seed",
        ),
    ]


#: The declarations of :class:`RegistrationOptions`, by name.
OPTIONS: Mapping[str, Option] = MappingProxyType(declared(RegistrationOptions))


def completed(
    options: RegistrationOptions, declarations: Mapping[str, Option] = OPTIONS
) -> RegistrationOptions:
    """Check options, and complete them with defaults.

    Parameters
    ----------
    options : RegistrationOptions
        Options of the user. None stands for ``none`` if that is a choice of the option, and for
        the default otherwise.
    declarations : mapping
        Declarations of an interface by name, :data:`WORKFLOW_OPTIONS` or :data:`COHORT_OPTIONS`;
        they replace those of :data:`OPTIONS`.

    Returns
    -------
    RegistrationOptions
        All options.

    Raises
    ------
    TypeError
        If an option is unknown.
    InputError
        If a value is not allowed, or the method does not use the option.

    Examples
    --------
    >>> completed({"method": "predict"})["interpolation"]
    'Linear'
    >>> completed({"method": "predict", "corrections": 2})
    Traceback (most recent call last):
    ...
    nipype_quicksilver.errors.InputError: method 'predict' does not use corrections; leave ...
    """
    known = {**OPTIONS, **declarations}
    chosen: dict[str, Any] = {name: option.default for name, option in known.items()}
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"unknown option '{name}'; the options are {', '.join(known)}")
        if value is not None:
            chosen[name] = value
        elif NONE in known[name].choices:
            chosen[name] = NONE
    for name, option in known.items():
        option.check(chosen[name])
        if option.needs and chosen[name] and chosen[option.needs] is None:
            raise InputError(f"{option.title}: needs {option.needs}; give both, or leave both out")
    check_method(chosen["method"], chosen)
    _check_transform(chosen)
    return cast(RegistrationOptions, chosen)


def _check_transform(chosen: Mapping[str, Any]) -> None:
    """Raise an error if a transform does not use an option, or its affine is not estimated."""
    name = chosen["transform"]
    if name == DEFORMABLE:
        return
    for option in OPTIONS.values():
        deforms = option.method or option.name in ("method", "template")
        if deforms and chosen[option.name] not in (None, NONE, option.default):
            raise InputError(
                f"transform '{name}' has no deformation and does not use {option.title}; leave it "
                f"out, or choose {DEFORMABLE}"
            )
    tool, dof = AFFINE_TOOLS.get(str(chosen["affine"])), TRANSFORMS[name]
    if tool is not None and dof not in tool.dof:
        possible = [t for t, number in TRANSFORMS.items() if number in tool.dof]
        raise InputError(
            f"affine '{chosen['affine']}' does not estimate a {name} transform; choose "
            f"{SIMPLEITK}, or {', '.join(possible)}"
        )


def described(options: RegistrationOptions) -> dict[str, Any]:
    """Return the options that are not None, as JSON can hold them.

    Examples
    --------
    >>> described({"prediction_network": Path("a.safetensors"), "iterations": None})
    {'prediction_network': 'a.safetensors'}
    """
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }


def check_method(name: str, options: Mapping[str, Any]) -> None:
    """Raise an error if a method is unknown, or does not use one of the options.

    Parameters
    ----------
    name : str
        Name of the method.
    options : mapping
        Values of options by name; None for options that are not set.

    Raises
    ------
    InputError
        If the name is not in :data:`METHODS`, or an option is set that the method does not use.
    """
    OPTIONS["method"].check(name)
    for option in OPTIONS.values():
        if not option.method or options.get(option.name) is None:
            continue
        if not getattr(METHODS[name], option.method):
            raise InputError(
                f"method '{name}' does not use {option.title}; leave it out, or choose "
                f"{methods_that(option.method)}"
            )


#: Options of `init_quicksilver_wf`, by name: its images are brains, in a space of their own.
WORKFLOW_OPTIONS: Mapping[str, Option] = MappingProxyType(
    {name: option for name, option in OPTIONS.items() if "workflow" not in option.without}
    | {
        "template": replace(
            OPTIONS["template"],
            default=NONE,
            choices=(MNI152, NONE),
            help="template without skull on whose 1 mm grid the images are compared: MNI152, a "
            "file, or a name in TemplateFlow; none: a grid in the world space of the fixed image",
        )
    }
)
#: Options that the images of a cohort share, by name: no file is the affine of all of them.
COHORT_OPTIONS: Mapping[str, Option] = MappingProxyType(
    {name: option for name, option in OPTIONS.items() if "cohort" not in option.without}
    | {
        "affine": replace(
            OPTIONS["affine"],
            kind=Kind.NAME,
            help="affine alignment before the registration: simpleitk; an external tool, if it is "
            f"installed ({listed(AFFINE_TOOLS)}); none: the headers align the images",
        )
    }
)

#: The two images of a registration.
SIDES = ("fixed", "moving")
#: Help of a mask, with its side and its default in braces.
MASK = "brain mask of the {side} image (default: {default})"
_LESION = "region of the {side} image without counterpart; excluded from the comparison"
#: Files of each of the two images by their Python names: ``fixed_mask``, ``moving_mask``, ...
SCAN_FILES: Mapping[str, Option] = MappingProxyType(
    {
        option.name: option
        for option in (
            *(
                Option(
                    MASK.format(side=side, default="it is estimated from the image"),
                    kind=Kind.FILE,
                    node=f"{side}_image_mask",
                    name=f"{side}_mask",
                )
                for side in SIDES
            ),
            *(
                Option(_LESION.format(side=side), kind=Kind.FILE, name=f"{side}_lesion_mask")
                for side in SIDES
            ),
            Option(
                "label map of the fixed image; the warped moving labels are compared with it",
                kind=Kind.FILE,
                needs="moving_labels",
                name="fixed_labels",
            ),
            Option(
                "label map of the moving image; it is warped", kind=Kind.FILE, name="moving_labels"
            ),
        )
    }
)
