"""How unlike two images are, per voxel, weighed by a mask: the data term of the registration.

Every measure is an object made once from the fixed image, which then compares any number of
warped moving images with it. Its value is the sum over the grid of ``weight * dissimilarity``
with the dissimilarity of a voxel between 0 (alike) and about 1, so that one balance with the
regularity of the deformation fits all of them.
"""

from typing import Literal, Protocol

import torch
from torch.nn import functional

MeasureName = Literal["lncc", "ssd", "mind"]
MEASURES: tuple[MeasureName, ...] = ("lncc", "ssd", "mind")

# Standard deviation, in units of the normalised intensity, under which a window counts as flat.
FLOOR = 1e-3


class Measure(Protocol):
    """What the optimiser needs of a similarity measure."""

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighed dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""


class LocalCorrelation:
    """One minus the squared correlation in a window around every voxel.

    Blind to any locally linear change of intensity, so to bias fields (Avants et al., MedIA
    2008); the sums run over a cube of ``2 radius + 1`` voxels a side.
    """

    def __init__(self, fixed: torch.Tensor, radius: int = 2) -> None:
        self.fixed = fixed
        self.radius = radius
        self.mean, self.variance = _moments(fixed, radius)

    def __call__(self, moving: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the weighed dissimilarity, (B,), of a warped image (B, 1, X, Y, Z)."""
        return (weight * (1 - self.squared(moving))).sum(dim=(1, 2, 3, 4))

    def squared(self, moving: torch.Tensor) -> torch.Tensor:
        """Return the squared local correlation coefficient, (B, 1, X, Y, Z), 0 to 1."""
        mean, variance = _moments(moving, self.radius)
        covariance = box_mean(self.fixed * moving, self.radius) - self.mean * mean
        return covariance.square() / (variance * self.variance)


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
    classes = {"lncc": LocalCorrelation, "ssd": SquaredDifference, "mind": SelfSimilarity}
    if name not in classes:
        raise ValueError(f"'{name}' is not a similarity measure: give one of {', '.join(classes)}")
    return classes[name](fixed)


@torch.no_grad()
def mean_local_correlation(
    fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor
) -> float:
    """Return the weighed mean of the squared local correlation, 0 to 1; 0 for no weight at all."""
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return float((LocalCorrelation(fixed).squared(moving) * weight).sum() / total)


def box_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the mean over a cube of ``2 radius + 1`` voxels; zeros beyond the grid.

    Sums of shifted slices, axis by axis: seven times faster on a CPU than torch's pooling.
    """
    width = 2 * radius + 1
    for axis in (2, 3, 4):
        padding = [0] * 6
        padding[2 * (4 - axis)] = padding[2 * (4 - axis) + 1] = radius
        padded = functional.pad(image, padding)
        size = image.shape[axis]
        image = padded.narrow(axis, 0, size)
        for offset in range(1, width):
            image = image + padded.narrow(axis, offset, size)
    return image / width**3


def _moments(image: torch.Tensor, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the local mean and the local variance, never zero, of an image."""
    mean = box_mean(image, radius)
    variance = (box_mean(image.square(), radius) - mean.square()).clamp_min(0)
    return mean, variance + FLOOR**2


def _shifted(image: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    """Return the image moved by one voxel along an axis, its border repeated."""
    size = image.shape[axis]
    inner = image.narrow(axis, max(step, 0), size - 1)
    border = image.narrow(axis, size - 1 if step > 0 else 0, 1)
    return torch.cat([inner, border] if step > 0 else [border, inner], dim=axis)
