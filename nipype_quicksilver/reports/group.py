"""The report of many registrations: a table, outliers and distributions."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.reports.cuts import Picture
from nipype_quicksilver.reports.findings import findings
from nipype_quicksilver.reports.folder import read_summary, summary_file
from nipype_quicksilver.reports.names import without_folders
from nipype_quicksilver.reports.page import check_page, write_page
from nipype_quicksilver.reports.quantities import QUANTITIES, Quantity
from nipype_quicksilver.reports.single import REPORT
from nipype_quicksilver.spatial.files import PathLike

#: Distance from the median, in robust standard deviations, beyond which a value is an outlier.
OUTLIER = 3.5
#: Number of registrations below which no outliers are marked.
FEWEST = 5

_MANY = 200  # dots; more of them need fewer bytes as pixels than as paths

_RULE = (
    f"A value is marked as an outlier if it is more than {OUTLIER} robust standard deviations from "
    "the median, on the suspicious side. The robust standard deviation is 1.4826 times the median "
    "absolute deviation, or 1.2533 times the mean absolute deviation where more than half of the "
    f"values are equal. With fewer than {FEWEST} registrations no value is marked. ▲ is too high, "
    "▼ too low."
)

_DOT, _MARKED, _BOX = "#0072b2", "#d55e00", "#333333"


@dataclass(frozen=True)
class _Member:
    """A registration of the group."""

    name: str
    summary: RegistrationSummary
    link: str | None


def write_group_report(
    registrations: Iterable[PathLike] | Mapping[str, PathLike],
    path: PathLike,
    *,
    reports: Mapping[str, PathLike] | None = None,
    show_paths: bool = False,
) -> Path:
    """Write a page on many registrations, with links to their reports.

    Parameters
    ----------
    registrations : iterable of path-like, or mapping of str to path-like
        Output folders of `quicksilver register`, or their ``summary.json``, optionally by name;
        default names: the parts of their paths that differ.
    path : path-like
        The page (``.html``).
    reports : mapping of str to path-like, optional
        Report of each registration by its name; default: ``report.html`` next to its summary, if
        it exists.
    show_paths : bool
        Show the paths of files on this disk in warnings; default: only their names. Links are
        relative to the page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If there is no registration, or one cannot be read, or the page cannot be written.
    """
    named = _named(registrations)
    if not named:
        raise InputError(f"{path}: there is no registration to report on; give at least one folder")
    page = check_page(path)
    shown_as = (lambda summary: summary) if show_paths else without_folders
    members = [
        _Member(name, shown_as(read_summary(path)), _link(name, path, page, reports or {}))
        for name, path in named.items()
    ]
    shown = [q for q in QUANTITIES if any(q.of(m.summary) is not None for m in members)]
    columns = {q.key: [q.of(member.summary) for member in members] for q in shown}
    marks = {q.key: outliers(columns[q.key], q.worse) for q in shown}
    rows = [_row(number, member, shown, columns, marks) for number, member in enumerate(members)]
    return write_page(
        page,
        "group.html",
        title="Registrations of a group",
        methods=", ".join(sorted({_method(m.summary) for m in members})),
        tiles=_tiles(rows),
        rule=_RULE,
        quantities=shown,
        rows=rows,
        plots=[_plot(q, columns[q.key], marks[q.key]) for q in shown],
    )


def _named(registrations: Iterable[PathLike] | Mapping[str, PathLike]) -> dict[str, Path]:
    """Return the paths by name; the default is the part of the path that differs."""
    if isinstance(registrations, Mapping):
        return {name: Path(path) for name, path in registrations.items()}
    paths = [Path(path) for path in registrations]
    whole = [Path(os.path.abspath(summary_file(path).parent)) for path in paths]
    common = os.path.commonpath(whole) if len(set(whole)) > 1 else (whole or [Path()])[0].parent
    names = [str(folder.relative_to(common)) for folder in whole]
    for name, path in zip(names, paths, strict=True):
        if names.count(name) > 1:
            raise InputError(f"{path}: is given more than once; give each registration once")
    return dict(zip(names, paths, strict=True))


def _link(name: str, path: Path, page: Path, reports: Mapping[str, PathLike]) -> str | None:
    """Return the address of a report relative to the page; None where there is none."""
    report = Path(reports[name]) if name in reports else summary_file(path).parent / REPORT
    if not report.exists():
        return None
    return quote(Path(os.path.relpath(report, page.parent)).as_posix())


def outliers(values: list[float | None], worse: str = "both") -> list[str | None]:
    """Mark the values that are far from the others.

    Parameters
    ----------
    values : list of float or None
        One for each registration; None where it has no value.
    worse : {'low', 'high', 'both'}
        Side of the distribution that is suspicious.

    Returns
    -------
    list of str or None
        ``low`` or ``high`` for an outlier, None otherwise.

    Examples
    --------
    >>> outliers([0.80, 0.81, 0.79, 0.82, 0.40, None], "low")
    [None, None, None, None, 'low', None]
    >>> outliers([0, 0, 0, 0, 0, 7], "high")
    [None, None, None, None, None, 'high']
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    if known.size < FEWEST:
        return [None] * len(values)
    middle = np.median(known)
    deviation = np.abs(known - middle)
    spread = 1.4826 * np.median(deviation) or 1.2533 * deviation.mean()

    def mark(value: float | None) -> str | None:
        if value is None or abs(value - middle) <= OUTLIER * spread:
            return None
        side = "low" if value < middle else "high"
        return side if worse in (side, "both") else None

    return [mark(value) for value in values]


