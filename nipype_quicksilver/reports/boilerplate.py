"""The paragraph on methods for a paper, written from the summary of a registration."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from nipype_quicksilver.data import data_file
from nipype_quicksilver.options import DEFORMABLE, MNI152, TRANSFORMS
from nipype_quicksilver.preprocessing.brain import BrainSummary
from nipype_quicksilver.preprocessing.matrices import AffineSummary
from nipype_quicksilver.registration.summary import RegistrationSummary, TemplateSummary
from nipype_quicksilver.tools import (
    AFFINE_TOOLS,
    ANTS_BRAIN_EXTRACTION,
    BRAIN_EXTRACTION_TOOLS,
    DEEPBET,
    ExternalTool,
)

# Citations in the sentences below: [key] or [key, key], keys of data/references.json.
_CITATION = re.compile(r"\[([a-z0-9_]+(?:, [a-z0-9_]+)*)\]")


def _cited(tool: ExternalTool) -> str:
    return f"{tool.title} [{tool.citation}]" if tool.citation else tool.title


_BRAIN_EXTRACTIONS = {
    DEEPBET: f"{DEEPBET} [deepbet]",
    "ants": _cited(ANTS_BRAIN_EXTRACTION),
    **{name: _cited(tool) for name, tool in BRAIN_EXTRACTION_TOOLS.items()},
}
_AFFINES = {name: _cited(tool) for name, tool in AFFINE_TOOLS.items()}
#: A phrase for each of `lddmm.settings.MEASURES`.
SIMILARITIES = {
    "lncc": "the squared local correlation [lncc]",
    "mind": "self-similarity descriptors [mind]",
    "ssd": "squared differences of intensities",
}


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes
    ----------
    text : str
        Authors, title, journal and year.
    doi : str
        Its digital object identifier.
    """

    text: str
    doi: str

    @property
    def url(self) -> str:
        """The address that the identifier resolves to."""
        return f"https://doi.org/{self.doi}"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph with its references.

    Attributes
    ----------
    text : str
        Plain sentences, with citations in parentheses.
    references : tuple of Reference
        Those that are cited, in alphabetical order.
    """

    text: str
    references: tuple[Reference, ...]


def methods(summary: RegistrationSummary) -> Paragraph:
    """Describe a registration for a paper.

    Parameters
    ----------
    summary : RegistrationSummary
        Of the registration.

    Returns
    -------
    Paragraph
        Describes and cites only what was run.
    """
    text = " ".join(
        [
            *_preparation(summary),
            *_deformation(summary),
            *_resampling(summary),
            *_measures(summary),
        ]
    )
    library: dict[str, dict[str, str]] = json.loads(
        data_file("references.json").read_text(encoding="utf-8")
    )
    keys = {key for match in _CITATION.finditer(text) for key in match[1].split(", ")}
    references = sorted((library[key]["text"], library[key]["doi"]) for key in keys)

    def citation(match: re.Match[str]) -> str:
        return "(" + "; ".join(library[key]["cite"] for key in match[1].split(", ")) + ")"

    return Paragraph(
        _CITATION.sub(citation, text), tuple(Reference(*entry) for entry in references)
    )


def with_tools(
    summary: RegistrationSummary, brain_extraction: str | None, affine: str | None
) -> RegistrationSummary:
    """Return a summary that names the tools whose results the registration was given.

    Parameters
    ----------
    summary : RegistrationSummary
        Of a registration that was a step of a workflow.
    brain_extraction, affine : str or None
        What extracted the brains and estimated the affine in the steps before; None where there
        were no such steps.

    Returns
    -------
    RegistrationSummary
        With these in the place of ``given`` masks and a given affine.
    """
    preprocessing, inputs = summary.preprocessing, summary.inputs
    if brain_extraction:
        preprocessing = replace(
            preprocessing,
            fixed_brain=_extracted(preprocessing.fixed_brain, brain_extraction),
            moving_brain=_extracted(preprocessing.moving_brain, brain_extraction),
        )
    if affine and inputs.get("affine"):
        dof = TRANSFORMS[summary.parameters.transform]
        inputs = {**inputs, "affine": None}
        preprocessing = replace(preprocessing, affine=AffineSummary(how=affine, dof=dof))
    return replace(summary, preprocessing=preprocessing, inputs=inputs)


def _extracted(brain: BrainSummary | None, tool: str) -> BrainSummary | None:
    return BrainSummary(tool) if brain is not None and brain.how == "given" else brain


def _preparation(summary: RegistrationSummary) -> list[str]:
    """Describe how brains were extracted and how the images were aligned."""
    sentences = []
    if MNI152 in (summary.inputs.get("fixed"), summary.inputs.get("moving")):
        sentences.append("One of the two images was the ICBM 152 2009a template at 1 mm [mni152].")
    preprocessing = summary.preprocessing
    brains = (preprocessing.fixed_brain, preprocessing.moving_brain)
    sources = {brain.how for brain in brains if brain is not None}
    tools = [_BRAIN_EXTRACTIONS[name] for name in sorted(sources) if name in _BRAIN_EXTRACTIONS]
    if tools:
        sentences.append(f"Brains were extracted with {' and '.join(tools)}.")
    if "given" in sources:
        sentences.append("Brain masks were given.")
    sentences.append(_alignment(summary))
    if preprocessing.template is not None and preprocessing.template.used:
        sentences.append(_template(preprocessing.template, summary))
    return sentences


def _alignment(summary: RegistrationSummary) -> str:
    affine = summary.preprocessing.affine
    if summary.inputs.get("affine"):
        return "The images were aligned by an affine transformation that was given."
    if affine is None or affine.how == "headers":
        return "The headers of the images aligned them; no affine was estimated."
    return f"The images were aligned by {_estimated(affine, summary)}."


def _estimated(affine: AffineSummary, summary: RegistrationSummary) -> str:
    """Describe how an affine was estimated."""
    if affine.how in _AFFINES:
        kind = "an affine" if affine.dof in (None, 12) else f"an affine ({affine.dof} parameters)"
        return f"{kind} estimated with {_AFFINES[affine.how]}"
    return (
        f"a transformation with {affine.dof} degrees of freedom that maximised mutual information "
        "[mattes], estimated in both directions with SimpleITK "
        f"{summary.versions['SimpleITK']} [simpleitk]"
    )


def _template(template: TemplateSummary, summary: RegistrationSummary) -> str:
    name = "MNI152 [mni152]" if template.file == MNI152 else Path(template.file).name
    aligned = ""
    if template.affine is not None:
        between = summary.preprocessing.affine
        tool, same = _AFFINES.get(template.affine.how or ""), False
        if between is not None and between.how != "headers":
            same = _AFFINES.get(between.how or "") == tool
        how = "in the same way" if same else f"by {_estimated(template.affine, summary)}"
        aligned = f", to which the fixed image was aligned {how}"
    return f"They were compared on the grid of the template {name}{aligned}."


def _enlargement(factor: float) -> list[str]:
    """Describe that brains were enlarged."""
    if factor == 1:
        return []
    return [
        f"Brains were enlarged {factor:g} times for it, so that a millimetre of "
        f"these grids is {1 / factor:.2g} mm of the images."
    ]


def _deformation(summary: RegistrationSummary) -> list[str]:
    """Describe how the momentum was estimated."""
    parameters = summary.parameters
    package = f"nipype-quicksilver {summary.versions['nipype-quicksilver']}"
    if parameters.transform != DEFORMABLE:
        return [f"No deformation was estimated; the map was computed with {package}."]
    return [
        f"The deformation was estimated with {package} (PyTorch {summary.versions['torch']}), "
        "which follows Quicksilver [quicksilver]: it is the end of a geodesic in the sense of "
        "large deformation diffeomorphic metric mapping [lddmm], shot [shooting] in "
        f"{parameters.steps} time steps from an initial momentum on a grid of "
        f"{summary.velocity_grid.spacing[0]:g} mm, and its inverse comes from the same "
        "computation.",
        *_enlargement(summary.magnification),
        *_prediction(summary),
        *_optimization(summary),
        _kernel(parameters.kernel),
        *_lesions(summary),
    ]


def _prediction(summary: RegistrationSummary) -> list[str]:
    parameters = summary.parameters
    if not parameters.networks:
        return []
    first, *others = (Path(file).stem for file in parameters.networks)
    sentences = [f"The momentum was predicted by a neural network (checkpoint: {first})."]
    if parameters.corrections:
        network = f"A second network (checkpoint: {others[0]})" if others else "The same network"
        times = "once" if parameters.corrections == 1 else f"{parameters.corrections} times"
        sentences.append(f"{network} corrected it {times}.")
    if parameters.samples:
        sentences.append(
            f"The mean of {parameters.samples} samples of the network with active dropout "
            "[dropout] was taken; the uncertainty combines the spread of their displacements with "
            "the displacement that would explain the remaining differences between the images."
        )
    return sentences


def _optimization(summary: RegistrationSummary) -> list[str]:
    parameters = summary.parameters
    if parameters.similarity is None:
        return []
    similarity = SIMILARITIES.get(parameters.similarity, parameters.similarity)
    iterations = sum(stage.iterations for stage in summary.stages)
    start = "It was optimised further" if parameters.networks else "The momentum was optimised"
    return [
        f"{start} with Adam [adam] in {iterations} iterations, with {similarity} as similarity."
    ]


def _kernel(kernel: dict[str, float]) -> str:
    gradient = f" - {kernel['beta']:g} grad div" if kernel["beta"] else ""
    return (
        f"The kernel was the inverse of (-{kernel['alpha']:g} Laplacian{gradient} + "
        f"{kernel['gamma']:g}) to the power of {kernel['power']:g}."
    )


def _lesions(summary: RegistrationSummary) -> list[str]:
    sides = [
        side
        for side in ("fixed", "moving")
        if (mask := summary.masks.get(f"{side}_lesion_mask")) is not None and mask.used
    ]
    return [f"Lesions of the {' and the '.join(sides)} image were excluded."] if sides else []


def _resampling(summary: RegistrationSummary) -> list[str]:
    through = "affine and deformation together"
    if summary.parameters.transform != DEFORMABLE:
        through = f"the {summary.parameters.transform} transformation"
    return [
        f"The moving image was resampled once, through {through} "
        f"(interpolation: {summary.parameters.interpolation})."
    ]


def _measures(summary: RegistrationSummary) -> list[str]:
    """Describe how the result was measured."""
    sentences = [
        "A voxel counts as folded where any of the eight Jacobian determinants of one-sided "
        "differences is not positive."
    ]
    if summary.labels is not None:
        sentences.append(
            "Overlap of labels is given as Dice coefficient and target overlap [overlap]."
        )
    return sentences
