"""Quantities by which registrations are compared, with labels, units and suspicious sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.measures import Overlap, Spread


@dataclass(frozen=True)
class Quantity:
    """A number of every registration.

    Attributes
    ----------
    key : str
        Name in tables and files.
    label : str
        Label for readers, with the unit.
    read : callable
        Returns the number of a summary; None where it has none.
    form : str
        Format specification of the rounded number.
    worse : str
        Side of the distribution that is suspicious: ``low``, ``high`` or ``both``.
    """

    key: str
    label: str
    read: Callable[[RegistrationSummary], float | None]
    form: str = ".3f"
    worse: str = "both"

    def of(self, summary: RegistrationSummary) -> float | None:
        """Return the number of a summary; None where it has none."""
        value = self.read(summary)
        return None if value is None else float(value)

    def written(self, value: float) -> str:
        """Return the number rounded for readers."""
        return f"{value:{self.form}}"


def _similarity(label: str) -> tuple[Quantity, Quantity]:
    """Return the similarity of the images before and after the deformation."""
    return (
        Quantity(
            "similarity_before", f"{label}, before", lambda s: s.similarity.before, ".4f", "low"
        ),
        Quantity("similarity_after", f"{label}, after", lambda s: s.similarity.after, ".4f", "low"),
    )


def _overlap(
    name: str, label: str, value: Callable[[Overlap], float | None]
) -> tuple[Quantity, Quantity]:
    """Return a mean overlap of the labels before and after the deformation."""

    def before(summary: RegistrationSummary) -> float | None:
        return None if summary.labels is None else value(summary.labels.before.mean)

    def after(summary: RegistrationSummary) -> float | None:
        return None if summary.labels is None else value(summary.labels.after.mean)

    return (
        Quantity(f"{name}_before", f"{label}, before", before, ".4f", "low"),
        Quantity(f"{name}_after", f"{label}, after", after, ".4f", "low"),
    )


def _log_jacobian(name: str, label: str, worse: str = "both") -> Quantity:
    return Quantity(
        f"log_jacobian_{name}",
        f"Log-Jacobian, {label}",
        lambda summary: summary.jacobian.log_jacobian.get(name),
        worse=worse,
    )


def _spread(
    name: str, label: str, spread: Callable[[RegistrationSummary], Spread | None]
) -> tuple[Quantity, Quantity]:
    """Return mean and 99th percentile of a distance, mm."""

    def mean(summary: RegistrationSummary) -> float | None:
        values = spread(summary)
        return None if values is None else values.mean

    def p99(summary: RegistrationSummary) -> float | None:
        values = spread(summary)
        return None if values is None else values.p99

    return (
        Quantity(f"{name}_mean", f"{label}, mean, mm", mean, worse="high"),
        Quantity(f"{name}_p99", f"{label}, 99th percentile, mm", p99, worse="high"),
    )


#: In the order of the tables.
QUANTITIES = (
    *_similarity("Local correlation"),
    *_overlap("dice", "Mean Dice of labels", lambda mean: mean.dice),
    *_overlap("target_overlap", "Mean target overlap of labels", lambda mean: mean.target_overlap),
    Quantity("folded", "Folded voxels", lambda s: s.jacobian.folded, ".0f", "high"),
    Quantity(
        "folded_percent", "Folded voxels, %", lambda s: s.jacobian.folded_percent, ".4f", "high"
    ),
    Quantity("minimum_jacobian", "Smallest Jacobian", lambda s: s.jacobian.minimum, ".4f", "low"),
    _log_jacobian("mean", "mean"),
    _log_jacobian("sd", "SD", "high"),
    _log_jacobian("p1", "1st percentile"),
    _log_jacobian("p99", "99th percentile"),
    *_spread("inverse_consistency", "Inverse consistency", lambda s: s.inverse_consistency_mm),
    *_spread("uncertainty", "Uncertainty", lambda s: s.uncertainty_mm),
    Quantity("energy", "Energy of the geodesic", lambda s: s.energy.initial, ".0f", "high"),
    Quantity("seconds", "Seconds", lambda s: s.seconds.get("total"), ".1f", "high"),
)
