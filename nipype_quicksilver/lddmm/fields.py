"""Displacement fields on a regular grid: sampling, its adjoint, and composition.

A map ``x -> x + u(x)`` is stored as its displacement ``u``, (B, 3, X, Y, Z), in the unit of the
grid's spacing, components in the order of the axes. Voxel ``i`` along axis ``d`` is at
``spacing[d] * i``; outside the grid, sampling returns the value at the nearest point of its border.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.grids import Box

Spacing = float | Sequence[float]
Shape = tuple[int, int, int]

# Number of slabs into which a volume is cut to sample them in parallel on a CPU.
SLABS = 4


def spacing_tuple(spacing: Spacing) -> tuple[float, float, float]:
    """Return one spacing per axis.

    Examples
    --------
    >>> spacing_tuple(2)
    (2.0, 2.0, 2.0)
    """
    if isinstance(spacing, int | float):
        return (float(spacing),) * 3
    first, second, third = (float(h) for h in spacing)
    return first, second, third


def shape_of(field: torch.Tensor) -> Shape:
    """Return the grid's size (X, Y, Z) of a field (..., X, Y, Z)."""
    nx, ny, nz = field.shape[-3:]
    return nx, ny, nz


def sample(
    image: torch.Tensor,
    displacement: torch.Tensor,
    spacing: Spacing = 1.0,
    mode: str = "linear",
    box: Box | None = None,
) -> torch.Tensor:
    """Return ``image o (id + u)``: the image pulled back through a map.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z).
    displacement : torch.Tensor
        ``u``, (B, 3, x, y, z), on the same grid or in a box of it.
    spacing : float or sequence of float
    mode : {'linear', 'nearest'}
    box : Box, optional
        The box of the image's grid on which the displacement is given. Default: the whole grid.

    Returns
    -------
    torch.Tensor
        (B, C, x, y, z), on the grid or box of the displacement.
    """
    batch, shape = displacement.shape[0], shape_of(displacement)
    points = _normalized_points(displacement, shape_of(image), spacing_tuple(spacing), box)
    slabs = _slabs(displacement)
    points = points.reshape(batch * slabs, shape[0] // slabs, *shape[1:], 3)
    result = functional.grid_sample(
        image.expand(batch * slabs, -1, -1, -1, -1),
        points,
        mode="nearest" if mode == "nearest" else "bilinear",
        padding_mode="border",
        align_corners=True,
    )
    if slabs == 1:
        return result
    return result.transpose(0, 1).reshape(1, image.shape[1], *shape)


def push(density: torch.Tensor, displacement: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return the push-forward of a density: the mass of each voxel, moved by the map.

    This is the adjoint of sampling: ``sum f push(m) = sum m (f o (id + u))`` for every function
    ``f`` that is linear between voxels. Mass is conserved, so the determinant of the map is
    accounted for. The grid is periodic: mass that leaves it on one side enters on the other.

    Parameters
    ----------
    density : torch.Tensor
        ``m``, (B, C, X, Y, Z).
    displacement : torch.Tensor
        ``u``, (B, 3, X, Y, Z).
    spacing : float or sequence of float

    Returns
    -------
    torch.Tensor
        (B, C, X, Y, Z).
    """
    batch, shape = displacement.shape[0], shape_of(displacement)
    coordinates = []
    for axis, (size, h) in enumerate(zip(shape, spacing_tuple(spacing), strict=True)):
        voxels = torch.arange(size, dtype=displacement.dtype, device=displacement.device)
        position = torch.add(_along(axis, voxels), displacement[:, axis], alpha=1 / h)
        # On a grid with one more voxel along each axis, which coincides with the first one.
        coordinates.append(position.remainder(size) * (2 / size) - 1)
    points = torch.stack(coordinates[::-1], dim=1).permute(0, 2, 3, 4, 1)
    slabs = _slabs(displacement)
    points = points.reshape(batch * slabs, shape[0] // slabs, *shape[1:], 3)
    if slabs > 1:
        density = density[0].unflatten(1, (slabs, -1)).transpose(0, 1)
    pushed: torch.Tensor = _Push.apply(density, points, [k + 1 for k in shape])
    if slabs > 1:
        pushed = pushed.sum(dim=0, keepdim=True)
    for axis, size in zip((2, 3, 4), shape, strict=True):
        first = pushed.narrow(axis, 0, 1) + pushed.narrow(axis, size, 1)
        pushed = torch.cat([first, pushed.narrow(axis, 1, size - 1)], dim=axis)
    return pushed


class _Push(torch.autograd.Function):
    """The adjoint of torch's ``grid_sample``; torch has it, but it is not differentiable there.

    Values (N, C, x, y, z) at points (N, x, y, z, 3) give a field (N, C, *shape).
    """

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, points: torch.Tensor, shape: list[int]
    ) -> torch.Tensor:
        ctx.save_for_backward(values, points)
        like = values.new_zeros(()).expand(*values.shape[:2], *shape)
        return _sampling_gradients(values, like, points, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, points = ctx.saved_tensors
        gradient = gradients[0]
        sampled = functional.grid_sample(gradient, points, align_corners=True)
        return sampled, _sampling_gradients(values, gradient, points, [False, True])[1], None


def _sampling_gradients(
    gradient: torch.Tensor, image: torch.Tensor, points: torch.Tensor, needed: list[bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradients with respect to image and points, given that of the sampled values."""
    linear, zeros = 0, 0  # as torch numbers its modes
    result: tuple[torch.Tensor, torch.Tensor] = torch.ops.aten.grid_sampler_3d_backward(
        gradient.contiguous(), image, points, linear, zeros, True, needed
    )
    return result


def sample_voxels(
    image: torch.Tensor, voxels: torch.Tensor, displacement: torch.Tensor, spacing: Spacing
) -> torch.Tensor:
    """Return an image at a few displaced voxels only.

    Parameters
    ----------
    image : torch.Tensor
        (1, C, X, Y, Z).
    voxels : torch.Tensor
        (N,), index of each in the flattened grid.
    displacement : torch.Tensor
        (3, N).
    spacing : float or sequence of float

    Returns
    -------
    torch.Tensor
        (C, N).
    """
    shape = shape_of(image)
    points = torch.stack(
        [
            _unit_axis(size, image)[index] + component * (2 / ((size - 1) * h))
            for size, index, component, h in zip(
                shape,
                torch.unravel_index(voxels, shape),
                displacement,
                spacing_tuple(spacing),
                strict=True,
            )
        ][::-1],
        dim=1,
    )
    # As in `sample`, one part for each thread.
    parts = torch.get_num_threads() if image.device.type == "cpu" else 1
    points = functional.pad(points, (0, 0, 0, -len(points) % parts))
    result = functional.grid_sample(
        image.expand(parts, -1, -1, -1, -1),
        points.reshape(parts, 1, 1, -1, 3),
        padding_mode="border",
        align_corners=True,
    )
    return result.transpose(0, 1).reshape(image.shape[1], -1)[:, : len(voxels)]


def compose(outer: torch.Tensor, inner: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return the displacement of ``(id + outer) o (id + inner)``: ``inner`` is applied first."""
    return inner + sample(outer, inner, spacing)


def _slabs(field: torch.Tensor) -> int:
    """Return the number of slabs along x into which a field (B, C, X, Y, Z) is cut.

    On a CPU torch samples a batch in parallel, but a single volume on one thread. The number does
    not depend on the number of threads, since the sums of a gradient depend on it.
    """
    whole = len(field) > 1 or field.shape[2] % SLABS or field.device.type != "cpu"
    return 1 if whole else SLABS


def _normalized_points(
    displacement: torch.Tensor,
    shape: Shape,
    spacing: tuple[float, float, float],
    box: Box | None,
) -> torch.Tensor:
    """Return where a displacement points in torch's normalised coordinates, last axis first.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, x, y, z).
    shape : tuple of int
        Size of the grid that it points into.
    spacing : tuple of float
    box : Box or None
        Where the displacement is on that grid.

    Returns
    -------
    torch.Tensor
        (B, x, y, z, 3).
    """
    points = []
    parts = [slice(None)] * 3 if box is None else box[2:]
    for axis, (size, h, part) in enumerate(zip(shape, spacing, parts, strict=True)):
        voxels = _along(axis, _unit_axis(size, displacement)[part])
        points.append(torch.add(voxels, displacement[:, axis], alpha=2 / ((size - 1) * h)))
    return torch.stack(points[::-1], dim=1).permute(0, 2, 3, 4, 1)


def _unit_axis(size: int, like: torch.Tensor) -> torch.Tensor:
    """Return torch's normalised coordinates, -1 to 1, of the voxels along an axis."""
    return torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)


def _along(axis: int, values: torch.Tensor) -> torch.Tensor:
    """Return values along one of three axes, with sizes of 1 along the others."""
    return values.reshape([-1 if other == axis else 1 for other in range(3)])
