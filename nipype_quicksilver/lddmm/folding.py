"""Mending maps that fold: the momentum is calmed where it makes folds, and nowhere else."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.fields import Shape, Spacing, push, spacing_tuple, upsample
from nipype_quicksilver.lddmm.jacobians import CORNERS, determinant, smallest_corner
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import on_working_grid, taper
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.similarity import box_max, box_mean

# Folds are mended where they are so many times, the first ones gently, the rest firmly, before the
# whole geodesic is shortened. Most go gently, and what is calmed without need costs likeness.
GENTLE_ATTEMPTS = 2
LOCAL_ATTEMPTS = 12

# Jacobians above it are not those of a map that folds between the voxels of another grid.
SUSPECT = 0.25

# Voxels by which places may be off in single precision.
ROUNDING = 1e-3

# Voxels that are looked at for folds at a time, so that they stay in the cache.
SLAB = 1 << 18


@dataclass(frozen=True)
class Calming:
    """How momentum is calmed where it makes folds.

    Attributes
    ----------
    reach : int
        Voxels of the velocity grid around a fold that are calmed with it.
    shrinkage : float
        By so much the momentum there shrinks, besides being smoothed.
    """

    reach: int
    shrinkage: float


# Without reach a lone voxel hardly counts, but most folds are several.
GENTLY, FIRMLY = Calming(0, 0.4), Calming(1, 0.8)


@dataclass(frozen=True)
class Lattice:
    """The voxels of another grid, turned and scaled, on which a map shall not fold either.

    Between them the map is seen by its differences over other distances and along other axes: where
    it changes from voxel to voxel, those may fold though its own do not.

    Attributes
    ----------
    matrix : torch.Tensor
        (3, 4), from the indices of its voxels to where they lie among those of the working grid.
    shape : tuple of int
        Its size.
    """

    matrix: torch.Tensor
    shape: Shape


@torch.no_grad()
def unfold(
    state: torch.Tensor,
    operator: KernelOperator,
    *,
    steps: int,
    factor: int | None,
    lattice: Lattice | None = None,
) -> tuple[torch.Tensor, Geodesic]:
    """Return a state whose map ``phi^-1`` has no fold on the working grid, and its geodesic.

    Parameters
    ----------
    state : torch.Tensor
        Whitened momentum, (1, 3, x, y, z).
    operator : KernelOperator
        On its grid.
    steps : int
        Time steps of the shoot.
    factor : int or None
        The working grid is so many times finer than the state's; None where no map is written and
        the velocity grid is all that matters.
    lattice : Lattice, optional
        Where the map will be sampled.

    Returns
    -------
    state : torch.Tensor
        The state itself where nothing folds. All Jacobian determinants at the corners of the
        cells of the velocity grid, of the working grid and of the lattice are positive; on the
        latter two of the map as files hold it, see `maps.on_working_grid`.
    geodesic : Geodesic
        Shot from it, with both maps and the energies.
    """
    for attempt in range(100):
        geodesic = _shoot(state, operator, steps)
        folded = _folds(geodesic.inverse, operator.spacing)
        if factor is not None and not bool(folded.any()):
            folded = _folds_in_files(geodesic.inverse, operator, factor, lattice)
        if not bool(folded.any()):
            return state, geodesic
        if attempt < LOCAL_ATTEMPTS:
            # Where no map is written it need not be the best, and firmly takes fewer shoots.
            gently = factor is not None and attempt < GENTLE_ATTEMPTS
            how = GENTLY if gently else FIRMLY
            state = _calmed(state, folded, geodesic, operator, how)
        else:
            # The identity, which has no folds, is never farther away than the loop goes.
            state = 0.95 * state
    state = torch.zeros_like(state)
    return state, _shoot(state, operator, steps)


def _shoot(state: torch.Tensor, operator: KernelOperator, steps: int) -> Geodesic:
    # From the momentum alone, as it is stored: who shoots it again gets the same to the bit.
    return shoot(operator.apply(state, -0.5), operator, steps=steps, energies=True)


@torch.no_grad()
def calm(state: torch.Tensor, geodesic: Geodesic, operator: KernelOperator) -> torch.Tensor:
    """Return a state with less momentum where its geodesic folds, to go on from.

    Parameters
    ----------
    state : torch.Tensor
        Whitened momentum, (B, 3, x, y, z).
    geodesic : Geodesic
        Shot from it.
    operator : KernelOperator
    """
    folded = _folds(geodesic.inverse, operator.spacing)
    if not bool(folded.any()):
        return state
    return _calmed(state, folded, geodesic, operator, GENTLY)


def _calmed(
    state: torch.Tensor,
    folded: torch.Tensor,
    geodesic: Geodesic,
    operator: KernelOperator,
    how: Calming,
) -> torch.Tensor:
    """Smooth and shrink a state where folds come from, fading out."""
    # Folds are seen in the fixed space; the momentum lives in the moving one. They are pushed
    # there: where the map shrinks, no voxel of the moving space may be near enough to sample them.
    origin = (push(folded, geodesic.inverse, operator.spacing) > 0).to(state.dtype)
    share = box_mean(box_max(origin, how.reach), 1)
    return torch.lerp(state, how.shrinkage * box_mean(state, 1), share)


def _folds_in_files(
    displacement: torch.Tensor, operator: KernelOperator, factor: int, lattice: Lattice | None
) -> torch.Tensor:
    """Return where a map folds as files hold it: at rest on the border of the working grid."""
    fine = [h / factor for h in operator.spacing]
    window = taper([n * factor for n in operator.shape], fine, displacement)
    folded = _folds(displacement, operator.spacing, factor, window)
    if lattice is not None and not bool(folded.any()):
        folded = _folds_on(lattice, displacement, operator, factor)
    return folded


def _folds(
    displacement: torch.Tensor,
    spacing: Spacing,
    factor: int = 1,
    window: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return where a map folds on a grid so many times finer, between whose voxels it is trilinear.

    There its displacement is multiplied by a window (X, Y, Z).

    Returns
    -------
    torch.Tensor
        (B, 1, X, Y, Z), on the map's own grid: 1 where a corner folds of a cell whose first voxel
        lies in the voxel's block, 0 elsewhere.
    """
    folded = torch.zeros_like(displacement[:, :1])
    fine = [h / factor for h in spacing_tuple(spacing)]
    size = displacement.shape[2]
    # Slab by slab, so that it all stays in the cache.
    thickness = max(1, SLAB // (factor**3 * math.prod(displacement.shape[3:])))
    for start in range(0, size, thickness):
        stop = min(start + thickness, size)
        low, high = max(start - 1, 0), min(stop + 1, size)
        planes = upsample(displacement[:, :, low:high], factor)
        if window is not None:
            planes = planes * window[factor * low : factor * high]
        # To the first plane of the next slab, for the cells across.
        first, last = factor * (start - low), factor * (stop - low)
        smallest = smallest_corner(planes[:, :, first : last + 1], fine)
        # Not "<= 0": where the geodesic blew up there is no number, and that is no map either.
        cells = (~(smallest > 0))[:, None].to(folded.dtype)
        # Behind the last voxel along each axis there is no cell.
        whole = functional.pad(cells, (0, 1, 0, 1, 0, int(stop == size)))
        folded[:, :, start:stop] = functional.max_pool3d(whole, factor) if factor > 1 else whole
    return folded


def _folds_on(
    lattice: Lattice, displacement: torch.Tensor, operator: KernelOperator, factor: int
) -> torch.Tensor:
    """Return where a map folds between the voxels of a lattice, as :func:`_folds` does."""
    cells = _suspects(lattice, displacement, operator, factor)
    whole = on_working_grid(displacement, operator, factor)
    corners = torch.tensor(CORNERS, dtype=cells.dtype, device=cells.device)
    places = _places(lattice, cells[:, None] + corners)  # (N, 8, 3)
    spacing = places.new_tensor([h / factor for h in operator.spacing])
    arrived = places * spacing + _at(whole, places)
    corner = {offset: arrived[:, number] for number, offset in enumerate(CORNERS)}
    folded = torch.zeros(len(cells), dtype=torch.bool, device=cells.device)
    sign = torch.linalg.det(lattice.matrix[:, :3]).sign()
    for i, j, k in CORNERS:
        edges = [
            corner[1, j, k] - corner[0, j, k],
            corner[i, 1, k] - corner[i, 0, k],
            corner[i, j, 1] - corner[i, j, 0],
        ]
        matrix = torch.stack(edges, dim=-1).permute(1, 2, 0)[None, ..., None, None]
        folded |= ~(sign * determinant(matrix)[0, 0, :, 0, 0] > 0)
    result = torch.zeros_like(displacement[:, :1])
    x, y, z = _coarse_indices(places[folded].reshape(-1, 3), factor, result.shape[2:]).unbind(1)
    result[0, 0, x, y, z] = 1
    return result


def _suspects(
    lattice: Lattice, displacement: torch.Tensor, operator: KernelOperator, factor: int
) -> torch.Tensor:
    """Return the first voxels of the cells of a lattice in which a map shrinks, (N, 3)."""
    if min(lattice.shape) < 2:  # one slice has no cells
        return displacement.new_zeros((0, 3))
    tapered = displacement * taper(operator.shape, operator.spacing, displacement)
    small = smallest_corner(tapered, operator.spacing) < SUSPECT
    small = functional.pad(small[:, None].to(displacement.dtype), (0, 1, 0, 1, 0, 1))
    # As far as a cell of the lattice reaches from its middle, of which the nearest voxel is known.
    half = lattice.matrix[:, :3].abs().sum(dim=1) / (2 * factor)
    reach = [math.ceil(0.5 + float(h) + ROUNDING) for h in half]
    around = functional.max_pool3d(small, [2 * r + 1 for r in reach], stride=1, padding=reach)
    middles = _middles(lattice, around, factor)
    seen = functional.grid_sample(
        around, middles, mode="nearest", padding_mode="border", align_corners=True
    )
    return seen[0, 0].nonzero().to(displacement.dtype)


def _middles(lattice: Lattice, like: torch.Tensor, factor: int) -> torch.Tensor:
    """Return where the middles of a lattice's cells lie on a coarser grid, for `grid_sample`.

    Made by torch from one matrix: of all cells, few are looked at further.
    """
    cells, size = ([n - 1 for n in shape] for shape in (lattice.shape, like.shape[2:]))
    matrix = lattice.matrix.to(like)
    # From the indices of cells to voxels of the coarser grid, then both from -1 to 1.
    linear = matrix[:, :3] / factor
    offset = (matrix[:, :3].sum(dim=1) / 2 + matrix[:, 3] + 0.5) / factor - 0.5
    extent, last = matrix.new_tensor(cells) - 1, matrix.new_tensor(size)
    offset = 2 * (linear @ extent / 2 + offset) / last - 1
    linear = linear * extent / last[:, None]
    theta = torch.cat([linear.flip(0, 1), offset.flip(0)[:, None]], dim=1)
    return functional.affine_grid(theta[None], [1, 1, *cells], align_corners=True)


def _places(lattice: Lattice, indices: torch.Tensor) -> torch.Tensor:
    """Return where voxels (..., 3) of a lattice lie among those of the working grid."""
    return indices @ lattice.matrix[:, :3].T + lattice.matrix[:, 3]


def _coarse_indices(places: torch.Tensor, factor: int, shape: torch.Size) -> torch.Tensor:
    """Return the voxels (N, 3) nearest to places on a grid so many times finer."""
    last = places.new_tensor(shape) - 1
    return ((places + 0.5) / factor - 0.5).round().clamp_min(0).minimum(last).long()


def _at(field: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return a field (1, 3, X, Y, Z) at places (N, M, 3) between its voxels, (N, M, 3)."""
    last = places.new_tensor(field.shape[2:]) - 1
    points = (places * (2 / last) - 1).flip(-1)[None, None]
    values = functional.grid_sample(field, points, padding_mode="border", align_corners=True)
    return values[0, :, 0].permute(1, 2, 0)
