"""Figures of an evaluation, modelled on those of the paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nipype_quicksilver.evaluation.methods import START
from nipype_quicksilver.evaluation.tables import Row
from nipype_quicksilver.spatial.files import staged

#: Colours that colour-blind readers can distinguish (Okabe and Ito), in the order of the methods.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#f0e442")
#: Lines also differ in their dashes.
DASHES = ("-", "--", "-.", ":")

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "nipype-quicksilver",  # reproducible files
    "svg.fonttype": "none",
}
_FORMATS = ("png", "svg")
_LEAST = 1e-3  # smallest density that is drawn
_MARGIN = 0.02  # left and right of the densities


def draw_overlap(stem: Path, measures: Sequence[Row]) -> list[Path]:
    """Draw box plots of the mean target overlap of each method, one panel for each label set.

    Parameters
    ----------
    stem : Path
        Path of the files to write, without their suffixes.
    measures : sequence of dict
        Rows of :func:`nipype_quicksilver.evaluation.tables.measure_rows`.

    Returns
    -------
    list of Path
        PNG and SVG.
    """
    sets = _values_of(measures, "label_set")
    methods = _values_of(measures, "method")
    with rc_context(_STYLE):
        width = 0.9 + 0.75 * len(methods)
        figure = Figure((max(width * len(sets), 3.2), 3.6), layout="constrained")
        axes = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
        for ax, label_set in zip(axes, sets, strict=True):
            rows = [row for row in measures if row["label_set"] == label_set]
            _boxes(ax, rows, [name for name in methods if any(r["method"] == name for r in rows)])
            pairs = len({row["pair"] for row in rows})
            ax.set_title(f"{label_set} (n = {pairs} pair{'' if pairs == 1 else 's'})")
        axes[0].set_ylabel("mean target overlap of the labels")
        return _save(figure, stem)


def _boxes(ax: Axes, rows: Sequence[Row], methods: Sequence[str]) -> None:
    """Draw a box for each method, all values as points, and the medians as numbers."""
    values = [[row["target_overlap"] for row in rows if row["method"] == name] for name in methods]
    boxes = ax.boxplot(
        values,
        tick_labels=methods,
        widths=0.6,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": "black", "linewidth": 1.5},
    )
    spread = np.random.default_rng(0)
    for number, (box, numbers) in enumerate(zip(boxes["boxes"], values, strict=True)):
        box.set_facecolor(COLOURS[number % len(COLOURS)] + "80")
        x = number + 1 + spread.uniform(-0.15, 0.15, len(numbers))
        ax.plot(x, numbers, "o", color="0.25", markersize=2, alpha=0.6)
        ax.annotate(
            f"{np.median(numbers):.3f}",
            (number + 1, max(numbers)),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    ax.margins(y=0.12)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    if len(methods) > 5:
        ax.tick_params(axis="x", rotation=45)


def draw_jacobians(stem: Path, histograms: Sequence[Row], reference: str) -> list[Path]:
    """Draw densities of log10 of the Jacobian determinant and of its difference to a reference.

    The affine alone, whose determinant is constant, is not drawn.

    Parameters
    ----------
    stem : Path
        Path of the files to write, without their suffixes.
    histograms : sequence of dict
        Rows of :func:`nipype_quicksilver.evaluation.tables.histogram_rows`.
    reference : str
        Name of the method that is the reference.

    Returns
    -------
    list of Path
        PNG and SVG.
    """
    sets, methods = _values_of(histograms, "label_set"), _values_of(histograms, "method")
    titles = {
        "log10_jacobian": "log10 of the Jacobian determinant",
        "difference": f"its difference to {reference}",
    }
    quantities = [name for name in titles if any(r["quantity"] == name for r in histograms)]
    with rc_context(_STYLE):
        size = (4.2 * len(quantities), 2.8 * len(sets) + 0.5)
        figure = Figure(size, layout="constrained")
        axes = figure.subplots(len(sets), len(quantities), squeeze=False)
        for row, label_set in zip(axes, sets, strict=True):
            for ax, quantity in zip(row, quantities, strict=True):
                rows = [
                    r
                    for r in histograms
                    if r["label_set"] == label_set and r["quantity"] == quantity
                ]
                _densities(ax, rows, methods)
                ax.set_xlabel(titles[quantity])
                ax.set_title(label_set)
            row[0].set_ylabel("density over the voxels of all pairs")
        axes[0][0].legend(frameon=False)
        return _save(figure, stem)


def _densities(ax: Axes, rows: Sequence[Row], methods: Sequence[str]) -> None:
    """Draw a line for each method, over the range of visible densities."""
    visible = [row["log10"] for row in rows if row["density"] > _LEAST]
    for number, name in enumerate(methods):
        if name == START:
            continue
        own = [row for row in rows if row["method"] == name]
        if own:
            ax.plot(
                [row["log10"] for row in own],
                [max(row["density"], _LEAST / 10) for row in own],
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number % len(DASHES)],
                label=name,
            )
    ax.set_yscale("log")
    ax.set_ylim(bottom=_LEAST)
    ax.set_xlim(min(visible) - _MARGIN, max(visible) + _MARGIN)
    ax.grid(color="0.9")
    ax.set_axisbelow(True)


def draw_times(stem: Path, times: Sequence[Row]) -> list[Path]:
    """Draw the seconds of a prediction by number of threads; those of a GPU as a horizontal line.

    Parameters
    ----------
    stem : Path
        Path of the files to write, without their suffixes.
    times : sequence of dict
        ``device``, ``threads`` and ``seconds`` of each run.

    Returns
    -------
    list of Path
        PNG and SVG.
    """
    with rc_context(_STYLE):
        figure = Figure((4.2, 3.2), layout="constrained")
        ax = figure.subplots()
        on_cpu = [row for row in times if row["device"] == "cpu"]
        numbers = sorted({row["threads"] for row in on_cpu})
        medians = [
            float(np.median([row["seconds"] for row in on_cpu if row["threads"] == number]))
            for number in numbers
        ]
        ax.plot(
            [row["threads"] for row in on_cpu],
            [row["seconds"] for row in on_cpu],
            "o",
            color="0.5",
            markersize=3,
        )
        ax.plot(numbers, medians, "o-", color=COLOURS[0], label="CPU, median of the runs")
        for number, median in zip(numbers, medians, strict=True):
            ax.annotate(f"{median:.2g} s", (number, median), (5, 5), textcoords="offset points")
        on_gpu = [row["seconds"] for row in times if row["device"] != "cpu"]
        if on_gpu:
            median = float(np.median(on_gpu))
            ax.axhline(median, color=COLOURS[3], linestyle="--", label=f"one GPU, {median:.2g} s")
        ax.set_xticks(numbers)
        ax.set_xlabel("threads")
        ax.set_ylabel("seconds of a prediction (LP)")
        ax.set_ylim(bottom=0)
        ax.margins(x=0.12)
        ax.legend(frameon=False)
        return _save(figure, stem)


def _values_of(rows: Sequence[Row], name: str) -> list[Any]:
    """Return the unique values of a column in order of occurrence."""
    return list(dict.fromkeys(row[name] for row in rows))


def _save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure in all formats."""
    FigureCanvasAgg(figure)
    paths = []
    for suffix in _FORMATS:
        path = stem.with_name(f"{stem.name}.{suffix}")
        with staged(path) as temporary:
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(temporary, format=suffix, dpi=150, metadata=metadata)
        paths.append(path)
    return paths
