"""The paragraph on methods that a paper can take over, written from what was run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype_quicksilver.data import data_file
from nipype_quicksilver.preprocessing.templates import MNI152

# In a text, a reference is [its key]; several are [one, other].
_CITED = re.compile(r"\[([a-z0-9_]+(?:, [a-z0-9_]+)*)\]")

_EXTRACTIONS = {
    "deepbet": "deepbet [deepbet]",
    "bet": "FSL BET [bet]",
    "synthstrip": "SynthStrip [synthstrip]",
    "afni": "AFNI 3dSkullStrip [afni]",
}
_ALIGNERS = {
    "greedy": "greedy [greedy]",
    "ants": "ANTs [ants]",
    "reg_aladin": "NiftyReg reg_aladin [reg_aladin]",
    "flirt": "FSL FLIRT [flirt]",
}
_SIMILARITIES = {
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
        Authors, title, place and year.
    doi : str
        Its identifier.
    """

    text: str
    doi: str

    @property
    def url(self) -> str:
        """Where it is found."""
        return f"https://doi.org/{self.doi}"


@dataclass(frozen=True)
class Methods:
    """A paragraph with its references.

    Attributes
    ----------
    text : str
        Plain sentences, with citations in brackets.
    references : tuple of Reference
        Those that are cited, in alphabetical order.
    """

    text: str
    references: tuple[Reference, ...]


def methods(summary: dict[str, Any]) -> Methods:
    """Describe a registration for a paper.

    Parameters
    ----------
    summary : dict
        Of the registration.

    Returns
    -------
    paragraph : Methods
        Only what was run is told and cited.
    """
    sentences = [
        *_preparation(summary),
        *_deformation(summary),
        *_resampling(summary),
        *_measures(summary),
    ]
    text = " ".join(sentences)
    library = _library()
    keys = {key for match in _CITED.finditer(text) for key in match[1].split(", ")}
    cited = sorted((library[key]["text"], library[key]["doi"]) for key in keys)

    def named(match: re.Match[str]) -> str:
        return "(" + "; ".join(library[key]["cite"] for key in match[1].split(", ")) + ")"

    return Methods(_CITED.sub(named, text), tuple(Reference(*entry) for entry in cited))


def with_engines(
    summary: dict[str, Any], brain_extraction: str | None, affine: str | None
) -> dict[str, Any]:
    """Return a summary that names what found the masks and the affine that it calls given.

    Parameters
    ----------
    summary : dict
        Of a registration that was a step of a workflow.
    brain_extraction, affine : str or None
        Engines of the steps before it; None where there was none.
    """
    facts, inputs = dict(summary["preprocessing"]), dict(summary["inputs"])
    for name in ("fixed_brain", "moving_brain"):
        if brain_extraction and facts.get(name) == {"how": "given"}:
            facts[name] = {"how": brain_extraction}
    if affine and inputs.get("affine"):
        inputs["affine"], facts["affine"] = None, {"how": affine, "dof": 12}
    return {**summary, "preprocessing": facts, "inputs": inputs}


def _library() -> dict[str, dict[str, str]]:
    source = data_file("references.json")
    return dict(json.loads(source.read_text(encoding="utf-8")))


