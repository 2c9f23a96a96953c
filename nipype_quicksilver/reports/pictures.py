"""Pictures of a registration: the same cuts through every volume, so that pixels correspond."""

from __future__ import annotations

from collections.abc import Iterable

import contourpy
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgba
from scipy.ndimage import gaussian_filter

from nipype_quicksilver.reports.cuts import (
    BLUE,
    GROUND,
    ORANGE,
    YELLOW,
    Fill,
    Legend,
    Panel,
    Picture,
    draw,
)
from nipype_quicksilver.reports.scene import Scene

LINES = 16  # of the deformed grid, along the longest side
LOG_JACOBIAN = 1.0  # limit of the colours: a volume multiplied or divided by e
_OPACITY = 0.85


def _gray(volume: np.ndarray, dimmed: float = 1.0) -> Fill:
    """Return a fill that shows a volume in gray, robustly scaled."""
    occupied = volume[volume > 0]
    top = float(np.percentile(occupied, 99.5)) if occupied.size else 1.0
    low = min(0.0, float(volume.min()))

    def fill(ax: Axes, panel: Panel) -> None:
        ax.imshow(
            panel.plane(volume),
            cmap="gray",
            norm=Normalize(low, low + (top - low) / dimmed),
            extent=panel.extent,
            origin="lower",
            interpolation="bilinear",
        )

    return fill


def _both(*fills: Fill) -> Fill:
    """Return a fill that draws several on top of each other."""

    def fill(ax: Axes, panel: Panel) -> None:
        for each in fills:
            each(ax, panel)

    return fill


def image(scene: Scene, volume: np.ndarray, alt: str) -> Picture:
    """Show a volume in gray.

    Parameters
    ----------
    scene : Scene
        With the grid of the volume.
    volume : ndarray
        (X, Y, Z).
    alt : str
        Description.

    Returns
    -------
    Picture
    """
    return draw(scene.grid, _gray(volume), alt, box=scene.box)


def contours(
    scene: Scene, volume: np.ndarray, labels: Iterable[tuple[np.ndarray, str]], alt: str
) -> Picture:
    """Draw the borders of label maps over a volume.

    Parameters
    ----------
    scene : Scene
        With the grid of the volume.
    volume : ndarray
        (X, Y, Z).
    labels : iterable of tuple
        Label maps (X, Y, Z) and the colours of their borders.
    alt : str
        Description.

    Returns
    -------
    Picture
    """
    lines = [_borders(data, color) for data, color in labels]
    return draw(scene.grid, _both(_gray(volume, 0.85), *lines), alt, box=scene.box)


def _borders(labels: np.ndarray, color: str) -> Fill:
    def fill(ax: Axes, panel: Panel) -> None:
        plane = panel.plane(labels)
        x, y = panel.pixels(0), panel.pixels(1)
        lines: list[np.ndarray] = []
        for label in np.unique(plane[plane != 0]):
            inside = gaussian_filter((plane == label).astype(float), 0.6)
            lines += _level_lines(x, y, inside, [0.5])
        ax.add_collection(LineCollection(lines, colors=color, linewidths=0.9))

    return fill


def deformed_grid(scene: Scene, alt: str) -> Picture:
    """Draw the planes of the moving space, deformed.

    Parameters
    ----------
    scene : Scene
        With the source of each voxel.
    alt : str
        Description.

    Returns
    -------
    Picture
    """
    step = grid_step(scene)

    def lines(ax: Axes, panel: Panel) -> None:
        x, y = panel.pixels(0), panel.pixels(1)
        curves: list[np.ndarray] = []
        for axis in panel.axes:
            plane = panel.plane(scene.source[..., axis])
            first, last = np.floor(plane.min() / step), np.ceil(plane.max() / step)
            curves += _level_lines(x, y, plane, np.arange(first, last + 1) * step)
        ax.add_collection(LineCollection(curves, colors=BLUE, linewidths=0.9))

    return draw(scene.grid, _both(_gray(scene.after, 0.6), lines), alt, box=scene.box)


def _level_lines(
    x: np.ndarray, y: np.ndarray, plane: np.ndarray, levels: Iterable[float]
) -> list[np.ndarray]:
    """Return the lines (N, 2) along which a plane has one of the values."""
    tracer = contourpy.contour_generator(x, y, plane)
    return [np.asarray(line) for level in levels for line in tracer.lines(level)]


def grid_step(scene: Scene) -> float:
    """Return the distance between the lines of the deformed grid, mm, a power of two."""
    longest = max(n * h for n, h in zip(scene.grid.shape, scene.grid.spacing, strict=True))
    return float(2.0 ** np.round(np.log2(longest / LINES)))


def log_jacobian(scene: Scene, alt: str) -> Picture:
    """Overlay the log-Jacobian on the fixed image: blue where negative, orange where positive.

    Parameters
    ----------
    scene : Scene
        With the log-Jacobian; folded voxels are yellow.
    alt : str
        Description.

    Returns
    -------
    Picture
    """
    colors = LinearSegmentedColormap.from_list("blue to orange", [BLUE, GROUND, ORANGE])
    norm = Normalize(-LOG_JACOBIAN, LOG_JACOBIAN)
    folded = np.isnan(scene.log_jacobian)
    values = np.nan_to_num(scene.log_jacobian, nan=0.0)
    strength = np.clip(np.abs(values) / LOG_JACOBIAN, 0, 1)
    hue = np.where(values < 0, -LOG_JACOBIAN, LOG_JACOBIAN)
    tint = _tint(scene, colors(norm(hue)), strength, folded)
    label = "log of the Jacobian determinant: blue smaller, orange larger in the moving image"
    legend = Legend(label, norm, colors, "both")
    return draw(scene.grid, _both(_gray(scene.fixed, 0.7), tint), alt, legend, scene.box)


def uncertainty(scene: Scene, alt: str) -> Picture:
    """Overlay the uncertainty on the fixed image.

    Parameters
    ----------
    scene : Scene
        With the uncertainty.
    alt : str
        Description.

    Returns
    -------
    Picture
    """
    assert scene.uncertainty is not None
    top = max(0.5, float(np.ceil(2 * np.percentile(scene.uncertainty, 99.5))) / 2)
    norm, colors = Normalize(0, top), _bright("plasma")
    strength = np.clip(scene.uncertainty / top, 0, 1) ** 0.5
    tint = _tint(scene, colors(norm(scene.uncertainty)), strength)
    legend = Legend("uncertainty of the displacement, mm", norm, colors, "max")
    return draw(scene.grid, _both(_gray(scene.fixed, 0.7), tint), alt, legend, scene.box)


def _bright(name: str) -> Colormap:
    """Return a perceptually uniform colour map without its dark end, invisible on the ground."""
    return LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(0.25, 1, 256)))


def _tint(
    scene: Scene, colors: np.ndarray, strength: np.ndarray, folded: np.ndarray | None = None
) -> Fill:
    """Return a fill that overlays colours (X, Y, Z, 4) on the fixed image, where it is not dark."""
    colors[..., 3] = _OPACITY * strength * (scene.fixed > 0.02 * scene.fixed.max())
    if folded is not None:
        colors[folded] = to_rgba(YELLOW)

    def fill(ax: Axes, panel: Panel) -> None:
        ax.imshow(
            panel.plane(colors), extent=panel.extent, origin="lower", interpolation="bilinear"
        )

    return fill
