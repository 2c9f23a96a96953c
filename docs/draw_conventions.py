"""Draw `conventions.png`: which transform maps what.

python docs/draw_conventions.py docs/conventions.png
"""

import sys
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

# Two colours that colour-blind people can distinguish.
FORWARD, INVERSE = "#0072b2", "#d55e00"
LINE, GRID = "#444444", "#bbbbbb"
POINT = np.array([22.0, 28.0])  # mm, in the fixed image

Transform = Callable[[np.ndarray], np.ndarray]


def composite(points: np.ndarray) -> np.ndarray:
    """Map points (..., 2) of the fixed image to points of the moving image, mm."""
    x, y = np.moveaxis(points, -1, 0)
    bent = np.stack([x + 7 * np.sin(y / 26), y + 6 * np.cos(x / 24)], axis=-1)
    angle = np.deg2rad(-12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return bent @ turn.T + [2, -6]


def outlines() -> list[np.ndarray]:
    """Return the outlines of the fixed brain and of its ventricles, (N, 2) each, mm."""
    t = np.linspace(0, 2 * np.pi, 400)
    brain = np.stack([58 * np.cos(t), 72 * np.sin(t)], axis=-1)
    brain *= (1 + 0.025 * np.cos(22 * t))[:, None]
    ventricles = [
        np.stack([side * (9 + 5 * np.cos(t)), 4 + 22 * np.sin(t) + 3 * np.cos(t)], axis=-1)
        for side in (-1, 1)
    ]
    return [brain, *ventricles]


def lines() -> list[np.ndarray]:
    """Return the lines of the grid of the fixed image, (N, 2) each, mm."""
    along, across = np.linspace(-84, 84, 200), np.arange(-84, 85, 14)
    rows = [np.stack([along, np.full_like(along, y)], axis=-1) for y in across]
    return rows + [row[:, ::-1] for row in rows]


def draw_brain(ax: Axes, transform: Transform, title: str) -> None:
    """Draw the grid and the brain of the fixed image after a transform."""
    for line in lines():
        ax.plot(*transform(line).T, color=GRID, linewidth=0.7, zorder=1)
    for outline in outlines():
        ax.plot(*transform(outline).T, color=LINE, linewidth=1.8, zorder=2)
    ax.set_title(title, fontsize=12)
    ax.set_aspect("equal")
    ax.set(xlim=(-108, 108), ylim=(-112, 112))
    ax.axis("off")


def connect(
    figure: Figure,
    axes: tuple[Axes, Axes],
    ends: tuple[np.ndarray, np.ndarray],
    colour: str,
    bend: float,
) -> None:
    """Draw a bent arrow from a point of one image to a point of the other."""
    figure.add_artist(
        ConnectionPatch(
            *ends,
            "data",
            "data",
            axesA=axes[0],
            axesB=axes[1],
            arrowstyle="-|>",
            mutation_scale=18,
            connectionstyle=f"arc3,rad={bend}",
            color=colour,
            linewidth=2.2,
            shrinkA=5,
            shrinkB=5,
        )
    )


def draw(path: str) -> None:
    """Draw the figure into a file."""
    figure, (fixed, moving) = plt.subplots(1, 2, figsize=(9.5, 5.6))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.13, wspace=0.02)
    draw_brain(fixed, lambda points: points, "fixed image, with its grid")
    draw_brain(moving, composite, "moving image, with the positions of interpolation")
    mapped = composite(POINT)
    for ax, point, name, offset in ((fixed, POINT, "x", (-14, 5)), (moving, mapped, "y", (8, -12))):
        ax.plot(*point, "o", color="black", markersize=8, zorder=4)
        ax.annotate(name, point, offset, textcoords="offset points", fontsize=13, style="italic")
    connect(figure, (fixed, moving), (POINT, mapped), FORWARD, -0.35)
    connect(figure, (moving, fixed), (mapped, POINT), INVERSE, -0.35)
    style = {"ha": "center", "va": "center", "fontsize": 11}
    figure.text(0.5, 0.83, "composite.h5\ny = composite(x)", color=FORWARD, **style)
    figure.text(0.5, 0.36, "inverse_composite.h5\nx = inverse(y)", color=INVERSE, **style)
    caption = "points: fixed to moving.  Images: the value at y is shown at x, moving to fixed"
    figure.text(0.5, 0.085, f"composite.h5 maps {caption}", color=FORWARD, **style)
    caption = "points: moving to fixed.  Images: the value at x is shown at y, fixed to moving"
    figure.text(0.5, 0.035, f"inverse_composite.h5 maps {caption}", color=INVERSE, **style)
    arrow = {"arrowstyle": "-|>", "color": LINE, "linewidth": 1.2}
    for end, name in (((-76, -104), "x, right"), ((-100, -80), "y, front")):
        fixed.annotate("", end, (-100, -104), arrowprops=arrow)
        fixed.text(end[0] + 3, end[1] + 1, name, fontsize=8, color=LINE, va="center")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    draw(sys.argv[1])
