"""Displacement fields on a regular grid: sampling, composition, inversion, change of grid.

A map ``x -> x + u(x)`` is stored as its displacement ``u``, (B, 3, X, Y, Z), in the unit of the
grid's spacing, components in the order of the axes. Voxel ``i`` along axis ``d`` sits at
``spacing[d] * i``; sampling beyond the grid takes the value at its border.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

Spacing = float | Sequence[float]
Shape = tuple[int, int, int]

#: A part of a grid: one slice for each dimension of a field (B, C, X, Y, Z), the first two whole.
Box = tuple[slice, ...]


# Slabs of a volume that are sampled at the same time on a CPU.
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


def bounding_box(weight: torch.Tensor, multiple: int = 1, margin: int = 0) -> Box:
    """Return the smallest box in which all weight lies; the whole grid where there is none.

    Parameters
    ----------
    weight : torch.Tensor
        (B, C, X, Y, Z).
    multiple : int
        The box begins and ends at multiples of so many voxels, or where the grid ends.
    margin : int
        At least so many voxels lie around the weight, as far as the grid goes.

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


def placed(part: torch.Tensor, box: Box, shape: Sequence[int]) -> torch.Tensor:
    """Return a field (B, C, x, y, z) in its box of a grid of the shape (X, Y, Z), else zeros."""
    ends = [
        (b.start, size - b.stop) for b, size in zip(reversed(box[2:]), reversed(shape), strict=True)
    ]
    return functional.pad(part, [n for end in ends for n in end])


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
        Where on the image's grid the displacement lies.

    Returns
    -------
    torch.Tensor
        (B, C, x, y, z), where the displacement is.
    """
    batch, shape = displacement.shape[0], shape_of(displacement)
    points = _in_unit_cube(displacement, shape_of(image), spacing_tuple(spacing), box)
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
    """Return the push-forward of a density: what each voxel holds, carried to where it goes.

    The adjoint of sampling: ``sum f push(m) = sum m (f o (id + u))`` for every function ``f`` that
    is linear between voxels. So nothing is lost, and the determinant of the map is accounted for.
    The grid is periodic: what leaves it on one side comes back on the other.

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
    places = []
    for axis, (size, h) in enumerate(zip(shape, spacing_tuple(spacing), strict=True)):
        voxels = torch.arange(size, dtype=displacement.dtype, device=displacement.device)
        place = torch.add(_along(axis, voxels), displacement[:, axis], alpha=1 / h)
        # On a grid with one voxel more along each axis, which is the first one again.
        places.append(place.remainder(size) * (2 / size) - 1)
    points = torch.stack(places[::-1], dim=1).permute(0, 2, 3, 4, 1)
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
    """The adjoint of torch's ``grid_sample``, which torch has, but without a gradient of its own.

    With values (N, C, x, y, z) at points (N, x, y, z, 3), it gives (N, C, *shape).
    """

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, points: torch.Tensor, shape: list[int]
    ) -> torch.Tensor:
        ctx.save_for_backward(values, points)
        like = values.new_zeros(()).expand(*values.shape[:2], *shape)
        return _slopes_of_sampling(values, like, points, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, points = ctx.saved_tensors
        gradient = gradients[0]
        sampled = functional.grid_sample(gradient, points, align_corners=True)
        return sampled, _slopes_of_sampling(values, gradient, points, [False, True])[1], None


def _slopes_of_sampling(
    slope: torch.Tensor, image: torch.Tensor, points: torch.Tensor, wanted: list[bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of sampling by image and points, given that by the sampled values."""
    linear, zeros = 0, 0  # as torch numbers its modes
    result: tuple[torch.Tensor, torch.Tensor] = torch.ops.aten.grid_sampler_3d_backward(
        slope.contiguous(), image, points, linear, zeros, True, wanted
    )
    return result


def compose(outer: torch.Tensor, inner: torch.Tensor, spacing: Spacing = 1.0) -> torch.Tensor:
    """Return the displacement of ``(id + outer) o (id + inner)``: ``inner`` is applied first."""
    return inner + sample(outer, inner, spacing)


def invert(
    displacement: torch.Tensor,
    initial: torch.Tensor,
    spacing: Spacing = 1.0,
    iterations: int = 8,
    tolerance: float = 0.0,
) -> torch.Tensor:
    """Return the displacement ``v`` of the inverse map, ``v(y) + u(y + v(y)) = 0``.

    Newton's method without matrices: where the guess ``g = id + v`` misses ``y`` by ``r``, it hit
    ``y`` from about ``y - r``, so ``g(y - r)`` is the better guess. Only voxels that miss by more
    than the tolerance are gone through again; where a step does not bring the point closer it is
    halved, so that the result is nowhere farther from the inverse than the first guess.

    Parameters
    ----------
    displacement : torch.Tensor
        ``u``, (B, 3, X, Y, Z), without folds.
    initial : torch.Tensor
        A first guess of ``v``; zeros where nothing is known.
    spacing : float or sequence of float
    iterations : int
    tolerance : float
        In the unit of the spacing.

    Returns
    -------
    torch.Tensor
        (B, 3, X, Y, Z).
    """
    residual = compose(displacement, initial, spacing)
    inverse = initial.clone(memory_format=torch.contiguous_format)
    for item in range(len(inverse)):
        one = slice(item, item + 1)
        _improve(inverse[one], residual[one], displacement[one], spacing, iterations, tolerance)
    return inverse


def _improve(
    inverse: torch.Tensor,
    residual: torch.Tensor,
    displacement: torch.Tensor,
    spacing: Spacing,
    iterations: int,
    tolerance: float,
) -> None:
    """Take steps towards the inverse in place, see :func:`invert`; batch of one."""
    guess, missed = inverse.view(3, -1), residual.reshape(3, -1)
    length = torch.ones_like(missed[0])
    for _ in range(iterations):
        far = (_squared_length(missed[None])[0, 0] > tolerance**2).nonzero()[:, 0]
        if len(far) == 0:
            return
        before, share = missed[:, far], length[far]
        step = -share * before
        candidate = step + _sample_at(inverse, far, step, spacing)
        remaining = candidate + _sample_at(displacement, far, candidate, spacing)
        better = _squared_length(remaining[None])[0] < _squared_length(before[None])[0]
        guess[:, far] = torch.where(better, candidate, guess[:, far])
        missed[:, far] = torch.where(better, remaining, before)
        length[far] = torch.where(better[0], (2 * share).clamp_max(1), 0.5 * share)


def pool(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Return the averages over blocks of ``factor`` voxels an axis: a cell-centred coarser grid."""
    return functional.avg_pool3d(image, factor) if factor > 1 else image


def upsample(field: torch.Tensor, factor: int) -> torch.Tensor:
    """Return a field on the cell-centred grid ``factor`` times finer, trilinear between voxels."""
    if factor == 1:
        return field
    for axis in (2, 3, 4):
        field = _upsample_axis(field, axis, factor)
    return field


def upsample_within(field: torch.Tensor, factor: int, box: Box) -> torch.Tensor:
    """Return ``upsample(field, factor)[box]`` without the work outside of the box.

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
        # One voxel more at each end: between it and its neighbour lie voxels of the box.
        first = max(part.start // factor - 1, 0)
        around.append(slice(first, min(-(-part.stop // factor) + 1, size)))
        inner.append(slice(part.start - factor * first, part.stop - factor * first))
    return upsample(field[tuple(around)], factor)[tuple(inner)]


def _upsample_axis(field: torch.Tensor, axis: int, factor: int) -> torch.Tensor:
    """Linear interpolation along one axis; several times faster than torch's 3-D interpolate."""
    size = field.shape[axis]
    padded = torch.cat([field.narrow(axis, 0, 1), field, field.narrow(axis, size - 1, 1)], axis)
    below, here, above = (padded.narrow(axis, start, size) for start in (0, 1, 2))
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        neighbour = below if offset < 0 else above
        phases.append(torch.lerp(here, neighbour, abs(offset)))
    return torch.stack(phases, dim=axis + 1).flatten(axis, axis + 1)


def _sample_at(
    image: torch.Tensor, voxels: torch.Tensor, displacement: torch.Tensor, spacing: Spacing
) -> torch.Tensor:
    """Return an image (1, C, X, Y, Z) at some displaced voxels only, (C, N).

    Parameters
    ----------
    image : torch.Tensor
    voxels : torch.Tensor
        (N,), index of each in the flattened grid.
    displacement : torch.Tensor
        (3, N).
    spacing : float or sequence of float
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


# Torch's own reduction over a leading axis of three is not fast.


def _squared_length(field: torch.Tensor) -> torch.Tensor:
    x, y, z = field.split(1, dim=1)
    return x * x + y * y + z * z


def _slabs(field: torch.Tensor) -> int:
    """Return into how many slabs a field (B, C, X, Y, Z) is cut along x.

    On a CPU torch samples a batch in parallel, but one volume on one thread. The number is fixed,
    as the sums of a gradient depend on it, and shall not on the threads.
    """
    whole = len(field) > 1 or field.shape[2] % SLABS or field.device.type != "cpu"
    return 1 if whole else SLABS


def _in_unit_cube(
    displacement: torch.Tensor,
    shape: Shape,
    spacing: tuple[float, float, float],
    box: Box | None,
) -> torch.Tensor:
    """Return where a displacement leads to in torch's normalised coordinates, (B, x, y, z, 3).

    Torch has the last axis first.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, x, y, z).
    shape : tuple of int
        Of the grid that it leads to.
    spacing : tuple of float
    box : Box or None
        Where the displacement lies on that grid.
    """
    points = []
    parts = [slice(None)] * 3 if box is None else box[2:]
    for axis, (size, h, part) in enumerate(zip(shape, spacing, parts, strict=True)):
        home = _along(axis, _unit_axis(size, displacement)[part])
        points.append(torch.add(home, displacement[:, axis], alpha=2 / ((size - 1) * h)))
    return torch.stack(points[::-1], dim=1).permute(0, 2, 3, 4, 1)


def _unit_axis(size: int, like: torch.Tensor) -> torch.Tensor:
    """Return torch's normalised coordinates of the voxels along an axis."""
    return torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)


def _along(axis: int, values: torch.Tensor) -> torch.Tensor:
    """Return values along one of three axes, to be broadcast over the others."""
    return values.reshape([-1 if other == axis else 1 for other in range(3)])
