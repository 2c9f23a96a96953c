"""The picture of the demonstration: three views of the brains, before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates

from nipype_quicksilver.demo.outcome import Numbers, Outcome
from nipype_quicksilver.demo.scene import Cut, make_scene

# Colours that colour-blind people can distinguish (Okabe and Ito), on a dark background.
BACKGROUND, TEXT, FAINT = "#0e1116", "#f2f3f5", "#9aa4b2"
ORANGE, BLUE = "#ffa62b", "#56b4e9"

WIDTH, HEIGHT, DPI = 20.0, 9.8, 100  # inches, dots per inch

_SQUARE = 24.0  # mm, of the checkerboard
_LINES = 8.0  # mm, distance of the lines of the grid
_ERROR = (0.5, 2.5)  # mm; errors are transparent below the first, opaque above the second
_SHORTEST = 30.0  # mm; shorter borders are not drawn
_WHITE_MATTER = 3
_SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}  # at the left and at the right


def draw(outcome: Outcome, path: Path) -> None:
    """Draw the demonstration.

    Parameters
    ----------
    outcome : Outcome
        Of a pair on a grid whose axes are parallel to the world's.
    path : Path
        A PNG of 2000 x 980 pixels.
    """
    scene = make_scene(outcome)
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    panels: dict[tuple[str, str], Callable[[Axes, Cut], None]] = {
        ("Moving", "the MNI152 template"): lambda ax, cut: _show(ax, cut, scene.moving),
        ("Fixed", "deformed, another contrast, noise"): lambda ax, cut: _show(ax, cut, scene.fixed),
        ("Before", "moving borders on fixed"): lambda ax, cut: _draw_borders(
            ax, cut, scene.moving_labels
        ),
        ("After", "warped borders on fixed"): lambda ax, cut: _draw_borders(
            ax, cut, scene.warped_labels
        ),
        ("Checkerboard", "fixed gray, warped tinted"): _draw_checkerboard,
        ("Deformation", f"moving grid, {_LINES:.0f} mm, on warped"): _draw_grid,
        ("Remaining error", "distance to the truth"): _draw_error,
    }
    cuts = scene.cuts()
    low, high = scene.box()
    heights = [(high - low)[cut.axes[1]] for cut in cuts]
    layout = {"left": 0.034, "right": 0.994, "top": 0.83, "bottom": 0.15}
    grid = GridSpec(
        3, len(panels), figure, height_ratios=heights, wspace=0.03, hspace=0.035, **layout
    )
    for row, cut in enumerate(cuts):
        for column, ((title, note), fill) in enumerate(panels.items()):
            ax = figure.add_subplot(grid[row, column])
            fill(ax, cut)
            _frame(ax, cut, low, high)
            if row == 0:
                _title(ax, title, note)
            if column == 0:
                _name(ax, cut)
    _write_head(figure, outcome.numbers)
    _draw_legend(figure)
    _draw_histogram(figure, outcome)
    _draw_colorbar(figure, scene.norm)
    canvas.print_png(str(path))


def _frame(ax: Axes, cut: Cut, low: np.ndarray, high: np.ndarray) -> None:
    right, up = cut.axes
    ax.set_xlim(low[right], high[right])
    ax.set_ylim(low[up], high[up])
    ax.set_aspect("equal")
    ax.axis("off")


def _title(ax: Axes, title: str, note: str) -> None:
    # At the top of the column: the panel itself may be lower.
    x = (ax.get_position().x0 + ax.get_position().x1) / 2
    assert isinstance(ax.figure, Figure)
    kwargs: dict[str, Any] = {"ha": "center", "va": "center"}
    ax.figure.text(x, 0.868, title, color=TEXT, fontsize=15.5, fontweight="bold", **kwargs)
    ax.figure.text(x, 0.844, note, color=FAINT, fontsize=11, **kwargs)


def _name(ax: Axes, cut: Cut) -> None:
    """Write the name of the view, its position, and the sides of the brain."""
    where = f"{'xyz'[cut.normal]} = {cut.position:+.0f} mm"
    # In figure coordinates: panels of one column differ in width.
    y = (ax.get_position().y0 + ax.get_position().y1) / 2
    assert isinstance(ax.figure, Figure)
    kwargs: dict[str, Any] = {"rotation": 90, "va": "center", "ha": "center"}
    ax.figure.text(0.011, y, cut.view, color=TEXT, fontsize=14, fontweight="bold", **kwargs)
    ax.figure.text(0.024, y, where, color=FAINT, fontsize=11, **kwargs)
    for letter, x, ha in zip(_SIDES[cut.view], (0.03, 0.97), ("left", "right"), strict=True):
        ax.text(x, 0.95, letter, transform=ax.transAxes, color=FAINT, fontsize=11, ha=ha, va="top")


def _show(ax: Axes, cut: Cut, volume: np.ndarray, dimmed: float = 1.0) -> None:
    """Show an image in gray, with the background of the figure outside the brain."""
    gray = LinearSegmentedColormap.from_list("gray on background", [BACKGROUND, "#ffffff"])
    _imshow(ax, cut, gray(cut.of(volume) * dimmed))


def _imshow(ax: Axes, cut: Cut, colors: np.ndarray) -> None:
    ax.imshow(colors, origin="lower", extent=cut.extent(), interpolation="bilinear")


def _draw_borders(ax: Axes, cut: Cut, labels: np.ndarray) -> None:
    """Draw the borders of the moving tissues on the fixed image."""
    _show(ax, cut, cut.scene.fixed, dimmed=0.8)
    x, y = (cut.along(axis) for axis in cut.axes)
    for inside, color in ((labels > 0, BLUE), (labels == _WHITE_MATTER, ORANGE)):
        smooth = gaussian_filter(cut.of(inside).astype(float), 0.8)
        lines = [np.asarray(line) for line in contourpy.contour_generator(x, y, smooth).lines(0.5)]
        long = [line for line in lines if np.hypot(*np.diff(line, axis=0).T).sum() > _SHORTEST]
        ax.add_collection(LineCollection(long, colors=color, linewidths=1.2))


def _draw_checkerboard(ax: Axes, cut: Cut) -> None:
    """Show squares of the fixed and of the warped image, the warped ones tinted."""
    x, y = (np.floor(cut.along(axis) / _SQUARE) for axis in cut.axes)
    odd = ((x[None, :] + y[:, None]) % 2 == 1)[..., None]
    background, tint = np.array(to_rgb(BACKGROUND)), 0.7 + 0.3 * np.array(to_rgb(ORANGE))
    fixed, warped = (cut.of(image)[..., None] for image in (cut.scene.fixed, cut.scene.matched))
    plain = background + (1 - background) * fixed
    tinted = background + (tint - background) * warped
    _imshow(ax, cut, np.where(odd, tinted, plain))


def _colors() -> Colormap:
    """Return a perceptually uniform colour map without its dark end."""
    from matplotlib import colormaps

    full = colormaps["plasma"]
    return LinearSegmentedColormap.from_list("plasma, bright", full(np.linspace(0.22, 1, 256)))


def _draw_grid(ax: Axes, cut: Cut) -> None:
    """Draw the deformed grid of the moving space, coloured by the displacement."""
    _show(ax, cut, cut.scene.warped, dimmed=0.5)
    length = cut.of(cut.scene.length)
    inside = binary_dilation(cut.of(cut.scene.brain))
    x, y = (cut.along(axis) for axis in cut.axes)
    for axis, start in zip(cut.axes, np.meshgrid(x, y), strict=True):
        source = start + cut.of(cut.scene.displacement[..., axis])
        tracer = contourpy.contour_generator(x, y, np.ma.array(source, mask=~inside))
        first, last = np.floor(source.min() / _LINES), np.ceil(source.max() / _LINES)
        for level in np.arange(first, last + 1) * _LINES:
            for line in tracer.lines(level):
                ax.add_collection(_colored(np.asarray(line), length, cut))


def _draw_error(ax: Axes, cut: Cut) -> None:
    """Show the distance of the map from the truth, in the colours of the displacement."""
    low, high = _ERROR
    error = cut.of(cut.scene.error)
    colors = _colors()(cut.scene.norm(error))[..., :3]
    gray = np.array(to_rgb(BACKGROUND)) + 0.45 * cut.of(cut.scene.fixed)[..., None]
    opacity = 0.9 * np.clip((error - low) / (high - low), 0, 1)[..., None]
    mixed = (1 - opacity) * gray + opacity * colors
    _imshow(ax, cut, np.where(cut.of(cut.scene.brain)[..., None], mixed, to_rgb(BACKGROUND)))


def _colored(line: np.ndarray, length: np.ndarray, cut: Cut) -> LineCollection:
    """Return a line (N, 2) as segments, coloured by the displacement."""
    right, up = cut.axes
    spacing, start = cut.scene.grid.spacing, cut.scene.grid.affine[:3, 3]
    middle = (line[1:] + line[:-1]) / 2
    index = [
        (middle[:, 1] - start[up]) / spacing[up],
        (middle[:, 0] - start[right]) / spacing[right],
    ]
    pieces = LineCollection(
        list(np.stack([line[:-1], line[1:]], axis=1)),
        cmap=_colors(),
        norm=cut.scene.norm,
        linewidths=1.25,
        capstyle="round",
    )
    pieces.set_array(map_coordinates(length, index, order=1, mode="nearest"))
    return pieces


def _write_head(figure: Figure, numbers: Numbers) -> None:
    error, dice = numbers.error_mm, numbers.dice
    figure.text(
        0.028,
        0.955,
        "A known deformation, recovered",
        color=TEXT,
        fontsize=21,
        fontweight="bold",
        va="center",
    )
    before, after = error["before"], error["after"]
    dice_before, dice_after = dice["before"], dice["after"]
    numbers_shown = [
        f"error of the map: mean {before.mean:.2f} → {after.mean:.2f} mm, "
        f"95% below {before.p95:.1f} → {after.p95:.1f} mm",
        *(
            f"Dice of {tissue} {dice_before[tissue]:.2f} → {dice_after[tissue]:.2f}"
            for tissue in ("white matter", "gray matter")
        ),
        f"folded voxels {numbers.jacobian.folded}",
    ]
    figure.text(0.028, 0.916, "   ·   ".join(numbers_shown), color=FAINT, fontsize=13, va="center")


def _draw_legend(figure: Figure) -> None:
    """Draw the legend of the borders at the lower left."""
    lines = [Line2D([], [], color=color, linewidth=2.5) for color in (BLUE, ORANGE)]
    figure.legend(
        lines,
        ["outline of the moving brain", "border of its white matter"],
        loc="upper left",
        bbox_to_anchor=(0.03, 0.118),
        frameon=False,
        fontsize=13,
        labelcolor=TEXT,
    )


def _draw_histogram(figure: Figure, outcome: Outcome) -> None:
    """Draw the histograms of the errors in the brain."""
    ax = figure.add_axes((0.345, 0.066, 0.31, 0.07))
    brain = np.asanyarray(outcome.pair.fixed.dataobj) > 0
    top = outcome.numbers.error_mm["before"].max
    bins = np.linspace(0, top, 91)
    middle = (bins[1:] + bins[:-1]) / 2
    for when, color in (("before", ORANGE), ("after", BLUE)):
        counts, _ = np.histogram(outcome.error[when][brain], bins)
        density = counts / counts.sum()
        ax.fill_between(middle, density, color=color, alpha=0.35, linewidth=0)
        ax.plot(middle, density, color=color, linewidth=1.8)
        mean = outcome.numbers.error_mm[when].mean
        ax.text(
            mean if when == "before" else middle[density.argmax()] + 0.04 * top,
            density.max() * (1.12 if when == "before" else 0.78),
            when,
            color=color,
            fontsize=12.5,
            fontweight="bold",
        )
    ax.set(xlim=(0, top), ylim=(0, None), facecolor=BACKGROUND, yticks=[])
    _style(ax)
    ax.set_xlabel(
        "distance of the map from the truth, all voxels of the brain, mm",
        color=FAINT,
        fontsize=12.5,
    )


def _draw_colorbar(figure: Figure, norm: Normalize) -> None:
    ax = figure.add_axes((0.733, 0.088, 0.25, 0.022))
    bar = figure.colorbar(
        ScalarMappable(norm, _colors()), cax=ax, orientation="horizontal", extend="max"
    )
    bar.outline.set_visible(False)
    _style(ax)
    bar.set_label(
        "displacement; remaining error, mm",
        color=FAINT,
        fontsize=12.5,
    )


def _style(ax: Axes) -> None:
    ax.tick_params(colors=FAINT, labelsize=11.5, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
