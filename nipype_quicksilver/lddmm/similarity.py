"""How unlike two images are, per voxel, weighed by a mask: the data term of the registration.

Every measure is an object made once from the fixed image, which then compares any number of
warped moving images with it. Its value is the sum over the grid of ``weight * dissimilarity``
with the dissimilarity of a voxel 0 where images are alike and about 1 where they are not, so that
one balance with the regularity of the deformation fits all of them. Only squared differences go
beyond: they are 1 at a fifth of the range of intensities.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.settings import MeasureName

# Standard deviation, in units of the normalised intensity, under which a window counts as flat.
FLOOR = 1e-3

# Part of a window's weight under which the window counts as empty.
SMALLEST_SHARE = 1e-3

# Values that are summed at a time on a CPU, so that they stay in the cache.
SLAB = 1 << 20


class Measure(Protocol):
    """What the optimiser needs of a similarity measure."""

    def __init__(self, fixed: torch.Tensor) -> None: ...

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighed dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""


class LocalCorrelation:
    """One minus the squared correlation in a window around every voxel.

    Blind to any locally linear change of intensity, so to bias fields (Avants et al., MedIA
    2008). The window is a cube of ``2 radius + 1`` voxels a side, in which every voxel counts by
    its weight: what has no weight is not looked at from outside either.
    """

    def __init__(self, fixed: torch.Tensor, radius: int = 2) -> None:
        self.fixed = fixed
        self.radius = radius
        self._weight: torch.Tensor | None = None

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighed dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
        return (weight * (1 - self.squared(moving, weight))).sum(dim=(1, 2, 3, 4))

    def squared(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the squared local correlation coefficient, (B, 1, X, Y, Z), 0 to 1."""
        _, variance, covariance = self._moments(moving, weight)
        return covariance.square() / (variance * self._variance)

    @torch.no_grad()
    def slope_of_fixed(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the weighed dissimilarity by the fixed image's intensities.

        In closed form, which is faster than automatic differentiation: a voxel counts in the
        covariance and the variance of all windows that it is in.
        """
        mean, variance, covariance = self._moments(moving, weight)
        of_moving = 2 * weight * covariance / (self._norm * variance * self._variance)
        of_fixed = of_moving * covariance / self._variance
        offset = of_moving * mean - of_fixed * self._mean
        parts = box_mean(torch.cat([of_moving, of_fixed, offset], dim=1), self.radius)
        of_moving, of_fixed, offset = parts.split(1, dim=1)
        return self._share * (of_fixed * self.fixed - of_moving * moving + offset)

    def _moments(
        self, moving: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return mean and variance of the moving image in the windows, and the covariance."""
        self._weigh(weight)
        weighed = self._share * moving
        sums = torch.cat([weighed, weighed * moving, weighed * self.fixed], dim=1)
        mean, square, product = (box_mean(sums, self.radius) / self._norm).split(1, dim=1)
        variance = (square - mean.square()).clamp_min(0) + FLOOR**2
        return mean, variance, product - self._mean * mean

    def _weigh(self, weight: torch.Tensor) -> None:
        """Compute what depends on the fixed image and the weight only, if the weight is new."""
        if weight is self._weight:
            return
        self._weight = weight
        self._share = weight / weight.max().clamp_min(torch.finfo(weight.dtype).tiny)
        self._norm = box_mean(self._share, self.radius).clamp_min(SMALLEST_SHARE)
        weighed = self._share * self.fixed
        sums = torch.cat([weighed, weighed * self.fixed], dim=1)
        self._mean, square = (box_mean(sums, self.radius) / self._norm).split(1, dim=1)
        self._variance = (square - self._mean.square()).clamp_min(0) + FLOOR**2


class SquaredDifference:
    """The squared difference of intensities over ``sigma^2``; the original method's measure."""

    def __init__(self, fixed: torch.Tensor, sigma: float = 0.2) -> None:
        self.fixed = fixed
        self.sigma = sigma

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighed dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
        return (weight * ((moving - self.fixed) / self.sigma).square()).sum(dim=(1, 2, 3, 4))


class SelfSimilarity:
    """The distance of the images' self-similarity descriptors, for images of other contrasts.

    The modality independent neighbourhood descriptor of a voxel says how alike the patch around
    it is to the patches around its six neighbours, relative to the local noise (Heinrich et al.,
    MedIA 2012). The distance is the mean absolute difference of the descriptors.
    """

    def __init__(self, fixed: torch.Tensor, radius: int = 1) -> None:
        self.radius = radius
        self.descriptor = self._describe(fixed)

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighed dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
        distance = (self._describe(moving) - self.descriptor).abs().mean(dim=1, keepdim=True)
        return (weight * distance).sum(dim=(1, 2, 3, 4))

    def _describe(self, image: torch.Tensor) -> torch.Tensor:
        """Return the descriptors (B, 6, X, Y, Z), each 0 to 1."""
        distances = torch.cat(
            [
                box_mean((image - _shifted(image, axis, step)).square(), self.radius)
                for axis in (2, 3, 4)
                for step in (-1, 1)
            ],
            dim=1,
        )
        smallest = distances.amin(dim=1, keepdim=True)
        noise = distances.mean(dim=1, keepdim=True) + FLOOR**2
        return torch.exp(-(distances - smallest) / noise)


def measure(name: MeasureName, fixed: torch.Tensor) -> Measure:
    """Return the similarity measure of a name, made for one fixed image (B, 1, X, Y, Z).

    Raises
    ------
    ValueError
        If there is no measure of that name.
    """
    classes: dict[str, type[Measure]] = {
        "lncc": LocalCorrelation,
        "ssd": SquaredDifference,
        "mind": SelfSimilarity,
    }
    if name not in classes:
        raise ValueError(f"'{name}' is not a similarity measure: give one of {', '.join(classes)}")
    return classes[name](fixed)


@torch.no_grad()
def mean_local_correlation(
    fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor
) -> float:
    """Return the weighed mean of the squared local correlation, 0 to 1; 0 for no weight at all."""
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return float((LocalCorrelation(fixed).squared(moving, weight) * weight).sum() / total)


def local_mean(image: torch.Tensor, weight: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the weighed mean over a cube of ``2 radius + 1`` voxels; 0 where nothing has weight.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z), 0 to 1.
    radius : int
    """
    share = box_mean(weight, radius).clamp_min(SMALLEST_SHARE)
    return box_mean(weight * image, radius) / share


def box_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the mean over a cube of ``2 radius + 1`` voxels; zeros beyond the grid."""
    mean: torch.Tensor = _BoxMean.apply(image, radius)
    return mean


def box_max(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the largest value in a cube of ``2 radius + 1`` voxels."""
    return _pooled(functional.max_pool3d, image, radius)


def pooled_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return what :func:`box_mean` does, by torch's pooling and without a gradient of its own."""
    return _pooled(functional.avg_pool3d, image, radius)


def _pooled(pool: Callable[..., torch.Tensor], image: torch.Tensor, radius: int) -> torch.Tensor:
    """Pool over cubes, one axis after the other, which is a tenth of the work."""
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * radius + 1, radius
        image = pool(image, size, stride=1, padding=padding)
    return image


class _BoxMean(torch.autograd.Function):
    """A mean over cubes, which is its own adjoint.

    On a CPU, sums of shifted slices, axis by axis, in slabs that stay in the cache: several times
    faster than torch's pooling. Left to itself, torch would fill a whole grid with zeros for the
    gradient of every slice. A GPU pools, as each slice would cost it a start.
    """

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor, radius: int) -> torch.Tensor:
        ctx.radius = radius
        if image.device.type != "cpu":
            return pooled_mean(image, radius)
        total = _with_neighbours(image, 2, radius)
        planes = max(1, SLAB * image.shape[2] // image.numel())
        for part in total.split(planes, dim=2):
            sums = _with_neighbours(_with_neighbours(part, 3, radius), 4, radius)
            torch.div(sums, (2 * radius + 1) ** 3, out=part)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return box_mean(gradients[0], ctx.radius), None


def _with_neighbours(image: torch.Tensor, axis: int, radius: int) -> torch.Tensor:
    """Return the sum over up to so many voxels before and behind each along an axis."""
    size = image.shape[axis]
    total = image.clone(memory_format=torch.contiguous_format)
    for offset in range(1, min(radius, size - 1) + 1):
        total.narrow(axis, offset, size - offset).add_(image.narrow(axis, 0, size - offset))
        total.narrow(axis, 0, size - offset).add_(image.narrow(axis, offset, size - offset))
    return total


def _shifted(image: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    """Return the image moved by one voxel along an axis, its border repeated."""
    size = image.shape[axis]
    inner = image.narrow(axis, max(step, 0), size - 1)
    border = image.narrow(axis, size - 1 if step > 0 else 0, 1)
    return torch.cat([inner, border] if step > 0 else [border, inner], dim=axis)
