"""Dissimilarity of two images, weighted by a mask: the data term of the registration.

Every measure is an object made from the fixed image, which compares any number of warped moving
images with it. Its value is the sum over the grid of ``weight * dissimilarity``. The dissimilarity
of a voxel is 0 where the images match and about 1 where they do not, so that one weight of the
regularisation suits all measures. Only squared differences are not bounded: they are 1 at a
difference of a fifth of the range of intensities.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional

# Standard deviation, in normalised intensities, below which a window counts as flat.
FLOOR = 1e-3

# Mean weight in a window, 0 to 1, below which the window counts as empty.
SMALLEST_WEIGHT = 1e-3

# Number of values summed at a time on a CPU, so that they stay in the cache.
SLAB = 1 << 20


class Measure(Protocol):
    """A similarity measure as the optimiser uses it."""

    def __init__(self, fixed: torch.Tensor) -> None: ...

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighted dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""


class LocalCorrelation:
    """One minus the squared correlation in a window around every voxel.

    Invariant to any locally linear change of intensity, and therefore to bias fields (Avants et
    al., MedIA 2008). The window is a cube of ``2 radius + 1`` voxels per side, in which every voxel
    counts by its weight: voxels without weight do not affect their neighbours either.
    """

    def __init__(self, fixed: torch.Tensor, radius: int = 2) -> None:
        self.fixed = fixed
        self.radius = radius
        self._weight: torch.Tensor | None = None

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighted dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
        return (weight * (1 - self.squared(moving, weight))).sum(dim=(1, 2, 3, 4))

    def squared(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the squared local correlation coefficient, (B, 1, X, Y, Z), 0 to 1."""
        _, variance, covariance = self._moments(moving, weight)
        return covariance.square() / (variance * self._variance)

    @torch.no_grad()
    def gradient_wrt_fixed(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the weighted dissimilarity with respect to the fixed image.

        In closed form, which is faster than automatic differentiation: a voxel contributes to the
        covariance and the variance of all windows that contain it.
        """
        mean, variance, covariance = self._moments(moving, weight)
        of_moving = 2 * weight * covariance / (self._norm * variance * self._variance)
        of_fixed = of_moving * covariance / self._variance
        offset = of_moving * mean - of_fixed * self._mean
        parts = box_mean(torch.cat([of_moving, of_fixed, offset], dim=1), self.radius)
        of_moving, of_fixed, offset = parts.split(1, dim=1)
        return self._relative_weight * (of_fixed * self.fixed - of_moving * moving + offset)

    def _moments(
        self, moving: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return mean and variance of the moving image in the windows, and the covariance."""
        self._set_weight(weight)
        weighted = self._relative_weight * moving
        sums = torch.cat([weighted, weighted * moving, weighted * self.fixed], dim=1)
        mean, square, product = (box_mean(sums, self.radius) / self._norm).split(1, dim=1)
        variance = (square - mean.square()).clamp_min(0) + FLOOR**2
        return mean, variance, product - self._mean * mean

    def _set_weight(self, weight: torch.Tensor) -> None:
        """Precompute what depends on the fixed image and the weight only, if the weight is new."""
        if weight is self._weight:
            return
        self._weight = weight
        self._relative_weight = weight / weight.max().clamp_min(torch.finfo(weight.dtype).tiny)
        self._norm = box_mean(self._relative_weight, self.radius).clamp_min(SMALLEST_WEIGHT)
        weighted = self._relative_weight * self.fixed
        sums = torch.cat([weighted, weighted * self.fixed], dim=1)
        self._mean, square = (box_mean(sums, self.radius) / self._norm).split(1, dim=1)
        self._variance = (square - self._mean.square()).clamp_min(0) + FLOOR**2


class SquaredDifference:
    """The squared difference of intensities over ``sigma^2``; the original method's measure."""

    def __init__(self, fixed: torch.Tensor, sigma: float = 0.2) -> None:
        self.fixed = fixed
        self.sigma = sigma

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighted dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
        return (weight * ((moving - self.fixed) / self.sigma).square()).sum(dim=(1, 2, 3, 4))


class SelfSimilarity:
    """The distance of the images' self-similarity descriptors, for images of different contrasts.

    The modality independent neighbourhood descriptor of a voxel is the similarity of the patch
    around it to the patches around its six neighbours, relative to the local noise (Heinrich et
    al., MedIA 2012). The distance is the mean absolute difference of the descriptors.
    """

    def __init__(self, fixed: torch.Tensor, radius: int = 1) -> None:
        self.radius = radius
        self.descriptor = self._describe(fixed)

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighted dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
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


def measure(name: str, fixed: torch.Tensor) -> Measure:
    """Return a similarity measure by name, for one fixed image (B, 1, X, Y, Z).

    Raises
    ------
    ValueError
        If there is no measure of this name.
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
    """Return the weighted mean of the squared local correlation, 0 to 1; 0 without any weight."""
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return float((LocalCorrelation(fixed).squared(moving, weight) * weight).sum() / total)


def local_mean(image: torch.Tensor, weight: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the weighted mean over a cube of ``2 radius + 1`` voxels; 0 where the weight is 0.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z).
    weight : torch.Tensor
        (B, 1, X, Y, Z), 0 to 1.
    radius : int

    Returns
    -------
    torch.Tensor
        (B, C, X, Y, Z).
    """
    norm = box_mean(weight, radius).clamp_min(SMALLEST_WEIGHT)
    return box_mean(weight * image, radius) / norm


def box_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the mean over a cube of ``2 radius + 1`` voxels, with zeros outside the grid."""
    mean: torch.Tensor = _BoxMean.apply(image, radius)
    return mean


def box_max(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the largest value in a cube of ``2 radius + 1`` voxels."""
    return _pooled(functional.max_pool3d, image, radius)


def pooled_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return :func:`box_mean` computed by torch's pooling, without a custom gradient."""
    return _pooled(functional.avg_pool3d, image, radius)


def _pooled(pool: Callable[..., torch.Tensor], image: torch.Tensor, radius: int) -> torch.Tensor:
    """Pool over cubes, one axis after the other, which takes a tenth of the operations."""
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * radius + 1, radius
        image = pool(image, size, stride=1, padding=padding)
    return image


class _BoxMean(torch.autograd.Function):
    """A mean over cubes, which is its own adjoint.

    On a CPU, sums of shifted slices are computed axis by axis in slabs that stay in the cache:
    several times faster than torch's pooling. Automatic differentiation would fill a whole grid
    with zeros for the gradient of every slice. On a GPU pooling is faster, since each slice would
    be a kernel launch.
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
    """Return the sum over each voxel and up to `radius` voxels on both sides along an axis."""
    size = image.shape[axis]
    total = image.clone(memory_format=torch.contiguous_format)
    for offset in range(1, min(radius, size - 1) + 1):
        total.narrow(axis, offset, size - offset).add_(image.narrow(axis, 0, size - offset))
        total.narrow(axis, 0, size - offset).add_(image.narrow(axis, offset, size - offset))
    return total


def _shifted(image: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    """Return the image shifted by one voxel along an axis, with its border repeated."""
    size = image.shape[axis]
    inner = image.narrow(axis, max(step, 0), size - 1)
    border = image.narrow(axis, size - 1 if step > 0 else 0, 1)
    return torch.cat([inner, border] if step > 0 else [border, inner], dim=axis)
