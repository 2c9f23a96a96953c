"""Checks of a result: one list, whose findings the command, nodes, workflows and reports show."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nipype_quicksilver.options import DEFORMABLE
from nipype_quicksilver.preprocessing.matrices import describe, plausibility_warnings
from nipype_quicksilver.registration.summary import Overlaps, RegistrationSummary, Similarity
from nipype_quicksilver.spatial.jacobians import JacobianSummary
from nipype_quicksilver.spatial.measures import Spread

# Right results that were measured, of brains of adults and animals and of many contrasts, have a
# local correlation of .59 to .97 after the deformation; those of infants, whose tissues are about
# equally bright, .47 to .55, and the one of a phantom .19.
MIN_SIMILARITY = 0.57
# The same without a deformation: .22 to .5 in right results, .05 for the phantom.
MIN_SIMILARITY_OF_AFFINE = 0.15
# Local correlation of images that a deformation need not make more similar.
ALREADY_SIMILAR = 0.95
# Change of the volume, beyond the affine, of 1% of the brain: e^1.6 is a factor of 5. Right results
# have 0.5 to 1.4, the phantom 1.8.
MAX_LOG_JACOBIAN = 1.6
# Largest usual mean inverse consistency over the brain, mm; small brains are enlarged first.
MAX_INCONSISTENCY = 0.5
# Heads of one person have scales near to 1, and are deformed by less, in radii of the brain: a T2w
# image by .012 and a FLAIR image by .027; those of other people by .03 to .04.
MAX_SCALE_OF_ONE_PERSON = 0.025
MAX_DEFORMATION_OF_ONE_PERSON = 0.028


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a result; None for what was not measured.

    Attributes
    ----------
    transform : str
        A key of `options.TRANSFORMS`.
    similarity : Similarity or None
        Of the images, without and with the deformation.
    jacobian : JacobianSummary or None
        Of the whole map, in the fixed brain.
    matrix : ndarray or None
        4x4, the affine from fixed to moving points.
    affine_was_given : bool
        Whether the affine was read from a file, so that no one has judged it yet.
    aligned_by_headers : bool
        Whether there is no affine, so that it says nothing about the sizes of the brains.
    inverse_consistency, deformation : Spread or None
        In the fixed brain, mm.
    radius : float or None
        Of a ball of the volume of the fixed brain, mm.
    magnification : float
        Factor by which small brains were enlarged to be compared.
    labels : Overlaps or None
        Overlap without and with the deformation.
    """

    transform: str = DEFORMABLE
    similarity: Similarity | None = None
    jacobian: JacobianSummary | None = None
    matrix: np.ndarray | None = None
    affine_was_given: bool = False
    aligned_by_headers: bool = False
    inverse_consistency: Spread | None = None
    deformation: Spread | None = None
    radius: float | None = None
    magnification: float = 1.0
    labels: Overlaps | None = None

    @classmethod
    def of(cls, summary: RegistrationSummary) -> Evidence:
        """Return what a summary says of its registration."""
        mask, spacing = summary.masks.get("fixed_mask"), summary.working_grid.spacing
        given, affine = bool(summary.inputs.get("affine")), summary.preprocessing.affine
        estimated = affine is not None and affine.how != "headers"
        # In the frame of a template or enlarged, a brain has another size than in its image.
        size = abs(np.linalg.det(summary.to_fixed()[:3, :3]))
        return cls(
            transform=summary.parameters.transform,
            similarity=summary.similarity,
            jacobian=summary.jacobian,
            matrix=np.array(summary.affine_matrix, dtype=float),
            affine_was_given=given,
            aligned_by_headers=not (given or estimated),
            inverse_consistency=summary.inverse_consistency_mm,
            deformation=summary.deformation_mm,
            radius=None if mask is None else radius_of(mask.voxels * math.prod(spacing) * size),
            magnification=summary.magnification,
            labels=summary.labels,
        )


def radius_of(volume: float) -> float:
    """Return the radius of a ball of a volume."""
    return math.cbrt(3 * volume / (4 * math.pi))


@dataclass(frozen=True)
class Check:
    """A check of a result.

    Attributes
    ----------
    name : str
        What is checked, for readers.
    needs : tuple of str
        Attributes of :class:`Evidence` without which it cannot be made.
    find : callable
        Returns one sentence for each finding.
    deformable : bool
        Whether it is about the deformation, and does not apply to other transforms.
    """

    name: str
    needs: tuple[str, ...]
    find: Callable[[Evidence], list[str]]
    deformable: bool = False

    def applies(self, evidence: Evidence) -> bool:
        """Return whether the check is meant for a result of this kind."""
        if self.needs == ("labels",) and evidence.labels is None:
            return False  # without labels there is nothing to check
        return evidence.transform == DEFORMABLE or not self.deformable

    def is_possible(self, evidence: Evidence) -> bool:
        """Return whether everything that the check needs was measured."""
        return all(getattr(evidence, name) is not None for name in self.needs)


def _similarity(evidence: Evidence) -> list[str]:
    similarity = evidence.similarity
    assert similarity is not None
    deforms = evidence.transform == DEFORMABLE
    least = MIN_SIMILARITY if deforms else MIN_SIMILARITY_OF_AFFINE
    if similarity.after >= least:
        return []
    return [
        f"the images remain less similar than usual (local correlation {similarity.after:.2f}; "
        f"right results have {least:.2f} or more, those of infants less): check that both show the "
        "same part of a brain, and inspect the result"
    ]


