"""What a registration is judged by: the numbers of a summary, with names, units and directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Quantity:
    """A number of every registration.

    Attributes
    ----------
    key : str
        Its name in tables and files.
    label : str
        Its name for people, with the unit.
    path : tuple of str
        Where it stands in the summary.
    form : str
        Format specification of the rounded number.
    worse : str
        On which side of the others it is suspicious: ``low``, ``high`` or ``both``.
    """

    key: str
    label: str
    path: tuple[str, ...]
    form: str = ".3f"
    worse: str = "both"

    def of(self, summary: dict[str, Any]) -> float | None:
        """Return the number of a summary, None where it has none."""
        value: Any = summary
        for name in self.path:
            if not isinstance(value, dict) or name not in value:
                return None
            value = value[name]
        return None if value is None else float(value)

    def written(self, value: float) -> str:
        """Return the number, rounded for people."""
        return f"{value:{self.form}}"


def _change(what: str, label: str, *path: str) -> tuple[Quantity, Quantity]:
    """Return a quantity before and after the deformation."""
    before, after = (
        Quantity(f"{what}_{when}", f"{label}, {when}", (path[0], when, *path[1:]), ".4f", "low")
        for when in ("before", "after")
    )
    return before, after


#: In the order of the tables.
QUANTITIES = (
    *_change("similarity", "Local correlation", "similarity"),
    *_change("dice", "Mean Dice of labels", "labels", "mean", "dice"),
    *_change("target_overlap", "Mean target overlap of labels", "labels", "mean", "target_overlap"),
    Quantity("folded", "Folded voxels", ("jacobian", "folded"), ".0f", "high"),
    Quantity("folded_percent", "Folded voxels, %", ("jacobian", "folded_percent"), ".4f", "high"),
    Quantity("minimum_jacobian", "Smallest Jacobian", ("jacobian", "minimum"), ".4f", "low"),
    Quantity("log_jacobian_mean", "Log-Jacobian, mean", ("jacobian", "log_jacobian", "mean")),
    Quantity(
        "log_jacobian_sd", "Log-Jacobian, SD", ("jacobian", "log_jacobian", "sd"), worse="high"
    ),
    Quantity("log_jacobian_p1", "Log-Jacobian, 1st percentile", ("jacobian", "log_jacobian", "p1")),
    Quantity(
        "log_jacobian_p99", "Log-Jacobian, 99th percentile", ("jacobian", "log_jacobian", "p99")
    ),
    Quantity(
        "inverse_consistency_mean",
        "Inverse consistency, mean, mm",
        ("inverse_consistency_mm", "mean"),
        worse="high",
    ),
    Quantity(
        "inverse_consistency_p99",
        "Inverse consistency, 99th percentile, mm",
        ("inverse_consistency_mm", "p99"),
        worse="high",
    ),
    Quantity("uncertainty_mean", "Uncertainty, mean, mm", ("uncertainty_mm", "mean"), worse="high"),
    Quantity(
        "uncertainty_p99",
        "Uncertainty, 99th percentile, mm",
        ("uncertainty_mm", "p99"),
        worse="high",
    ),
    Quantity("energy", "Energy of the geodesic", ("energy", "initial"), ".0f", "high"),
    Quantity("seconds", "Seconds", ("seconds", "total"), ".1f", "high"),
)
