"""The report of one registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype_quicksilver.reports import pictures
from nipype_quicksilver.reports.boilerplate import methods, with_engines
from nipype_quicksilver.reports.findings import changed_files, findings
from nipype_quicksilver.reports.folder import read_summary
from nipype_quicksilver.reports.page import check_page, write_page
from nipype_quicksilver.reports.pictures import BLUE, ORANGE, Picture
from nipype_quicksilver.reports.quantities import QUANTITIES
from nipype_quicksilver.reports.scene import Scene, read_scene
from nipype_quicksilver.spatial.files import PathLike

#: Name of a report in the folder of its registration.
REPORT = "report.html"

_LABEL_COLUMNS = ("dice", "target_overlap", "jaccard")


def write_registration_report(
    registration: PathLike,
    path: PathLike | None = None,
    *,
    fixed: PathLike | None = None,
    moving: PathLike | None = None,
    brain_extraction: str | None = None,
    affine: str | None = None,
) -> Path:
    """Write the report of a registration: one page that holds its pictures in itself.

    Parameters
    ----------
    registration : path-like
        Output folder of `quicksilver register`.
    path : path-like, optional
        The page (``.html``); ``report.html`` in the folder unless given.
    fixed, moving : path-like, optional
        The images that were registered, where they no longer lie where the summary says.
    brain_extraction, affine : str, optional
        Engines that found the masks and the affine which the registration was given.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If the folder is not that of a registration, a file of it is damaged, or the page cannot
        be written; nothing is written then.
    """
    folder = Path(registration)
    summary = read_summary(folder)
    page = check_page(folder / REPORT if path is None else path)
    scene = read_scene(folder, summary, fixed=fixed, moving=moving)
    texts = _texts(summary)
    texts["methods"] = methods(with_engines(summary, brain_extraction, affine))
    return write_page(page, "registration.html", **texts, **_tables(summary), **_pictures(scene))


def _texts(summary: dict[str, Any]) -> dict[str, Any]:
    inputs = summary["inputs"]
    similarity = summary["similarity"]
    tiles = [_tile("Local correlation", similarity["before"], similarity["after"])]
    if "labels" in summary:
        before, after = (summary["labels"][when]["mean"]["dice"] for when in ("before", "after"))
        tiles.append(_tile("Mean Dice of labels", before, after))
    folded = summary["jacobian"]["folded"]
    tiles.append({"label": "Folded voxels", "value": str(folded)})
    tiles.append({"label": "Seconds", "value": f"{summary['seconds']['total']:.1f}"})
    names = [Path(inputs[name]).name for name in ("moving", "fixed")]
    return {
        "title": "Registration of {} to {}".format(*names),
        "fixed": inputs["fixed"],
        "moving": inputs["moving"],
        "tiles": tiles,
        "findings": [*findings(summary), *changed_files(summary)],
        "provenance": _provenance(summary),
    }


def _tile(label: str, before: float, after: float) -> dict[str, str]:
    return {"label": label, "value": f"{before:.3f} \N{RIGHTWARDS ARROW} {after:.3f}"}


def _provenance(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table that tells what was run on what."""
    rows: list[tuple[str, list[str]]] = [
        ("Command", [summary["command"]] if "command" in summary else []),
        ("Started", [summary["started"]] if "started" in summary else []),
        ("Versions", [f"{name} {version}" for name, version in summary["versions"].items()]),
    ]
    hashes = summary.get("sha256", {})
    for name, file in summary["inputs"].items():
        if file is not None:
            rows.append((name.replace("_", " ").capitalize(), _file(file, hashes.get(name))))
    if "template" in hashes:
        file = summary["preprocessing"]["template"]["file"]
        rows.append(("Template", _file(file, hashes["template"])))
    parameters = dict(summary["parameters"])
    networks = parameters.pop("networks", [])
    known = hashes.get("networks", [None] * len(networks))
    for file, digest in zip(networks, known, strict=False):
        rows.append(("Network", _file(file, digest)))
    rows.append(("Parameters", [f"{name}: {value}" for name, value in parameters.items()]))
    rows.append(("Preprocessing", _preprocessing(summary["preprocessing"])))
    for name in ("working_grid", "velocity_grid"):
        if name in summary:
            grid = summary[name]
            shape = " x ".join(map(str, grid["shape"]))
            line = f"{shape} voxels of {grid['spacing'][0]:g} mm"
            rows.append((name.replace("_", " ").capitalize(), [line]))
    return [{"label": label, "lines": lines} for label, lines in rows if lines]


