"""Pictures of a registration: the same cuts through every volume, pixel on pixel."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import contourpy
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.ndimage import gaussian_filter

from nipype_quicksilver.reports.scene import Scene
from nipype_quicksilver.spatial.grids import Grid

# Colours that remain apart for colour-blind eyes (Okabe and Ito), on a dark ground.
GROUND, TEXT, FAINT = "#000000", "#f2f3f5", "#b6bfcb"
ORANGE, BLUE, YELLOW = "#ffa62b", "#56b4e9", "#f0e442"

WIDTH = 1400  # pixels
QUALITY = 86  # of WebP, in which a picture takes a fifth of what it takes as PNG
_LEGEND = 64  # pixels for a bar of colours
#: Where the cuts lie, as shares of the box; so many that all have about one scale.
CUTS = {
    "axial": (0.14, 0.32, 0.5, 0.68, 0.86),
    "coronal": (0.14, 0.32, 0.5, 0.68, 0.86),
    "sagittal": (0.2, 0.36, 0.52, 0.76),
}
_NORMALS = {"axial": 2, "coronal": 1, "sagittal": 0}
_SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}  # at the left and at the right

LINES = 16  # of the deformed grid, across the longest side
LOG_JACOBIAN = 1.0  # where the colours end: a volume times or divided by e
_OPACITY = 0.85
_OUTLINED = [withStroke(linewidth=2.5, foreground=GROUND)]  # readable over anything


@dataclass(frozen=True)
class Picture:
    """A picture that a page holds in itself.

    Attributes
    ----------
    uri : str
        ``data:`` address of a WebP file.
    width, height : int
        Pixels.
    alt : str
        What it shows, for those who do not see it.
    """

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True, eq=False)
class Panel:
    """A cut, and where it lies in a picture.

    Attributes
    ----------
    view : str
        ``axial``, ``coronal`` or ``sagittal``.
    index : int
        Plane of the grid.
    left, bottom : float
        Its corner, pixels.
    scale : float
        Pixels per voxel.
    shape : tuple of int
        Voxels to the right and up.
    """

    view: str
    index: int
    left: float
    bottom: float
    scale: float
    shape: tuple[int, int]

    @property
    def normal(self) -> int:
        """The axis of the volume that the cut is across."""
        return _NORMALS[self.view]

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the volume that run to the right and up."""
        first, second = (axis for axis in range(3) if axis != self.normal)
        return first, second

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, pixels."""
        right, up = (n * self.scale for n in self.shape)
        return self.left, self.left + right, self.bottom, self.bottom + up

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Return the plane of a volume: rows upwards, columns to the right."""
        return np.moveaxis(volume, self.normal, 0)[self.index].swapaxes(0, 1)

    def pixels(self, axis: int) -> np.ndarray:
        """Return where the voxels lie to the right (0) or upwards (1)."""
        start = (self.left, self.bottom)[axis]
        return start + (np.arange(self.shape[axis]) + 0.5) * self.scale


Fill = Callable[[Axes, Panel], None]


def panels(grid: Grid) -> tuple[list[Panel], int]:
    """Place the cuts: a row for each view, as wide as the picture.

    Parameters
    ----------
    grid : Grid
        Of the volumes.

    Returns
    -------
    panels : list of Panel
        Axial cuts at the top.
    height : int
        Of the picture, pixels.
    """
    placed: list[Panel] = []
    top = 0.0
    for view, shares in CUTS.items():
        normal = _NORMALS[view]
        right, up = (n for axis, n in enumerate(grid.shape) if axis != normal)
        scale = WIDTH / len(shares) / right
        top += up * scale
        places = np.array(shares) * (grid.shape[normal] - 1)
        placed += [
            Panel(view, int(index), column * right * scale, -top, scale, (right, up))
            for column, index in enumerate(np.rint(places))
        ]
    height = int(np.ceil(top))
    return [
        Panel(p.view, p.index, p.left, p.bottom + height, p.scale, p.shape) for p in placed
    ], height


