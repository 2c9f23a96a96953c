"""Derivatives of fields by differences; Jacobians of maps, in voxels and at the corners of cells.

A map ``x -> x + u(x)`` is stored as its displacement ``u``, as in `lddmm.fields`.
"""

from collections.abc import Iterator
from functools import reduce

import torch

from nipype_quicksilver.lddmm.fields import Spacing, spacing_tuple

# The corners of a cell, as offsets from its first voxel.
CORNERS = tuple((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))


def gradient(field: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return the central differences of a field, one-sided at the border.

    Parameters
    ----------
    field : torch.Tensor
        (B, C, X, Y, Z).
    spacing : float or sequence of float

    Returns
    -------
    torch.Tensor
        (B, C, 3, X, Y, Z), with the direction of the derivative as third axis.
    """
    return torch.stack(
        [
            _difference(field, axis, h)
            for axis, h in zip((2, 3, 4), spacing_tuple(spacing), strict=True)
        ],
        dim=2,
    )


def jacobian(displacement: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return ``D(id + u)``, (B, 3, 3, X, Y, Z), with rows of components, columns of directions."""
    eye = torch.eye(3, dtype=displacement.dtype, device=displacement.device)
    return gradient(displacement, spacing) + eye[None, :, :, None, None, None]


def determinant(matrix: torch.Tensor) -> torch.Tensor:
    """Return the determinants (B, 1, X, Y, Z) of matrices (B, 3, 3, X, Y, Z)."""
    # Unbinding instead of indexing, whose gradient would be a whole field of zeros each time.
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(1) for row in matrix.unbind(1))
    return (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))[:, None]


def corner_determinants(displacement: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return the Jacobians at the eight corners of every cell, by one-sided differences.

    A map that is trilinear between voxels is checked for folds at the corners of its cells. The
    eight combinations of forward and backward differences at a voxel are the corners of the eight
    cells that meet there.

    Returns
    -------
    torch.Tensor
        (B, 8, X - 1, Y - 1, Z - 1).
    """
    return torch.stack(list(_each_corner(displacement, spacing)), dim=1)


def smallest_corner(displacement: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return the smallest of the eight :func:`corner_determinants` of each cell; NaN if any is.

    Returns
    -------
    torch.Tensor
        (B, X - 1, Y - 1, Z - 1).
    """
    return reduce(torch.minimum, _each_corner(displacement, spacing))


def _each_corner(displacement: torch.Tensor, spacing: Spacing) -> Iterator[torch.Tensor]:
    """Yield the Jacobians of all cells, (B, X - 1, Y - 1, Z - 1), for one corner at a time."""
    edges = [
        displacement.diff(dim=axis + 2) / h + _unit(axis, displacement).reshape(1, 3, 1, 1, 1)
        for axis, h in enumerate(spacing_tuple(spacing))
    ]
    nx, ny, nz = (n - 1 for n in displacement.shape[2:])
    for i, j, k in CORNERS:
        x, y, z = slice(i, i + nx), slice(j, j + ny), slice(k, k + nz)
        yield _determinant_of_columns(
            edges[0][..., y, z], edges[1][..., x, :, z], edges[2][..., x, y, :]
        )


def jacobian_shortfall(
    displacement: torch.Tensor, spacing: Spacing, margin: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far the Jacobians at all corners of all cells fall short of a margin.

    Parameters
    ----------
    displacement : torch.Tensor
        (1, 3, X, Y, Z).
    spacing : float or sequence of float
    margin : float
        Jacobian below which a corner counts.

    Returns
    -------
    shortfall : torch.Tensor
        The sum over the corners of ``x^2 / (1 + x)`` with ``x = max(0, 1 - J / margin)``. It is
        differentiable: quadratic for small ``x``, linear in deep folds so that its gradient stays
        bounded. Gradients are computed for the few corners below the margin only.
    smallest : torch.Tensor
        The smallest Jacobian.
    """
    with torch.no_grad():
        jacobians = corner_determinants(displacement, spacing)[0]
        smallest = jacobians.min()
        corner, *cell = (jacobians < margin).nonzero().unbind(1)
    offset = torch.tensor(CORNERS, device=displacement.device)[corner].unbind(1)
    voxel = [c + o for c, o in zip(cell, offset, strict=True)]
    columns = []
    for axis, h in enumerate(spacing_tuple(spacing)):
        ends = []
        for end in (0, 1):
            at = [*voxel[:axis], cell[axis] + end, *voxel[axis + 1 :]]
            ends.append(displacement[0, :, at[0], at[1], at[2]][None])
        unit = _unit(axis, displacement).reshape(1, 3, 1)
        columns.append((ends[1] - ends[0]) / h + unit)
    shortfall = 1 - _determinant_of_columns(columns[0], columns[1], columns[2]) / margin
    return (shortfall.square() / (1 + shortfall)).sum(), smallest


def _unit(axis: int, like: torch.Tensor) -> torch.Tensor:
    """Return the unit vector along an axis, (3,)."""
    return torch.eye(3, dtype=like.dtype, device=like.device)[axis]


def _determinant_of_columns(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return ``det [x y z]`` for columns (B, 3, ...)."""
    (a, b, c), (d, e, f), (g, h, i) = (column.unbind(1) for column in (x, y, z))
    return a * (e * i - f * h) - d * (b * i - c * h) + g * (b * f - c * e)


def _difference(field: torch.Tensor, axis: int, spacing: float) -> torch.Tensor:
    """Return the central differences along one axis, one-sided at the border."""
    size = field.shape[axis]
    inner = (field.narrow(axis, 2, size - 2) - field.narrow(axis, 0, size - 2)) / (2 * spacing)
    first = (field.narrow(axis, 1, 1) - field.narrow(axis, 0, 1)) / spacing
    last = (field.narrow(axis, size - 1, 1) - field.narrow(axis, size - 2, 1)) / spacing
    return torch.cat([first, inner, last], dim=axis)
