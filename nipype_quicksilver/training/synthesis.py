"""Pairs of brain images made from label maps, new ones in every iteration of a training.

A brain is held as the share of each class in each voxel, so that an image of any contrast is one
weighed sum, with exact partial volumes. Shapes vary by random affines and random geodesics.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.fields import Shape, compose, sample, upsample
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import box_mean
from nipype_quicksilver.spatial.intensity import with_like_contrast

#: By which the grid of the random geodesics is coarser than that of the images.
GEODESIC_FACTOR = 4


@dataclass(frozen=True)
class Tissues:
    """What the classes of a brain look like.

    Attributes
    ----------
    groups : tuple of int
        For each class the number of its tissue; left and right sides share one.
    t1w, t2w : tuple of float
        Mean intensity of each tissue.
    scored : int
        The overlap of the first so many classes counts.
    """

    groups: tuple[int, ...]
    t1w: tuple[float, ...]
    t2w: tuple[float, ...]
    scored: int


@dataclass(frozen=True)
class Ranges:
    """How much synthesised images vary; lengths in millimetres, the rest relative.

    Attributes
    ----------
    rotation : float
        Standard deviation of the angles about each axis, in degrees.
    scaling : float
        Of the logarithm of the size along each axis, and of shears.
    translation : float
    common_rotation : float
        The same for both brains of a pair: their pose on the grid.
    geodesic : float
        Largest root mean square of the initial velocity of a random geodesic.
    contrast : float
        Standard deviation of a tissue's mean between subjects.
    texture : float
        Largest standard deviation within a tissue.
    noise, bias : float
        Largest standard deviations of the noise and of the logarithm of the bias field.
    other_contrast : float
        Share of pairs of different contrasts.
    """

    rotation: float = 1.5
    scaling: float = 0.015
    translation: float = 1.0
    common_rotation: float = 6.0
    geodesic: float = 1.5
    contrast: float = 0.05
    texture: float = 0.06
    noise: float = 0.04
    bias: float = 0.2
    other_contrast: float = 0.3


@dataclass(frozen=True)
class Scan:
    """A real image of a brain.

    Attributes
    ----------
    image, brain : torch.Tensor
        (1, 1, X, Y, Z), 0 outside the brain, robust maximum 1; share of the brain in each voxel.
    classes : torch.Tensor, optional
        (C, X, Y, Z): share of each class, where it is known.
    """

    image: torch.Tensor
    brain: torch.Tensor
    classes: torch.Tensor | None = None


@dataclass(frozen=True)
class Pair:
    """Two brains to be registered.

    Attributes
    ----------
    fixed, moving : torch.Tensor
        (1, 1, X, Y, Z), intensities from 0 to 1.5 with robust maximum 1.
    weight : torch.Tensor
        (1, 1, X, Y, Z): 1 in both brains and their rim.
    fixed_classes, moving_classes : torch.Tensor or None
        (C, X, Y, Z): share of each class, before the brains were moved; None where the labels of
        one of them are not known.
    fixed_pose, moving_pose : torch.Tensor
        (1, 3, X, Y, Z): displacement in voxels by which each brain was moved,
        ``classes o (id + pose)``.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: torch.Tensor
    fixed_classes: torch.Tensor | None
    moving_classes: torch.Tensor | None
    fixed_pose: torch.Tensor
    moving_pose: torch.Tensor


def synthesize_pair(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    tissues: Tissues,
    ranges: Ranges,
    spacing: float,
    generator: torch.Generator,
) -> Pair:
    """Make a pair of images of two brains.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (C, X, Y, Z): share of each class in each voxel.
    tissues : Tissues
    ranges : Ranges
    spacing : float
        Of the grid, in millimetres.
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    Pair
    """
    shape: Shape = (fixed.shape[1], fixed.shape[2], fixed.shape[3])
    common = _random_matrix(ranges.common_rotation, 0.03, 0.0, generator)
    poses, images, brains = [], [], []
    means = _contrasts(tissues, ranges, generator)
    if _uniform(generator) < 0.5:
        common = common @ torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))  # mirrored together
    for classes, mean in zip((fixed, moving), means, strict=True):
        own = _random_matrix(ranges.rotation, ranges.scaling, ranges.translation, generator)
        pose = _affine_displacement(own @ common, shape, spacing, classes.device)
        speed = ranges.geodesic * _uniform(generator)
        bend = _random_geodesic(shape, spacing, speed, generator, classes.device)
        pose = compose(pose, bend, spacing)
        image, brain = _image(classes, mean[list(tissues.groups)], pose, ranges, spacing, generator)
        poses.append(pose)
        images.append(image)
        brains.append(brain)
    return _paired(
        images,
        brains,
        fixed_classes=fixed,
        moving_classes=moving,
        fixed_pose=poses[0] / spacing,
        moving_pose=poses[1] / spacing,
    )


