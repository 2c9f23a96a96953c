"""Cuts through volumes: where they lie in a picture, and how the picture is drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nipype_quicksilver.spatial.grids import Grid, index_box

# Colours that colour-blind readers can distinguish (Okabe and Ito), on a dark ground.
GROUND, TEXT, FAINT = "#000000", "#f2f3f5", "#b6bfcb"
ORANGE, BLUE, YELLOW = "#ffa62b", "#56b4e9", "#f0e442"

WIDTH = 1400  # pixels
QUALITY = 86  # of WebP, which needs a fifth of the bytes of PNG
_LEGEND = 64  # pixels of a colour bar
#: Where the cuts lie, as fractions of the box. Their numbers give all views about the same scale.
CUTS = {
    "axial": (0.14, 0.32, 0.5, 0.68, 0.86),
    "coronal": (0.14, 0.32, 0.5, 0.68, 0.86),
    "sagittal": (0.2, 0.36, 0.52, 0.76),
}
_NORMALS = {"axial": 2, "coronal": 1, "sagittal": 0}
_SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}  # at the left and at the right

_OUTLINED = [withStroke(linewidth=2.5, foreground=GROUND)]  # readable on any background


@dataclass(frozen=True)
class Picture:
    """A picture that is embedded in a page.

    Attributes
    ----------
    uri : str
        ``data:`` address of the file.
    width, height : int
        Pixels.
    alt : str
        Description, for screen readers.
    """

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True, eq=False)
class Panel:
    """A cut, and its place in a picture.

    Attributes
    ----------
    view : str
        ``axial``, ``coronal`` or ``sagittal``.
    index : int
        Index of the plane along the axis that the cut is perpendicular to.
    left, bottom : float
        Its lower left corner, pixels.
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
        """The axis of the volume that the cut is perpendicular to."""
        return _NORMALS[self.view]

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the volume that point to the right and up."""
        first, second = (axis for axis in range(3) if axis != self.normal)
        return first, second

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, pixels."""
        right, up = (n * self.scale for n in self.shape)
        return self.left, self.left + right, self.bottom, self.bottom + up

    def plane(self, volume: np.ndarray) -> np.ndarray:
        """Return the plane through a volume; rows go up, columns to the right."""
        return np.moveaxis(volume, self.normal, 0)[self.index].swapaxes(0, 1)

    def pixels(self, axis: int) -> np.ndarray:
        """Return the positions of the voxels, pixels, to the right (0) or up (1)."""
        start = (self.left, self.bottom)[axis]
        return start + (np.arange(self.shape[axis]) + 0.5) * self.scale


#: Draws the content of a panel.
Fill = Callable[[Axes, Panel], None]


#: A box of voxels: a slice for each axis.
Box = tuple[slice, slice, slice]


def panels(grid: Grid, box: Box | None = None) -> tuple[list[Panel], int]:
    """Place the cuts: one row for each view, as wide as the picture.

    Parameters
    ----------
    grid : Grid
        Of the volumes.
    box : tuple of slice, optional
        Where the brain is: the cuts go through it; default: the whole grid.

    Returns
    -------
    panels : list of Panel
        Axial cuts at the top.
    height : int
        Of the picture, pixels.
    """
    box = box or index_box(np.ones(grid.shape, bool))
    placed: list[Panel] = []
    top = 0.0
    for view, fractions in CUTS.items():
        normal = _NORMALS[view]
        right, up = (n for axis, n in enumerate(grid.shape) if axis != normal)
        scale = WIDTH / len(fractions) / right
        top += up * scale
        first, last = box[normal].start, box[normal].stop - 1
        places = first + np.array(fractions) * (last - first)
        placed += [
            Panel(view, int(index), column * right * scale, -top, scale, (right, up))
            for column, index in enumerate(np.rint(places))
        ]
    height = int(np.ceil(top))
    return [
        Panel(p.view, p.index, p.left, p.bottom + height, p.scale, p.shape) for p in placed
    ], height


def draw(
    grid: Grid, fill: Fill, alt: str, legend: Legend | None = None, box: Box | None = None
) -> Picture:
    """Draw one picture.

    Parameters
    ----------
    grid : Grid
        Of the volumes.
    fill : callable
        Draws the content of each panel.
    alt : str
        Description.
    legend : Legend, optional
        Colour bar below the cuts.
    box : tuple of slice, optional
        Where the brain is, as for :func:`panels`.

    Returns
    -------
    Picture
        Its size depends on the grid and on whether there is a legend.
    """
    placed, height = panels(grid, box)
    below = _LEGEND if legend is not None else 0
    whole = height + below
    figure = Figure(figsize=(WIDTH / 100, whole / 100), dpi=100, facecolor=GROUND)
    ax = figure.add_axes((0, below / whole, 1, height / whole))
    for panel in placed:
        fill(ax, panel)
        _annotate(ax, panel, grid)
    ax.set(xlim=(0, WIDTH), ylim=(0, height))
    ax.axis("off")
    if legend is not None:
        legend.draw(figure, below / whole)
    file = io.BytesIO()
    # Without an alpha channel, the file is smaller.
    options = {"quality": QUALITY, "method": 4}
    figure.savefig(file, format="webp", facecolor=GROUND, pil_kwargs=options)
    uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(uri, WIDTH, whole, alt)


@dataclass(frozen=True)
class Legend:
    """A colour bar below a picture."""

    label: str
    norm: Normalize
    colors: Colormap
    extend: str

    def draw(self, figure: Figure, fraction: float) -> None:
        """Draw the bar into the lower fraction of a figure."""
        ax = figure.add_axes((0.32, 0.62 * fraction, 0.36, 0.22 * fraction))
        bar = figure.colorbar(
            ScalarMappable(self.norm, self.colors),
            cax=ax,
            orientation="horizontal",
            extend=self.extend,
        )
        bar.outline.set_visible(False)
        bar.set_label(self.label, color=TEXT, fontsize=11, labelpad=1)
        ax.tick_params(colors=TEXT, labelsize=10, length=3, pad=1)


def _annotate(ax: Axes, panel: Panel, grid: Grid) -> None:
    """Write the position of a cut and the anatomical sides."""
    left, right, bottom, top = panel.extent
    place = grid.affine[panel.normal, 3] + panel.index * grid.spacing[panel.normal]
    style: dict[str, Any] = {"color": FAINT, "fontsize": 10, "zorder": 5, "path_effects": _OUTLINED}
    text = f"{'xyz'[panel.normal]} = {place:.0f} mm"
    ax.text(left + 6, bottom + 6, text, va="bottom", **style)
    first, last = tuple(_SIDES[panel.view])
    ax.text(left + 6, top - 6, first, va="top", **style)
    ax.text(right - 6, top - 6, last, va="top", ha="right", **style)