def _method(summary: RegistrationSummary) -> str:
    """Return the method of a registration, or its transform where it has no deformation."""
    return summary.parameters.method or summary.parameters.transform


def _row(
    number: int,
    member: _Member,
    shown: list[Quantity],
    columns: dict[str, list[float | None]],
    marks: dict[str, list[str | None]],
) -> dict[str, Any]:
    cells = []
    for quantity in shown:
        value, side = columns[quantity.key][number], marks[quantity.key][number]
        cells.append(
            {
                "key": quantity.key,
                "value": "" if value is None else value,
                "written": "-" if value is None else quantity.written(value),
                "outlier": side is not None,
                "side": side,
            }
        )
    return {
        "name": member.name,
        "link": member.link,
        "findings": findings(member.summary),
        "outliers": sum(cell["outlier"] for cell in cells),
        "cells": cells,
    }


def _tiles(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"label": "Registrations", "value": str(len(rows))},
        {"label": "With outliers", "value": str(sum(row["outliers"] > 0 for row in rows))},
        {"label": "To check", "value": str(sum(bool(row["findings"]) for row in rows))},
    ]


def _plot(quantity: Quantity, values: list[float | None], marks: list[str | None]) -> Picture:
    """Draw a box plot with every registration, above a histogram on the same axis."""
    pairs = [(v, m is not None) for v, m in zip(values, marks, strict=True) if v is not None]
    known = np.array([value for value, _ in pairs])
    marked = np.array([mark for _, mark in pairs])
    figure = Figure(figsize=(4.2, 3.0), dpi=100, facecolor="white", layout="constrained")
    box, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
    lines = {name: {"color": _BOX} for name in ("boxprops", "whiskerprops", "capprops")}
    box.boxplot(
        known,
        orientation="horizontal",
        widths=0.7,
        showfliers=False,
        medianprops={"color": _BOX, "linewidth": 2.5},
        **lines,
    )
    # The scatter is reproducible: the same values give the same page.
    height = 1 + np.random.default_rng(0).uniform(-0.22, 0.22, known.size)
    dots = {"markersize": 4, "alpha": 0.6, "rasterized": known.size > _MANY}
    box.plot(known[~marked], height[~marked], "o", color=_DOT, **dots)
    box.plot(known[marked], height[marked], "^", color=_MARKED, markersize=7)
    box.set_yticks([])
    histogram.hist(known, bins=_bins(known), color=_DOT, edgecolor="white")
    histogram.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    histogram.set(xlabel=quantity.label, ylabel="registrations")
    for ax in (box, histogram):
        ax.spines[["top", "right"]].set_visible(False)
    alt = (
        f"{quantity.label}: box plot and histogram of {known.size} registrations, median "
        f"{quantity.written(float(np.median(known)))}, from {quantity.written(float(known.min()))} "
        f"to {quantity.written(float(known.max()))}, {int(marked.sum())} outliers"
    )
    file = io.BytesIO()
    # Otherwise the file contains random identifiers and a date.
    with rc_context({"svg.hashsalt": quantity.key}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    uri = "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(uri, 420, 300, alt)


def _bins(values: np.ndarray) -> np.ndarray:
    """Return the edges of a histogram; it has a width also where all values are equal."""
    if np.ptp(values) == 0:
        return values[0] + np.array([-1, 1]) * (0.02 * abs(values[0]) or 0.5)
    return np.histogram_bin_edges(values, bins=int(np.clip(2 * np.sqrt(values.size), 5, 40)))