def _draw(scene: Scene, fill: Fill, alt: str, legend: Legend | None = None) -> Picture:
    """Draw one picture.

    Parameters
    ----------
    scene : Scene
        Where the cuts lie.
    fill : callable
        Draws into an axis what a panel shows.
    alt : str
        What it shows.
    legend : Legend, optional
        Colours to be explained below.

    Returns
    -------
    Picture
        The same size for the same grid and legend.
    """
    placed, height = panels(scene.grid)
    below = _LEGEND if legend is not None else 0
    whole = height + below
    figure = Figure(figsize=(WIDTH / 100, whole / 100), dpi=100, facecolor=GROUND)
    ax = figure.add_axes((0, below / whole, 1, height / whole))
    for panel in placed:
        fill(ax, panel)
        _name(ax, panel, scene.grid)
    ax.set(xlim=(0, WIDTH), ylim=(0, height))
    ax.axis("off")
    if legend is not None:
        legend.draw(figure, below / whole)
    file = io.BytesIO()
    # As an alpha channel would only make the file larger.
    options = {"quality": QUALITY, "method": 4}
    figure.savefig(file, format="webp", facecolor=GROUND, pil_kwargs=options)
    uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(uri, WIDTH, whole, alt)


@dataclass(frozen=True)
class Legend:
    """A bar of colours below a picture."""

    label: str
    norm: Normalize
    colors: Colormap
    extend: str

    def draw(self, figure: Figure, share: float) -> None:
        """Draw the bar into the lower share of a figure."""
        ax = figure.add_axes((0.32, 0.62 * share, 0.36, 0.22 * share))
        bar = figure.colorbar(
            ScalarMappable(self.norm, self.colors),
            cax=ax,
            orientation="horizontal",
            extend=self.extend,
        )
        bar.outline.set_visible(False)
        bar.set_label(self.label, color=TEXT, fontsize=11, labelpad=1)
        ax.tick_params(colors=TEXT, labelsize=10, length=3, pad=1)


def _name(ax: Axes, panel: Panel, grid: Grid) -> None:
    """Write where a cut lies, and in the first of a row which side is which."""
    left, right, bottom, top = panel.extent
    place = grid.affine[panel.normal, 3] + panel.index * grid.spacing[panel.normal]
    style: dict[str, Any] = {"color": FAINT, "fontsize": 10, "zorder": 5, "path_effects": _OUTLINED}
    text = f"{'xyz'[panel.normal]} = {place:.0f} mm"
    ax.text(left + 6, bottom + 6, text, va="bottom", **style)
    first, last = tuple(_SIDES[panel.view])
    ax.text(left + 6, top - 6, first, va="top", **style)
    ax.text(right - 6, top - 6, last, va="top", ha="right", **style)


def _gray(volume: np.ndarray, dimmed: float = 1.0) -> Fill:
    """Return what shows a volume in gray, robustly scaled."""
    occupied = volume[volume > 0]
    top = float(np.percentile(occupied, 99.5)) if occupied.size else 1.0
    low = min(0.0, float(volume.min()))

    def fill(ax: Axes, panel: Panel) -> None:
        ax.imshow(
            panel.of(volume),
            cmap="gray",
            norm=Normalize(low, low + (top - low) / dimmed),
            extent=panel.extent,
            origin="lower",
            interpolation="bilinear",
        )

    return fill


def _both(*fills: Fill) -> Fill:
    """Return what draws one thing over another."""

    def fill(ax: Axes, panel: Panel) -> None:
        for each in fills:
            each(ax, panel)

    return fill


def image(scene: Scene, volume: np.ndarray, alt: str) -> Picture:
    """Show a volume in gray.

    Parameters
    ----------
    scene : Scene
        Where the cuts lie.
    volume : ndarray
        (X, Y, Z).
    alt : str
        What it is.

    Returns
    -------
    Picture
    """
    return _draw(scene, _gray(volume), alt)