def _preprocessing(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return how brains and affine were found, a line each."""
    return [
        f"{name.replace('_', ' ')}: "
        + ", ".join(f"{key} {value}" for key, value in facts.items() if key != "matrix")
        for name, facts in found.items()
    ]


def _file(path: str, digest: str | None) -> list[str]:
    return [path] if digest is None else [path, f"SHA-256 {digest}"]


def _tables(summary: dict[str, Any]) -> dict[str, Any]:
    values = [(quantity, quantity.of(summary)) for quantity in QUANTITIES]
    figures = [
        {"key": q.key, "label": q.label, "value": value, "written": q.written(value)}
        for q, value in values
        if value is not None
    ]
    wall, cpu = summary["seconds"], summary.get("cpu_seconds", {})
    seconds = [{"part": part, "wall": value, "cpu": cpu.get(part)} for part, value in wall.items()]
    overlap = summary.get("labels")
    return {
        "figures": figures,
        "seconds": seconds,
        "label_heads": ["Label", *_heads()],
        "labels": _label_rows(overlap) if overlap else [],
    }


def _heads() -> list[str]:
    return [
        f"{column.replace('_', ' ').capitalize()}, {when}"
        for column in _LABEL_COLUMNS
        for when in ("before", "after")
    ]


def _label_rows(overlap: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the cells of each label, in the order of the labels."""
    before, after = overlap["before"]["labels"], overlap["after"]["labels"]
    rows = []
    for label in sorted({*before, *after}, key=int):
        cells: list[dict[str, Any]] = [{"value": label, "written": label}]
        for column in _LABEL_COLUMNS:
            for side in (before, after):
                value = side.get(label, {}).get(column)
                written = "-" if value is None else f"{value:.4f}"
                cells.append({"value": "" if value is None else value, "written": written})
        rows.append(cells)
    return rows


def _pictures(scene: Scene) -> dict[str, Any]:
    cuts = "axial, coronal and sagittal cuts"
    fixed = pictures.image(scene, scene.fixed, f"Fixed image, {cuts}")
    mm = scene.grid.spacing[0] * scene.grid.shape[0] * len(pictures.CUTS["axial"]) / pictures.WIDTH
    spread = None
    if scene.uncertainty is not None:
        spread = pictures.uncertainty(scene, f"Uncertainty over the fixed image, {cuts}")
    return {
        "image": fixed,
        "before": pictures.image(
            scene, scene.before, f"Moving image through the affine only, {cuts}"
        ),
        "after": pictures.image(scene, scene.after, f"Moving image, warped, {cuts}"),
        "borders": _borders(scene, cuts),
        "grid": pictures.deformed_grid(scene, f"Deformed grid over the warped image, {cuts}"),
        "grid_mm": pictures.grid_step(scene),
        "jacobian": pictures.log_jacobian(scene, f"Log-Jacobian over the fixed image, {cuts}"),
        "uncertainty": spread,
        "mm_per_pixel": round(mm, 6),
    }


def _borders(scene: Scene, cuts: str) -> dict[str, Picture | bool] | None:
    """Return the labels' borders before and after, None without labels."""
    if scene.fixed_labels is None:
        return None
    fixed = (scene.fixed_labels, ORANGE)
    warped = [] if scene.warped_labels is None else [(scene.warped_labels, BLUE)]
    what = "Borders of the fixed image's labels on the"
    return {
        "before": pictures.contours(
            scene, scene.before, [fixed], f"{what} moving image through the affine only, {cuts}"
        ),
        "after": pictures.contours(
            scene, scene.after, [*warped, fixed], f"{what} warped moving image, {cuts}"
        ),
        "warped": bool(warped),
    }
