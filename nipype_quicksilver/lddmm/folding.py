"""Repair of maps that fold: the momentum is damped where it causes folds, and nowhere else."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.fields import Shape, Spacing, push, spacing_tuple
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.jacobians import CORNERS, determinant, smallest_corner
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import on_working_grid, taper
from nipype_quicksilver.lddmm.shooting import Geodesic, shoot
from nipype_quicksilver.lddmm.similarity import box_max, box_mean

# Folds are repaired locally in the first attempts, weakly in the first few of them; then the whole
# geodesic is shortened. Most folds need weak damping only, and damping more than needed costs
# similarity.
WEAK_ATTEMPTS = 2
LOCAL_ATTEMPTS = 12
MAX_ATTEMPTS = 100

# Factor by which each later attempt shortens the whole geodesic.
SHORTENING = 0.95

# A map with Jacobians above this value does not fold between the voxels of another grid.
SUSPICIOUS_JACOBIAN = 0.25

# Rounding error of positions in single precision, in voxels.
ROUNDING = 1e-3

# Number of voxels checked for folds at a time, so that they stay in the cache.
SLAB = 1 << 18


@dataclass(frozen=True)
class Damping:
    """How momentum is damped where it causes folds.

    Attributes
    ----------
    reach : int
        Radius around a fold that is damped with it, in voxels of the velocity grid.
    factor : float
        The momentum there is smoothed and multiplied by this factor.
    """

    reach: int
    factor: float


# Without reach a single voxel is hardly damped, but most folds comprise several.
WEAK, STRONG = Damping(0, 0.4), Damping(1, 0.8)


@dataclass(frozen=True)
class Lattice:
    """The voxels of another grid, rotated and scaled, on which a map must not fold either.

    There the map is sampled at other distances and along other axes: where its displacement varies
    from voxel to voxel, it may fold on the lattice although it does not on its own grid.

    Attributes
    ----------
    matrix : torch.Tensor
        (3, 4), affine from voxel indices of the lattice to voxel indices of the working grid.
    shape : tuple of int
        Size of the lattice in voxels.
    """

    matrix: torch.Tensor
    shape: Shape


@torch.no_grad()
def remove_folds(
    state: torch.Tensor,
    operator: KernelOperator,
    *,
    steps: int,
    factor: int | None,
    lattice: Lattice | None = None,
) -> tuple[torch.Tensor, Geodesic]:
    """Return a state whose map ``phi^-1`` has no folds on the working grid, and its geodesic.

    Parameters
    ----------
    state : torch.Tensor
        Whitened momentum, (1, 3, x, y, z).
    operator : KernelOperator
        On its grid.
    steps : int
        Time steps of the shooting.
    factor : int or None
        The working grid is finer than the state's by this factor; None if no map is written and
        only the velocity grid matters.
    lattice : Lattice, optional
        The voxels at which the map will be sampled.

    Returns
    -------
    state : torch.Tensor
        The given state if it has no folds. All Jacobian determinants at the corners of the cells of
        the velocity grid, of the working grid and of the lattice are positive; on the latter two
        those of the map as it is written to files, see `maps.on_working_grid`.
    geodesic : Geodesic
        Shot from it, with both maps and the energies.
    """
    for attempt in range(MAX_ATTEMPTS):
        geodesic = _shoot(state, operator, steps)
        folded = _folds(geodesic.inverse, operator.spacing)
        if factor is not None and not bool(folded.any()):
            folded = _folds_in_files(geodesic.inverse, operator, factor, lattice)
        if not bool(folded.any()):
            return state, geodesic
        if attempt < LOCAL_ATTEMPTS:
            # If no map is written the result need not be the best; strong damping is faster.
            weak = factor is not None and attempt < WEAK_ATTEMPTS
            state = _damp_at(folded, state, geodesic, operator, WEAK if weak else STRONG)
        else:
            state = SHORTENING * state
    # Reached only by a state that is not finite; the identity has no folds.
    state = torch.zeros_like(state)
    return state, _shoot(state, operator, steps)


def _shoot(state: torch.Tensor, operator: KernelOperator, steps: int) -> Geodesic:
    # From the momentum alone, as it is stored, so that shooting it again is bit-identical.
    return shoot(operator.apply(state, -0.5), operator, steps=steps, energies=True)


@torch.no_grad()
def damp(state: torch.Tensor, geodesic: Geodesic, operator: KernelOperator) -> torch.Tensor:
    """Return a state that is damped once, weakly, where its geodesic folds.

    Fewer folds are left, from which an optimisation can continue.

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
    return _damp_at(folded, state, geodesic, operator, WEAK)


