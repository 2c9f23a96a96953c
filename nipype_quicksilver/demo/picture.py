"""The picture of the demonstration: three views of the brains, before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

from nipype_quicksilver.spatial.grids import Grid

if TYPE_CHECKING:
    from nipype_quicksilver.demo.run import Outcome

# Colours that remain apart for colour-blind eyes (Okabe and Ito), on a dark ground.
GROUND, TEXT, FAINT = "#0e1116", "#f2f3f5", "#9aa4b2"
ORANGE, BLUE = "#ffa62b", "#56b4e9"

WIDTH, HEIGHT, DPI = 20.0, 9.8, 100  # inches, dots per inch

_MARGIN = 3.0  # mm around the brain in each panel
_SQUARE = 24.0  # mm, of the checkerboard
_LINES = 8.0  # mm between the lines of the grid
_ERROR = (0.5, 2.5)  # mm, from where errors begin to hide the brain to where they do
_SPECK = 30.0  # mm; shorter borders are not drawn
_WHITE_MATTER = 3
_VIEWS = {"axial": 2, "coronal": 1, "sagittal": 0}
_SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}  # at the left and at the right


@dataclass(frozen=True, eq=False)
class _Scene:
    """What the panels show: arrays (X, Y, Z) on one grid whose axes run along the world's."""

    grid: Grid
    moving: np.ndarray
    fixed: np.ndarray
    warped: np.ndarray
    moving_labels: np.ndarray
    warped_labels: np.ndarray
    displacement: np.ndarray
    norm: Normalize

    @property
    def brain(self) -> np.ndarray:
        return self.fixed > 0


@dataclass(frozen=True, eq=False)
class _Cut:
    """A plane through the scene."""

    scene: _Scene
    view: str
    index: int

    @property
    def normal(self) -> int:
        return _VIEWS[self.view]

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the volume that run to the right and up."""
        first, second = (axis for axis in range(3) if axis != self.normal)
        return first, second

    @property
    def position(self) -> float:
        """Where the plane cuts its normal, mm."""
        affine = self.scene.grid.affine
        return float(affine[self.normal, 3] + self.index * affine[self.normal, self.normal])

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Return the plane of a volume: rows upwards, columns to the right."""
        return np.swapaxes(np.take(volume, self.index, axis=self.normal), 0, 1)

    def along(self, axis: int) -> np.ndarray:
        """Return the world coordinates of the voxels along an axis, mm."""
        affine = self.scene.grid.affine
        return affine[axis, 3] + affine[axis, axis] * np.arange(self.scene.grid.shape[axis])

    def extent(self) -> tuple[float, float, float, float]:
        """Return the edges of the plane for `imshow`, mm."""
        edges: list[float] = []
        for axis in self.axes:
            mm, half = self.along(axis), self.scene.grid.spacing[axis] / 2
            edges += [mm[0] - half, mm[-1] + half]
        return edges[0], edges[1], edges[2], edges[3]


def draw(outcome: Outcome, path: Path) -> None:
    """Draw the demonstration.

    Parameters
    ----------
    outcome : Outcome
        Of a pair on a grid whose axes run along the world's.
    path : Path
        A PNG of 2000 x 980 pixels.
    """
    scene = _scene(outcome)
    error = outcome.error("after")
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=GROUND)
    canvas = FigureCanvasAgg(figure)
    panels: dict[tuple[str, str], Callable[[Axes, _Cut], None]] = {
        ("Moving", "the MNI152 template"): lambda ax, cut: _show(ax, cut, scene.moving),
        ("Fixed", "bent, another contrast, noise"): lambda ax, cut: _show(ax, cut, scene.fixed),
        ("Before", "moving borders on fixed"): lambda ax, cut: _draw_borders(
            ax, cut, scene.moving_labels
        ),
        ("After", "warped borders on fixed"): lambda ax, cut: _draw_borders(
            ax, cut, scene.warped_labels
        ),
        ("Checkerboard", "fixed gray, warped tinted"): _draw_checkerboard,
        ("Deformation", f"moving grid, {_LINES:.0f} mm, on warped"): _draw_grid,
        ("Remaining error", "distance to the truth"): lambda ax, cut: _draw_error(ax, cut, error),
    }
    cuts = [_Cut(scene, view, _best_index(scene, axis)) for view, axis in _VIEWS.items()]
    low, high = _box(scene)
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


def _scene(outcome: Outcome) -> _Scene:
    pair, registration = outcome.pair, outcome.registration
    fixed = np.asanyarray(pair.fixed.dataobj)
    length = np.linalg.norm(registration.displacement, axis=-1)[fixed > 0]
    assert registration.warped_labels is not None
    return _Scene(
        grid=Grid.from_image(pair.fixed),
        moving=np.asanyarray(pair.moving.dataobj),
        fixed=fixed,
        warped=registration.warped,
        moving_labels=np.asanyarray(pair.moving_labels.dataobj),
        warped_labels=registration.warped_labels,
        displacement=registration.displacement,
        norm=Normalize(0, float(np.ceil(length.max()))),
    )