def pair_scans(
    fixed: Scan, moving: Scan, ranges: Ranges, spacing: float, generator: torch.Generator
) -> Pair:
    """Make a pair of two real images: moved at random, otherwise as they are.

    Parameters
    ----------
    fixed, moving : Scan
    ranges : Ranges
        Of the poses; the rest does not matter.
    spacing : float
        Of the grid, in millimetres.
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    Pair
        With the classes if both images have them.
    """
    shape: Shape = (fixed.image.shape[2], fixed.image.shape[3], fixed.image.shape[4])
    common = _random_matrix(ranges.common_rotation, 0.03, 0.0, generator)
    if _uniform(generator) < 0.5:
        common = common @ torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    images, brains, poses = [], [], []
    for scan in (fixed, moving):
        own = _random_matrix(ranges.rotation, ranges.scaling, ranges.translation, generator)
        pose = _affine_displacement(own @ common, shape, spacing, scan.image.device)
        both = torch.cat([scan.image, scan.brain], dim=1)
        image, brain = sample(both, pose, spacing).split(1, dim=1)
        mask = (brain > 0.5).float()
        images.append(image * mask)
        brains.append(mask)
        poses.append(pose / spacing)
    known = fixed.classes is not None and moving.classes is not None
    return _paired(
        images,
        brains,
        fixed_classes=fixed.classes if known else None,
        moving_classes=moving.classes if known else None,
        fixed_pose=poses[0],
        moving_pose=poses[1],
    )


def _paired(images: list[torch.Tensor], brains: list[torch.Tensor], **rest: Any) -> Pair:
    """Return a pair of images, with like contrasts as the registration gives them to networks."""
    fixed, moving, _ = with_like_contrast(*(image[0, 0].cpu().numpy() for image in images))
    tensors = [torch.from_numpy(a)[None, None].to(images[0].device) for a in (fixed, moving)]
    return Pair(fixed=tensors[0], moving=tensors[1], weight=_compared(*brains), **rest)


