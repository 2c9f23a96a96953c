"""The report of one registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype_quicksilver.options import DEFORMABLE
from nipype_quicksilver.registration.summary import Overlaps, Preprocessing, RegistrationSummary
from nipype_quicksilver.reports import pictures
from nipype_quicksilver.reports.boilerplate import methods, with_tools
from nipype_quicksilver.reports.cuts import BLUE, CUTS, ORANGE, WIDTH, Picture
from nipype_quicksilver.reports.findings import changed_files, findings, unchecked
from nipype_quicksilver.reports.folder import read_summary
from nipype_quicksilver.reports.names import shortener, without_folders
from nipype_quicksilver.reports.page import check_page, write_page
from nipype_quicksilver.reports.quantities import QUANTITIES
from nipype_quicksilver.reports.scene import Scene, read_scene
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.records import as_json

#: File name of a report in the folder of its registration.
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
    show_paths: bool = False,
) -> Path:
    """Write the report of a registration: one page with embedded pictures.

    Parameters
    ----------
    registration : path-like
        Output folder of `quicksilver register`.
    path : path-like, optional
        The page (``.html``); default: ``report.html`` in the folder.
    fixed, moving : path-like, optional
        The images that were registered; default: the paths in the summary.
    brain_extraction, affine : str, optional
        What extracted the brains and estimated the affine that the registration was given, such as
        ``deepbet`` and ``simpleitk``; default: masks and affine are described as given.
    show_paths : bool
        Show the paths of files on this disk; default: only their names.

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
    changes = changed_files(summary)
    if not show_paths:
        changes = [*map(shortener(summary), changes)]
        summary = without_folders(summary)
    texts = _texts(summary, changes)
    texts["methods"] = methods(with_tools(summary, brain_extraction, affine))
    return write_page(page, "registration.html", **texts, **_tables(summary), **_pictures(scene))


def _texts(summary: RegistrationSummary, changes: list[str]) -> dict[str, Any]:
    images = {side: summary.inputs.get(side) or f"{side} image" for side in ("fixed", "moving")}
    similarity, deforms = summary.similarity, summary.parameters.transform == DEFORMABLE
    tiles = [_tile("Local correlation", similarity.before, similarity.after, deforms)]
    if summary.labels is not None:
        before, after = summary.labels.before.mean.dice, summary.labels.after.mean.dice
        if before is not None and after is not None:
            tiles.append(_tile("Mean Dice of labels", before, after, deforms))
    tiles.append({"label": "Folded voxels", "value": str(summary.jacobian.folded)})
    tiles.append({"label": "Seconds", "value": f"{summary.seconds.get('total', 0):.1f}"})
    return {
        "title": f"Registration of {Path(images['moving']).name} to {Path(images['fixed']).name}",
        **images,
        "tiles": tiles,
        "findings": [*findings(summary), *changes],
        "unchecked": unchecked(summary),
        "provenance": _provenance(summary),
    }


def _tile(label: str, before: float, after: float, deforms: bool) -> dict[str, str]:
    """Return a value before and after the deformation; without one they are the same."""
    before_it = f"{before:.3f} \N{RIGHTWARDS ARROW} " if deforms else ""
    return {"label": label, "value": f"{before_it}{after:.3f}"}


def _provenance(summary: RegistrationSummary) -> list[dict[str, Any]]:
    """Return the rows of the table of provenance."""
    rows: list[tuple[str, list[str]]] = [
        ("Command", [summary.command] if summary.command else []),
        ("Started", [summary.started]),
        ("Versions", [f"{name} {version}" for name, version in summary.versions.items()]),
    ]
    hashes, template = summary.sha256, summary.preprocessing.template
    for name, file in summary.inputs.items():
        if file is not None:
            rows.append((name.replace("_", " ").capitalize(), _file(file, hashes.get(name))))
    if "template" in hashes and template is not None:
        rows.append(("Template", _file(template.file, hashes["template"])))
    parameters = as_json(summary.parameters)
    networks = parameters.pop("networks", [])
    known = hashes.get("networks", [None] * len(networks))
    for file, digest in zip(networks, known, strict=False):
        rows.append(("Network", _file(file, digest)))
    rows.append(("Options", [f"{name}: {value}" for name, value in summary.options.items()]))
    rows.append(("Parameters", [f"{name}: {value}" for name, value in parameters.items()]))
    rows.append(("Preprocessing", _preprocessing(summary.preprocessing)))
    grids = {"Working grid": summary.working_grid, "Velocity grid": summary.velocity_grid}
    for label, grid in grids.items():
        shape = " x ".join(map(str, grid.shape))
        size = f"{grid.spacing[0]:g} mm"
        if summary.magnification != 1:
            size += f" ({grid.spacing[0] / summary.magnification:.2g} mm in the brain's own size)"
        rows.append((label, [f"{shape} voxels of {size}"]))
    return [{"label": label, "lines": lines} for label, lines in rows if lines]


def _preprocessing(preprocessing: Preprocessing) -> list[str]:
    """Return how brains and affine were estimated, one line each."""
    return [
        f"{name.replace('_', ' ')}: "
        + ", ".join(f"{key} {value}" for key, value in step.items() if key != "matrix")
        for name, step in as_json(preprocessing).items()
    ]


def _file(path: str, digest: str | None) -> list[str]:
    return [path] if digest is None else [path, f"SHA-256 {digest}"]


def _tables(summary: RegistrationSummary) -> dict[str, Any]:
    values = [(quantity, quantity.of(summary)) for quantity in QUANTITIES]
    figures = [
        {"key": q.key, "label": q.label, "value": value, "written": q.written(value)}
        for q, value in values
        if value is not None
    ]
    wall, cpu = summary.seconds, summary.cpu_seconds
    seconds = [{"part": part, "wall": value, "cpu": cpu.get(part)} for part, value in wall.items()]
    return {
        "figures": figures,
        "seconds": seconds,
        "label_heads": ["Label", *_heads()],
        "labels": _label_rows(summary.labels) if summary.labels else [],
    }


def _heads() -> list[str]:
    return [
        f"{column.replace('_', ' ').capitalize()}, {when}"
        for column in _LABEL_COLUMNS
        for when in ("before", "after")
    ]


def _label_rows(overlaps: Overlaps) -> list[list[dict[str, Any]]]:
    """Return the cells of each label, in the order of the labels."""
    before, after = overlaps.before.labels, overlaps.after.labels
    rows = []
    for label in sorted({*before, *after}, key=int):
        cells: list[dict[str, Any]] = [{"value": label, "written": label}]
        for column in _LABEL_COLUMNS:
            for side in (before, after):
                value = getattr(side.get(label), column, None)
                written = "-" if value is None else f"{value:.4f}"
                cells.append({"value": "" if value is None else value, "written": written})
        rows.append(cells)
    return rows


def _pictures(scene: Scene) -> dict[str, Any]:
    cuts = "axial, coronal and sagittal cuts"
    fixed = pictures.image(scene, scene.fixed, f"Fixed image, {cuts}")
    mm = scene.grid.spacing[0] * scene.grid.shape[0] * len(CUTS["axial"]) / WIDTH
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
    """Return the borders of the labels before and after; None without labels."""
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
