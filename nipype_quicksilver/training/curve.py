"""Plot of the losses and validations of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nipype_quicksilver.spatial.files import PathLike, staged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Columns of the validation that are plotted, and their labels.
_MEASURES = (("overlap", "mean Dice"), ("dissimilarity", "1 - squared local correlation"))
_POINTS = 200  # a long log is averaged into this number of points


def draw_curve(
    path: PathLike, log: Sequence[dict[str, str]], validation: Sequence[dict[str, str]]
) -> Path:
    """Plot losses and validation measures over the iterations.

    Parameters
    ----------
    path : path-like
        PNG file.
    log, validation : sequence of dict
        Rows of the two tables of a training. The first row of the validation, iteration 0, is
        without deformation.

    Returns
    -------
    Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measures = [
        (column, name)
        for column, name in _MEASURES
        if len([row for row in validation if row.get(column)]) > 0
    ]
    figure = Figure(figsize=(4.6 * (1 + len(measures)), 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(measures), squeeze=False)[0]
    axes[0].plot(*_averaged(log, "loss"), color="0.65", label="training")
    axes[0].set_ylabel("loss")
    for axis, (column, name) in zip(axes, [("loss", "loss"), *measures], strict=True):
        rows = [row for row in validation if row.get(column)]
        if rows:
            _draw_validation(axis, rows, column)
        axis.set_xlabel("iteration")
        axis.set_xlim(left=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel(name)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    with staged(path) as part:
        figure.savefig(part, format="png")
    return Path(path)


def _draw_validation(axis: Axes, rows: Sequence[dict[str, str]], column: str) -> None:
    first, rest = rows[0], rows[1:]
    if int(first["iteration"]) > 0:
        rest = rows
    else:
        axis.axhline(float(first[column]), color="C3", ls="--", lw=1, label="no deformation")
    steps = [int(row["iteration"]) for row in rest]
    axis.plot(
        steps, [float(row[column]) for row in rest], "o-", ms=3, color="C0", label="validation"
    )


def _averaged(log: Sequence[dict[str, str]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return means of the iterations and of a column over equal parts of the log."""
    rows = [row for row in log if row.get(column)]
    steps = np.array([float(row["iteration"]) for row in rows])
    values = np.array([float(row[column]) for row in rows])
    parts = max(1, min(_POINTS, len(rows) // 10))
    if parts == 1:
        return steps, values
    return (
        np.array([part.mean() for part in np.array_split(steps, parts)]),
        np.array([part.mean() for part in np.array_split(values, parts)]),
    )