def _compared(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return where images are compared: 1 in both brains and their rim."""
    inside = functional.max_pool3d(torch.maximum(first, second), 3, stride=1, padding=1)
    return (inside > 0.5).float()


def overlap_loss(
    pair: Pair, displacement: torch.Tensor, scored: int, generator: torch.Generator
) -> torch.Tensor:
    """Return one minus the mean soft Dice coefficient of the classes after a registration.

    It is estimated on every second voxel along each axis, beginning at random.

    Parameters
    ----------
    pair : Pair
    displacement : torch.Tensor
        Of ``phi^-1``, (1, 3, X, Y, Z), in voxels.
    scored : int
        The first so many classes count.
    generator : torch.Generator

    Returns
    -------
    torch.Tensor
        A number.
    """
    assert pair.fixed_classes is not None and pair.moving_classes is not None
    start = torch.randint(2, (3,), generator=generator).tolist()
    x, y, z = (slice(s, None, 2) for s in start)
    shape = displacement.shape[2:]
    axes = [torch.arange(n, dtype=torch.float32, device=displacement.device) for n in shape]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    there = (index + displacement)[..., x, y, z]
    fixed_at = (index + pair.fixed_pose)[..., x, y, z]
    # The pose of the moving brain at the point that the registration leads to.
    moving_at = there + _at(pair.moving_pose, there)
    target = _at(pair.fixed_classes[None, :scored], fixed_at)
    warped = _at(pair.moving_classes[None, :scored], moving_at)
    common = 2 * (target * warped).sum(dim=(0, 2, 3, 4))
    sizes = (target.square() + warped.square()).sum(dim=(0, 2, 3, 4))
    present = sizes > 1
    return 1 - (common[present] / sizes[present]).mean()


def _at(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return an image (1, C, X, Y, Z) at points (1, 3, x, y, z) given in voxels; 0 outside."""
    scale = torch.tensor([2 / (n - 1) for n in image.shape[2:]])[None, :, None, None, None]
    grid = (points * scale.to(points.device) - 1).flip(1).permute(0, 2, 3, 4, 1)
    return functional.grid_sample(image, grid, align_corners=True)


def _image(
    classes: torch.Tensor,
    means: torch.Tensor,
    pose: torch.Tensor,
    ranges: Ranges,
    spacing: float,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image of a brain in a pose, and the brain's mask."""
    shape = classes.shape[1:]
    place = classes.device  # random numbers are drawn on the CPU: the same on every device
    both = torch.stack([means, torch.ones_like(means)]).to(place) @ classes.flatten(1)
    image, brain = both.reshape(1, 2, *shape).split(1, dim=1)
    texture = box_mean(torch.randn((1, 1, *shape), generator=generator).to(place), 1) * 27**0.5
    image = image + ranges.texture * _uniform(generator) * texture * brain
    image, brain = sample(torch.cat([image, brain], 1), pose, spacing).split(1, dim=1)
    coarse = torch.randn((1, 1, 4, 4, 4), generator=generator).to(place)
    bias = functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)
    image = image * torch.exp(ranges.bias * _uniform(generator) * bias)
    if _uniform(generator) < 0.3:  # a lower resolution
        image = torch.lerp(image, box_mean(image, 1), _uniform(generator))
    level = ranges.noise * _uniform(generator)
    image = image + level * torch.randn(image.shape, generator=generator).to(place)
    # A brain mask that is somewhat too small or too large, as extraction makes it.
    mask = (brain > 0.2 + 0.6 * _uniform(generator)).float()
    image = image.clamp_min(0) * mask
    inside = image[mask > 0]
    # Every seventh voxel is enough for a percentile.
    image = (image / torch.quantile(inside[::7], 0.995).clamp_min(1e-3)).clamp_max(1.5)
    return image, mask


def _contrasts(tissues: Tissues, ranges: Ranges, generator: torch.Generator) -> torch.Tensor:
    """Return the mean intensities of all tissues in the fixed and in the moving image, (2, T)."""
    t1w, t2w = torch.tensor(tissues.t1w), torch.tensor(tissues.t2w)
    kinds = [t1w, t1w]
    if _uniform(generator) < ranges.other_contrast:
        random = torch.rand((2, len(t1w)), generator=generator)
        choices = ([t1w, t2w], [t2w, t1w], [t2w, t2w], [random[0], random[1]])
        kinds = choices[int(_uniform(generator) * len(choices))]
    means = torch.stack(kinds)
    return means + ranges.contrast * torch.randn(means.shape, generator=generator)


def _random_matrix(
    rotation: float, scaling: float, translation: float, generator: torch.Generator
) -> torch.Tensor:
    """Return a random affine near the identity, 4 x 4."""
    angles = torch.deg2rad(rotation * torch.randn(3, generator=generator))
    stretch = scaling * torch.randn((3, 3), generator=generator)
    x, y, z = angles.tolist()
    turn = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.linalg.matrix_exp(turn) @ torch.linalg.matrix_exp(
        (stretch + stretch.T) / 2
    )
    matrix[:3, 3] = translation * torch.randn(3, generator=generator)
    return matrix


def _affine_displacement(
    matrix: torch.Tensor, shape: Shape, spacing: float, device: torch.device
) -> torch.Tensor:
    """Return the displacement (1, 3, X, Y, Z) of an affine about the grid's centre, in mm."""
    matrix = matrix.to(device)
    axes = [(torch.arange(n, device=device) - (n - 1) / 2) * spacing for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    moved = torch.einsum("de,exyz->dxyz", matrix[:3, :3], points) + matrix[:3, 3, None, None, None]
    return (moved - points)[None]


def _random_geodesic(
    shape: Shape,
    spacing: float,
    speed: float,
    generator: torch.Generator,
    device: torch.device,
) -> torch.Tensor:
    """Return the displacement at the end of a random geodesic, in mm.

    Parameters
    ----------
    shape : tuple of int
    spacing : float
    speed : float
        Root mean square of the initial velocity, in mm.
    generator : torch.Generator
    device : torch.device
        Of the result.
    """
    factor = GEODESIC_FACTOR
    coarse = [n // factor for n in shape]
    kernel = Kernel(alpha=0.025 * 12.0**2, gamma=0.025)  # wider than that of a registration
    operator = KernelOperator(kernel, coarse, spacing * factor, device=device)
    noise = torch.randn((1, 3, *coarse), generator=generator).to(device)
    velocity = operator.apply(noise, 0.5)
    velocity = velocity * (speed / velocity.square().mean().sqrt().clamp_min(1e-6))
    inverse = shoot(operator.sharpen(velocity), operator, steps=3, velocity=velocity).inverse
    return upsample(inverse, factor)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
