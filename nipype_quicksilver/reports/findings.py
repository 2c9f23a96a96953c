"""What a reader should look at twice: warnings of the run, and numbers that look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype_quicksilver.spatial.files import sha256_of

#: Affines found in both directions are a few millimetres apart at the rim of the brain.
DIRECTIONS_APART = 10.0  # mm
#: Beyond these, a voxel has shrunk or grown twentyfold.
LOG_JACOBIAN = 3.0
INVERSE_CONSISTENCY = 0.5  # mm, mean over the brain


def findings(summary: dict[str, Any]) -> list[str]:
    """Return what is to be looked at, a sentence each.

    Parameters
    ----------
    summary : dict
        Of a registration.

    Returns
    -------
    list of str
        The warnings of the run first; empty where nothing is suspicious.
    """
    told = list(summary.get("warnings", []))
    jacobian, similarity = summary["jacobian"], summary["similarity"]
    if jacobian["folded"]:
        told.append(
            f"{jacobian['folded']} voxels of the brain are folded "
            f"({jacobian['folded_percent']:.4f}%): there the map has no inverse."
        )
    if similarity["after"] <= similarity["before"]:
        told.append(
            "The images are no more alike after the deformation than before it (local correlation "
            f"{similarity['before']:.3f} before, {similarity['after']:.3f} after)."
        )
    labels = summary.get("labels", {})
    if labels and labels["after"]["mean"]["dice"] <= labels["before"]["mean"]["dice"]:
        told.append("The labels overlap no more after the deformation than before it.")
    logs = jacobian["log_jacobian"]
    if logs["p1"] is not None and (logs["p1"] < -LOG_JACOBIAN or logs["p99"] > LOG_JACOBIAN):
        told.append(
            "Volumes change more than twentyfold in at least 1% of the brain: check that both "
            "images show the same anatomy."
        )
    if summary["inverse_consistency_mm"]["mean"] > INVERSE_CONSISTENCY:
        told.append(
            "The way to the moving image and back ends "
            f"{summary['inverse_consistency_mm']['mean']:.2f} mm from where it started, on average."
        )
    apart = summary["preprocessing"].get("affine", {}).get("directions_apart_mm", 0.0)
    if apart > DIRECTIONS_APART:
        told.append(
            f"The affines found in both directions are {apart:.1f} mm apart: it is not sure which "
            "one is right."
        )
    return told


def changed_files(summary: dict[str, Any]) -> list[str]:
    """Return which inputs are no longer what was registered, a sentence each.

    Parameters
    ----------
    summary : dict
        Of a registration; inputs that are no longer there are passed over.

    Returns
    -------
    list of str
        All files are read for it.
    """
    told = []
    for name, file in summary["inputs"].items():
        known = summary.get("sha256", {}).get(name)
        if known and file and Path(file).is_file() and sha256_of(file) != known:
            told.append(f"{file} has changed since the registration; the pictures may mislead.")
    return told