def _damp_at(
    folded: torch.Tensor,
    state: torch.Tensor,
    geodesic: Geodesic,
    operator: KernelOperator,
    damping: Damping,
) -> torch.Tensor:
    """Smooth and shrink a state where folds originate, with a smooth transition."""
    # Folds are detected in fixed space; the momentum is defined in moving space. They are pushed
    # there: where the map shrinks, no voxel of moving space may be near enough to sample them.
    origin = (push(folded, geodesic.inverse, operator.spacing) > 0).to(state.dtype)
    weight = box_mean(box_max(origin, damping.reach), 1)
    return torch.lerp(state, damping.factor * box_mean(state, 1), weight)


def _folds_in_files(
    displacement: torch.Tensor, operator: KernelOperator, factor: int, lattice: Lattice | None
) -> torch.Tensor:
    """Return where a map folds as written to files: zero at the border of the working grid."""
    fine = [h / factor for h in operator.spacing]
    window = taper([n * factor for n in operator.shape], fine, displacement)
    folded = _folds(displacement, operator.spacing, factor, window)
    if lattice is not None and not bool(folded.any()):
        folded = _folds_on_lattice(lattice, displacement, operator, factor)
    return folded


def _folds(
    displacement: torch.Tensor,
    spacing: Spacing,
    factor: int = 1,
    window: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return where a map folds on a finer grid, on which it is interpolated linearly.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z).
    spacing : float or sequence of float
    factor : int
        The other grid is finer by this factor.
    window : torch.Tensor, optional
        The displacement on the finer grid is multiplied by it, (factor X, factor Y, factor Z).

    Returns
    -------
    torch.Tensor
        (B, 1, X, Y, Z), on the map's own grid: 1 where the voxel's block contains the first voxel
        of a cell with a folded corner, 0 elsewhere.
    """
    folded = torch.zeros_like(displacement[:, :1])
    fine = [h / factor for h in spacing_tuple(spacing)]
    size = displacement.shape[2]
    # Slab by slab, to stay in the cache.
    thickness = max(1, SLAB // (factor**3 * math.prod(displacement.shape[3:])))
    for start in range(0, size, thickness):
        stop = min(start + thickness, size)
        low, high = max(start - 1, 0), min(stop + 1, size)
        planes = upsample(displacement[:, :, low:high], factor)
        if window is not None:
            planes = planes * window[factor * low : factor * high]
        # Including the first plane of the next slab, for the cells in between.
        first, last = factor * (start - low), factor * (stop - low)
        smallest = smallest_corner(planes[:, :, first : last + 1], fine)
        # Not "<= 0": a geodesic that diverged gives NaN, which is not a valid map either.
        cells = (~(smallest > 0))[:, None].to(folded.dtype)
        # There is no cell behind the last voxel along each axis.
        whole = functional.pad(cells, (0, 1, 0, 1, 0, int(stop == size)))
        folded[:, :, start:stop] = functional.max_pool3d(whole, factor) if factor > 1 else whole
    return folded


def _folds_on_lattice(
    lattice: Lattice, displacement: torch.Tensor, operator: KernelOperator, factor: int
) -> torch.Tensor:
    """Return where a map folds between the voxels of a lattice, as :func:`_folds` does."""
    cells = _suspicious_cells(lattice, displacement, operator, factor)
    whole = on_working_grid(displacement, operator, factor)
    corners = torch.tensor(CORNERS, dtype=cells.dtype, device=cells.device)
    positions = _positions(lattice, cells[:, None] + corners)  # (N, 8, 3)
    spacing = positions.new_tensor([h / factor for h in operator.spacing])
    mapped = positions * spacing + _interpolate(whole, positions)
    corner = {offset: mapped[:, number] for number, offset in enumerate(CORNERS)}
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
    voxels = _nearest_voxels(positions[folded].reshape(-1, 3), factor, result.shape[2:])
    x, y, z = voxels.unbind(1)
    result[0, 0, x, y, z] = 1
    return result


def _suspicious_cells(
    lattice: Lattice, displacement: torch.Tensor, operator: KernelOperator, factor: int
) -> torch.Tensor:
    """Return the first voxels (N, 3) of the cells of a lattice in which a map shrinks strongly."""
    if min(lattice.shape) < 2:  # a single slice has no cells
        return displacement.new_zeros((0, 3))
    tapered = displacement * taper(operator.shape, operator.spacing, displacement)
    small = smallest_corner(tapered, operator.spacing) < SUSPICIOUS_JACOBIAN
    small = functional.pad(small[:, None].to(displacement.dtype), (0, 1, 0, 1, 0, 1))
    # The value at the voxel nearest to a cell's centre must cover the whole extent of the cell.
    half = lattice.matrix[:, :3].abs().sum(dim=1) / (2 * factor)
    reach = [math.ceil(0.5 + float(h) + ROUNDING) for h in half]
    around = functional.max_pool3d(small, [2 * r + 1 for r in reach], stride=1, padding=reach)
    centres = _cell_centres(lattice, around, factor)
    suspicious = functional.grid_sample(
        around, centres, mode="nearest", padding_mode="border", align_corners=True
    )
    return suspicious[0, 0].nonzero().to(displacement.dtype)


def _cell_centres(lattice: Lattice, like: torch.Tensor, factor: int) -> torch.Tensor:
    """Return the centres of a lattice's cells on a coarser grid, for torch's `grid_sample`.

    Computed by torch from one matrix, which is fast for all cells.
    """
    cells, size = ([n - 1 for n in shape] for shape in (lattice.shape, like.shape[2:]))
    matrix = lattice.matrix.to(like)
    # From indices of cells to voxels of the coarser grid, then both scaled to -1 to 1.
    linear = matrix[:, :3] / factor
    offset = (matrix[:, :3].sum(dim=1) / 2 + matrix[:, 3] + 0.5) / factor - 0.5
    extent, last = matrix.new_tensor(cells) - 1, matrix.new_tensor(size)
    offset = 2 * (linear @ extent / 2 + offset) / last - 1
    linear = linear * extent / last[:, None]
    theta = torch.cat([linear.flip(0, 1), offset.flip(0)[:, None]], dim=1)
    return functional.affine_grid(theta[None], [1, 1, *cells], align_corners=True)


def _positions(lattice: Lattice, indices: torch.Tensor) -> torch.Tensor:
    """Return the positions of voxels (..., 3) of a lattice, in voxels of the working grid."""
    return indices @ lattice.matrix[:, :3].T + lattice.matrix[:, 3]


def _nearest_voxels(positions: torch.Tensor, factor: int, shape: torch.Size) -> torch.Tensor:
    """Return the voxels (N, 3) nearest to positions, of a grid coarser by a factor."""
    last = positions.new_tensor(shape) - 1
    return ((positions + 0.5) / factor - 0.5).round().clamp_min(0).minimum(last).long()


def _interpolate(field: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return a field (1, 3, X, Y, Z) at positions (N, M, 3) in voxels, (N, M, 3)."""
    last = positions.new_tensor(field.shape[2:]) - 1
    points = (positions * (2 / last) - 1).flip(-1)[None, None]
    values = functional.grid_sample(field, points, padding_mode="border", align_corners=True)
    return values[0, :, 0].permute(1, 2, 0)