def _best_index(scene: _Scene, axis: int) -> int:
    """Return the plane that shows most displacement, among those with much brain."""
    others = tuple(k for k in range(3) if k != axis)
    area = scene.brain.sum(axis=others)
    moved = (np.linalg.norm(scene.displacement, axis=-1) * scene.brain).sum(axis=others)
    return int(np.where(area >= 0.88 * area.max(), moved / np.maximum(area, 1), 0).argmax())


def _box(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the box around both brains, mm."""
    index = np.argwhere(scene.brain | (scene.moving > 0))
    affine = scene.grid.affine
    ends = [end * affine.diagonal()[:3] + affine[:3, 3] for end in (index.min(0), index.max(0))]
    return ends[0] - _MARGIN, ends[1] + _MARGIN


def _frame(ax: Axes, cut: _Cut, low: np.ndarray, high: np.ndarray) -> None:
    right, up = cut.axes
    ax.set_xlim(low[right], high[right])
    ax.set_ylim(low[up], high[up])
    ax.set_aspect("equal")
    ax.axis("off")


def _title(ax: Axes, title: str, note: str) -> None:
    # Measured from the top of the column: the panel itself may be lower.
    x = (ax.get_position().x0 + ax.get_position().x1) / 2
    assert isinstance(ax.figure, Figure)
    kwargs: dict[str, Any] = {"ha": "center", "va": "center"}
    ax.figure.text(x, 0.868, title, color=TEXT, fontsize=15.5, fontweight="bold", **kwargs)
    ax.figure.text(x, 0.844, note, color=FAINT, fontsize=11, **kwargs)


def _name(ax: Axes, cut: _Cut) -> None:
    """Write what the view is, where it lies, and which side is which."""
    where = f"{'xyz'[cut.normal]} = {cut.position:+.0f} mm"
    # In figure coordinates: panels of one column differ in width.
    y = (ax.get_position().y0 + ax.get_position().y1) / 2
    assert isinstance(ax.figure, Figure)
    kwargs: dict[str, Any] = {"rotation": 90, "va": "center", "ha": "center"}
    ax.figure.text(0.011, y, cut.view, color=TEXT, fontsize=14, fontweight="bold", **kwargs)
    ax.figure.text(0.024, y, where, color=FAINT, fontsize=11, **kwargs)
    for letter, x, ha in zip(_SIDES[cut.view], (0.03, 0.97), ("left", "right"), strict=True):
        ax.text(x, 0.95, letter, transform=ax.transAxes, color=FAINT, fontsize=11, ha=ha, va="top")


def _bright(cut: _Cut, volume: np.ndarray) -> np.ndarray:
    """Return a plane from 0 to 1."""
    return np.clip(cut.of(volume) / np.percentile(volume[volume > 0], 99.5), 0, 1)


def _show(ax: Axes, cut: _Cut, volume: np.ndarray, dimmed: float = 1.0) -> None:
    """Show an image in gray; what lies outside the brain is the ground of the figure."""
    plane = _bright(cut, volume) * dimmed
    gray = LinearSegmentedColormap.from_list("gray on ground", [GROUND, "#ffffff"])
    _imshow(ax, cut, gray(plane))


def _imshow(ax: Axes, cut: _Cut, colors: np.ndarray) -> None:
    ax.imshow(colors, origin="lower", extent=cut.extent(), interpolation="bilinear")


def _draw_borders(ax: Axes, cut: _Cut, labels: np.ndarray) -> None:
    """Lay the borders of the moving tissues over the fixed image."""
    _show(ax, cut, cut.scene.fixed, dimmed=0.8)
    x, y = (cut.along(axis) for axis in cut.axes)
    for inside, color in ((labels > 0, BLUE), (labels == _WHITE_MATTER, ORANGE)):
        share = gaussian_filter(cut.of(inside).astype(float), 0.8)
        lines = [np.asarray(line) for line in contourpy.contour_generator(x, y, share).lines(0.5)]
        long = [line for line in lines if np.hypot(*np.diff(line, axis=0).T).sum() > _SPECK]
        ax.add_collection(LineCollection(long, colors=color, linewidths=1.2))


def _draw_checkerboard(ax: Axes, cut: _Cut) -> None:
    """Show fixed and warped image in turns, the warped one tinted."""
    x, y = (np.floor(cut.along(axis) / _SQUARE) for axis in cut.axes)
    odd = ((x[None, :] + y[:, None]) % 2 == 1)[..., None]
    ground, tint = np.array(to_rgb(GROUND)), 0.7 + 0.3 * np.array(to_rgb(ORANGE))
    fixed = _bright(cut, cut.scene.fixed)[..., None]
    warped = _bright(cut, _like(cut.scene.warped, cut.scene.fixed))[..., None]
    plain = ground + (1 - ground) * fixed
    tinted = ground + (tint - ground) * warped
    _imshow(ax, cut, np.where(odd, tinted, plain))


def _like(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return an image with the histogram of another inside its brain."""
    shares = np.linspace(0, 100, 201)
    source, target = (np.percentile(volume[volume > 0], shares) for volume in (image, other))
    return np.where(image > 0, np.interp(image, source, target), 0)


def _colors() -> Colormap:
    """Return a map of even steps in lightness, without the end that is lost on the dark."""
    from matplotlib import colormaps

    full = colormaps["plasma"]
    return LinearSegmentedColormap.from_list("plasma, bright", full(np.linspace(0.22, 1, 256)))


def _draw_grid(ax: Axes, cut: _Cut) -> None:
    """Draw where planes of the moving space have come to lie, coloured by the displacement."""
    _show(ax, cut, cut.scene.warped, dimmed=0.5)
    length = cut.of(np.linalg.norm(cut.scene.displacement, axis=-1))
    inside = binary_dilation(cut.of(cut.scene.brain))
    x, y = (cut.along(axis) for axis in cut.axes)
    for axis, start in zip(cut.axes, np.meshgrid(x, y), strict=True):
        source = start + cut.of(cut.scene.displacement[..., axis])
        tracer = contourpy.contour_generator(x, y, np.ma.array(source, mask=~inside))
        first, last = np.floor(source.min() / _LINES), np.ceil(source.max() / _LINES)
        for level in np.arange(first, last + 1) * _LINES:
            for line in tracer.lines(level):
                ax.add_collection(_colored(np.asarray(line), length, cut))


def _draw_error(ax: Axes, cut: _Cut, error: np.ndarray) -> None:
    """Show how far from the truth the map still is, in the colours of the displacement."""
    low, high = _ERROR
    colors = _colors()(cut.scene.norm(cut.of(error)))[..., :3]
    gray = np.array(to_rgb(GROUND)) + 0.45 * _bright(cut, cut.scene.fixed)[..., None]
    opacity = 0.9 * np.clip((cut.of(error) - low) / (high - low), 0, 1)[..., None]
    mixed = (1 - opacity) * gray + opacity * colors
    _imshow(ax, cut, np.where(cut.of(cut.scene.brain)[..., None], mixed, to_rgb(GROUND)))


def _colored(line: np.ndarray, length: np.ndarray, cut: _Cut) -> LineCollection:
    """Return a line (N, 2) in pieces of the colour of the displacement there."""
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


def _write_head(figure: Figure, numbers: dict[str, Any]) -> None:
    error, dice = numbers["error_mm"], numbers["dice"]
    figure.text(
        0.028,
        0.955,
        "A brain, bent by a known geodesic and found again",
        color=TEXT,
        fontsize=21,
        fontweight="bold",
        va="center",
    )
    facts = [
        f"error of the map: mean {_change(error, 'mean', '.2f')} mm, "
        f"95% below {_change(error, 'p95', '.1f')} mm",
        f"Dice of white matter {_change(dice, 'white matter', '.2f')}",
        f"Dice of gray matter {_change(dice, 'gray matter', '.2f')}",
        f"folded voxels {numbers['jacobian']['folded']}",
    ]
    figure.text(0.028, 0.916, "   ·   ".join(facts), color=FAINT, fontsize=13, va="center")


def _change(values: dict[str, Any], name: str, form: str) -> str:
    return f"{values['before'][name]:{form}} → {values['after'][name]:{form}}"


def _draw_legend(figure: Figure) -> None:
    """Tell whose borders are drawn, at the lower left."""
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
    """Show how the errors are distributed over the brain."""
    ax = figure.add_axes((0.345, 0.066, 0.31, 0.07))
    brain = np.asanyarray(outcome.pair.fixed.dataobj) > 0
    top = outcome.numbers["error_mm"]["before"]["max"]
    bins = np.linspace(0, top, 91)
    middle = (bins[1:] + bins[:-1]) / 2
    for when, color in (("before", ORANGE), ("after", BLUE)):
        counts, _ = np.histogram(outcome.error(when)[brain], bins)
        share = 100 * counts / counts.sum() / (bins[1] - bins[0])
        ax.fill_between(middle, share, color=color, alpha=0.35, linewidth=0)
        ax.plot(middle, share, color=color, linewidth=1.8)
        mean = outcome.numbers["error_mm"][when]["mean"]
        ax.text(
            mean if when == "before" else middle[share.argmax()] + 0.04 * top,
            share.max() * (1.12 if when == "before" else 0.78),
            when,
            color=color,
            fontsize=12.5,
            fontweight="bold",
        )
    ax.set(xlim=(0, top), ylim=(0, None), facecolor=GROUND, yticks=[])
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
