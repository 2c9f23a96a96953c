"""Boxes of a grid, and grids that are coarser or finer by a whole factor."""

from collections.abc import Sequence

import torch
from torch.nn import functional

#: A part of a grid: one slice for each dimension of a field (B, C, X, Y, Z), the first two whole.
Box = tuple[slice, ...]


def bounding_box(weight: torch.Tensor, multiple: int = 1, margin: int = 0) -> Box:
    """Return the smallest box that contains all weight; the whole grid where there is none.

    Parameters
    ----------
    weight : torch.Tensor
        (B, C, X, Y, Z).
    multiple : int
        The box begins and ends at multiples of this number of voxels, or where the grid ends.
    margin : int
        At least this number of voxels is added around the weight, as far as the grid extends.

    Returns
    -------
    Box
    """
    inside = (weight > 0).flatten(0, 1).any(dim=0)
    box = [slice(None)] * 2
    for axis, size in enumerate(inside.shape):
        others = [other for other in range(3) if other != axis]
        where = inside.any(dim=others[1]).any(dim=others[0]).nonzero()
        first, last = (int(where[0]), int(where[-1])) if len(where) else (0, size - 1)
        start = max(first - margin, 0) // multiple * multiple
        stop = ((last + margin) // multiple + 1) * multiple
        box.append(slice(start, min(stop, size)))
    return tuple(box)


def embed(part: torch.Tensor, box: Box, shape: Sequence[int]) -> torch.Tensor:
    """Return a field on a whole grid that is zero outside a box.

    Parameters
    ----------
    part : torch.Tensor
        (B, C, x, y, z), the field in the box.
    box : Box
    shape : sequence of int
        Size (X, Y, Z) of the grid.

    Returns
    -------
    torch.Tensor
        (B, C, X, Y, Z).
    """
    ends = [
        (b.start, size - b.stop) for b, size in zip(reversed(box[2:]), reversed(shape), strict=True)
    ]
    return functional.pad(part, [n for end in ends for n in end])


def pool(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Return the means over blocks of ``factor`` voxels per axis: a cell-centred coarser grid."""
    return functional.avg_pool3d(image, factor) if factor > 1 else image


def upsample(field: torch.Tensor, factor: int) -> torch.Tensor:
    """Return a field on the cell-centred grid ``factor`` times finer, trilinear between voxels."""
    if factor == 1:
        return field
    for axis in (2, 3, 4):
        field = _upsample_axis(field, axis, factor)
    return field


def upsample_within(field: torch.Tensor, factor: int, box: Box) -> torch.Tensor:
    """Return ``upsample(field, factor)[box]`` without computing what is outside the box.

    Parameters
    ----------
    field : torch.Tensor
        (B, C, X, Y, Z).
    factor : int
    box : Box
        On the finer grid.

    Returns
    -------
    torch.Tensor
        (B, C, x, y, z), of the size of the box.
    """
    if factor == 1:
        return field[box]
    around, inner = list(box[:2]), list(box[:2])
    for part, size in zip(box[2:], field.shape[2:], strict=True):
        # One more voxel at each end: the box contains voxels between it and its neighbour.
        first = max(part.start // factor - 1, 0)
        around.append(slice(first, min(-(-part.stop // factor) + 1, size)))
        inner.append(slice(part.start - factor * first, part.stop - factor * first))
    return upsample(field[tuple(around)], factor)[tuple(inner)]


def _upsample_axis(field: torch.Tensor, axis: int, factor: int) -> torch.Tensor:
    """Interpolate linearly along one axis; several times faster than torch's 3-D interpolate."""
    size = field.shape[axis]
    padded = torch.cat([field.narrow(axis, 0, 1), field, field.narrow(axis, size - 1, 1)], axis)
    below, here, above = (padded.narrow(axis, start, size) for start in (0, 1, 2))
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        neighbour = below if offset < 0 else above
        phases.append(torch.lerp(here, neighbour, abs(offset)))
    return torch.stack(phases, dim=axis + 1).flatten(axis, axis + 1)