def _preparation(summary: dict[str, Any]) -> list[str]:
    """Tell how brains and affine were found."""
    told = []
    if MNI152 in (summary["inputs"]["fixed"], summary["inputs"]["moving"]):
        told.append("One of the two images was the ICBM 152 2009a template at 1 mm [mni152].")
    facts = summary["preprocessing"]
    ways = {facts.get(name, {}).get("how") for name in ("fixed_brain", "moving_brain")}
    engines = [_EXTRACTIONS.get(way, way) for way in sorted(ways & set(_EXTRACTIONS))]
    if engines:
        told.append(f"Brains were extracted with {' and '.join(engines)}.")
    if "given" in ways:
        told.append("Brain masks were given.")
    affine = facts.get("affine")
    itk = f"SimpleITK {summary['versions']['SimpleITK']} [simpleitk]"
    if summary["inputs"].get("affine"):
        told.append("The images were aligned by an affine transformation that was given.")
    elif affine is None or affine.get("how") == "headers":
        told.append("The headers of the images aligned them; no affine was estimated.")
    elif affine.get("how") in _ALIGNERS:
        told.append(f"The images were aligned by an affine found with {_ALIGNERS[affine['how']]}.")
    else:
        told.append(
            f"The images were aligned by a transformation with {affine['dof']} degrees of freedom "
            f"that maximised mutual information [mattes], estimated in both directions with {itk}."
        )
    template = facts.get("template", {})
    if template.get("used"):
        name = template["file"]
        which = f"{name} [mni152]" if name == MNI152 else Path(name).name
        way = (
            ", to which the fixed image was aligned in the same way" if "affine" in template else ""
        )
        told.append(f"They were compared on the grid of the template {which}{way}.")
    return told


def _deformation(summary: dict[str, Any]) -> list[str]:
    """Tell where the momentum comes from."""
    parameters = summary["parameters"]
    own = f"nipype-quicksilver {summary['versions']['nipype-quicksilver']}"
    torch = summary["versions"]["torch"]
    told = [
        f"The deformation was estimated with {own} (PyTorch {torch}), which follows Quicksilver "
        "[quicksilver]: it is the end of a geodesic in the sense of large deformation "
        "diffeomorphic metric mapping [lddmm], shot [shooting] in "
        f"{parameters['steps']} time steps from an initial momentum on a grid of "
        f"{summary['velocity_grid']['spacing'][0]:g} mm, and its inverse comes from the same "
        "computation."
    ]
    method, corrections = parameters["method"], parameters.get("corrections")
    if method != "optimize":
        first, *others = (Path(file).stem for file in parameters["networks"])
        told.append(f"The momentum was predicted by a neural network (checkpoint: {first}).")
        if corrections:
            which = f"A second network (checkpoint: {others[0]})" if others else "The same network"
            times = "once" if corrections == 1 else f"{corrections} times"
            told.append(f"{which} corrected it {times}.")
    if parameters.get("samples"):
        told.append(
            f"The mean of {parameters['samples']} samples of the network with dropout kept on "
            "[dropout] was taken; the spread of their displacements, and the displacement that "
            "would explain what is left between the images, make up the uncertainty."
        )
    if method in ("optimize", "refine"):
        what = _SIMILARITIES.get(parameters["similarity"], parameters["similarity"])
        iterations = sum(stage["iterations"] for stage in summary["stages"])
        start = "It was optimised further" if method == "refine" else "The momentum was optimised"
        told.append(
            f"{start} with Adam [adam] in {iterations} iterations, with {what} as similarity."
        )
    kernel = parameters["kernel"]
    gradient = f" - {kernel['beta']:g} grad div" if kernel["beta"] else ""
    told.append(
        f"The kernel was the inverse of (-{kernel['alpha']:g} Laplacian{gradient} + "
        f"{kernel['gamma']:g}) to the power of {kernel['power']:g}."
    )
    lesions = [
        name.split("_")[0]
        for name in ("fixed_lesion_mask", "moving_lesion_mask")
        if summary.get("masks", {}).get(name, {}).get("used")
    ]
    if lesions:
        told.append(f"Lesions of the {' and the '.join(lesions)} image were left out.")
    return told


def _resampling(summary: dict[str, Any]) -> list[str]:
    interpolation = summary["parameters"]["interpolation"]
    return [
        "The moving image was resampled once, through affine and deformation together "
        f"(interpolation: {interpolation})."
    ]


def _measures(summary: dict[str, Any]) -> list[str]:
    """Tell by what the result was judged."""
    told = [
        "A voxel counts as folded where any of the eight Jacobian determinants of one-sided "
        "differences is not positive."
    ]
    if "labels" in summary:
        told.append("Overlap of labels is given as Dice coefficient and target overlap [overlap].")
    return told