def _gain(evidence: Evidence) -> list[str]:
    similarity = evidence.similarity
    assert similarity is not None
    if similarity.after > similarity.before or similarity.before > ALREADY_SIMILAR:
        return []
    return [
        "the similarity of the images did not increase with the deformation (local correlation "
        f"{similarity.before:.3f} before, {similarity.after:.3f} after); inspect the result"
    ]


def _overlap(evidence: Evidence) -> list[str]:
    assert evidence.labels is not None
    before, after = evidence.labels.before.mean.dice, evidence.labels.after.mean.dice
    if before is None or after is None or after > before:
        return []
    return ["the overlap of the labels did not increase with the deformation; inspect the result"]


def _affine(evidence: Evidence) -> list[str]:
    assert evidence.matrix is not None
    # An affine that was estimated has been judged where it was estimated.
    if not evidence.affine_was_given:
        return []
    return plausibility_warnings(describe(evidence.matrix), evidence.matrix)


def _folds(evidence: Evidence) -> list[str]:
    jacobian = evidence.jacobian
    assert jacobian is not None
    if not jacobian.folded:
        return []
    return [
        f"{jacobian.folded} voxels of the brain are folded ({jacobian.folded_percent:.4f}%): the "
        "map is not invertible there"
    ]


def _volumes(evidence: Evidence) -> list[str]:
    assert evidence.jacobian is not None and evidence.matrix is not None
    low, high = (evidence.jacobian.log_jacobian.get(name) for name in ("p1", "p99"))
    if low is None or high is None:
        return []
    affine = math.log(abs(np.linalg.det(evidence.matrix[:3, :3])))
    largest = max(affine - low, high - affine)
    if largest <= MAX_LOG_JACOBIAN:
        return []
    factor = math.exp(min(largest, math.log(1000)))  # a damaged summary may have any number
    return [
        f"the deformation changes volumes by more than a factor of {factor:.0f} in 1% "
        "of the brain; check that both images show the same anatomy"
    ]


def _inverse(evidence: Evidence) -> list[str]:
    assert evidence.inverse_consistency is not None
    mean = evidence.inverse_consistency.mean
    if mean * evidence.magnification <= MAX_INCONSISTENCY:
        return []
    return [
        f"forward and inverse map are inconsistent: points return {mean:.2f} mm from where they "
        "started, on average"
    ]


def _one_person(evidence: Evidence) -> list[str]:
    assert evidence.deformation is not None and evidence.matrix is not None
    assert evidence.radius is not None
    scales = np.linalg.svd(evidence.matrix[:3, :3], compute_uv=False)
    moved = evidence.deformation.mean
    # Animals of one species differ less: for them the limits say nothing.
    if evidence.magnification != 1:
        return []
    if evidence.aligned_by_headers or np.abs(scales - 1).max() > MAX_SCALE_OF_ONE_PERSON:
        return []
    # Nothing moves where an image is registered to itself.
    if not 0 < moved < MAX_DEFORMATION_OF_ONE_PERSON * evidence.radius:
        return []
    return [
        f"the images may be of one person: their sizes are equal, and the deformation is only "
        f"{moved:.1f} mm on average; if they are of one visit, choose transform rigid, as a "
        "deformation adds errors"
    ]


#: All checks of a result, in the order of their findings. Brain masks, and affines that are
#: estimated, are checked where they are made, by `brain_checks.mask_warnings` and
#: `matrices.plausibility_warnings`; their warnings come first.
CHECKS = (
    Check("affine", ("matrix",), _affine),
    Check("similarity", ("similarity",), _similarity),
    Check("gain in similarity", ("similarity",), _gain, deformable=True),
    Check("gain in the overlap of labels", ("labels",), _overlap, deformable=True),
    Check("folds", ("jacobian",), _folds),
    Check("changes of volume", ("jacobian", "matrix"), _volumes, deformable=True),
    Check("inverse consistency", ("inverse_consistency",), _inverse),
    Check(
        "need of a deformation", ("deformation", "matrix", "radius"), _one_person, deformable=True
    ),
)


def judge(evidence: Evidence) -> list[str]:
    """Return what a user should know of a result, one sentence each.

    Parameters
    ----------
    evidence : Evidence
        What is known of the result.

    Returns
    -------
    list of str
        Findings of all checks that apply and can be made; empty for a result without a fault.
    """
    return [
        text
        for check in CHECKS
        if check.applies(evidence) and check.is_possible(evidence)
        for text in check.find(evidence)
    ]


def impossible_checks(evidence: Evidence) -> list[str]:
    """Return the names of the checks that apply to a result and cannot be made."""
    return [
        check.name
        for check in CHECKS
        if check.applies(evidence) and not check.is_possible(evidence)
    ]


def warn_of(summary: RegistrationSummary, name: str) -> None:
    """Warn of all findings of a registration.

    Parameters
    ----------
    summary : RegistrationSummary
        Of the registration.
    name : str
        Of the moving image, with which the warnings begin.

    Warns
    -----
    UserWarning
        Once for each finding.
    """
    for text in judge(Evidence.of(summary)):
        warnings.warn(f"{name}: {text}", UserWarning, stacklevel=3)