def contours(
    scene: Scene, volume: np.ndarray, labels: Iterable[tuple[np.ndarray, str]], alt: str
) -> Picture:
    """Lay the borders of label maps over a volume.

    Parameters
    ----------
    scene : Scene
        Where the cuts lie.
    volume : ndarray
        (X, Y, Z).
    labels : iterable of tuple
        Label maps (X, Y, Z) and the colours of their borders.
    alt : str
        What it shows.

    Returns
    -------
    Picture
    """
    lines = [_borders(data, color) for data, color in labels]
    return _draw(scene, _both(_gray(volume, 0.85), *lines), alt)


def _borders(labels: np.ndarray, color: str) -> Fill:
    def fill(ax: Axes, panel: Panel) -> None:
        plane = panel.of(labels)
        x, y = panel.pixels(0), panel.pixels(1)
        lines: list[np.ndarray] = []
        for label in np.unique(plane[plane != 0]):
            inside = gaussian_filter((plane == label).astype(float), 0.6)
            lines += _level_lines(x, y, inside, [0.5])
        ax.add_collection(LineCollection(lines, colors=color, linewidths=0.9))

    return fill


def deformed_grid(scene: Scene, alt: str) -> Picture:
    """Draw the planes of the moving space where the deformation has brought them.

    Parameters
    ----------
    scene : Scene
        With the source of each voxel.
    alt : str
        What it shows.

    Returns
    -------
    Picture
    """
    step = grid_step(scene)

    def lines(ax: Axes, panel: Panel) -> None:
        x, y = panel.pixels(0), panel.pixels(1)
        found: list[np.ndarray] = []
        for axis in panel.axes:
            plane = panel.of(scene.source[..., axis])
            first, last = np.floor(plane.min() / step), np.ceil(plane.max() / step)
            found += _level_lines(x, y, plane, np.arange(first, last + 1) * step)
        ax.add_collection(LineCollection(found, colors=BLUE, linewidths=0.9))

    return _draw(scene, _both(_gray(scene.after, 0.6), lines), alt)


def _level_lines(
    x: np.ndarray, y: np.ndarray, plane: np.ndarray, levels: Iterable[float]
) -> list[np.ndarray]:
    """Return the lines (N, 2) on which a plane has one of the values."""
    tracer = contourpy.contour_generator(x, y, plane)
    return [np.asarray(line) for level in levels for line in tracer.lines(level)]


def grid_step(scene: Scene) -> float:
    """Return the distance between the lines of the deformed grid, mm, a round number."""
    longest = max(n * h for n, h in zip(scene.grid.shape, scene.grid.spacing, strict=True))
    # Halves and doubles of a millimetre.
    return float(2.0 ** np.round(np.log2(longest / LINES)))


def log_jacobian(scene: Scene, alt: str) -> Picture:
    """Lay the log-Jacobian over the fixed image: blue where it shrinks, orange where it grows.

    Parameters
    ----------
    scene : Scene
        With the log-Jacobian; folded voxels are yellow.
    alt : str
        What it shows.

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
    return _draw(scene, _both(_gray(scene.fixed, 0.7), tint), alt, legend)


def uncertainty(scene: Scene, alt: str) -> Picture:
    """Lay the uncertainty over the fixed image.

    Parameters
    ----------
    scene : Scene
        With the uncertainty.
    alt : str
        What it shows.

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
    return _draw(scene, _both(_gray(scene.fixed, 0.7), tint), alt, legend)


def _bright(name: str) -> Colormap:
    """Return a map of even steps in lightness, without the end that is lost on the dark."""
    return LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(0.25, 1, 256)))


def _tint(
    scene: Scene, colors: np.ndarray, strength: np.ndarray, folded: np.ndarray | None = None
) -> Fill:
    """Return what lays colours (X, Y, Z, 4) over the image, where there is something in it."""
    colors[..., 3] = _OPACITY * strength * (scene.fixed > 0.02 * scene.fixed.max())
    if folded is not None:
        colors[folded] = to_rgba(YELLOW)

    def fill(ax: Axes, panel: Panel) -> None:
        ax.imshow(panel.of(colors), extent=panel.extent, origin="lower", interpolation="bilinear")

    return fill
