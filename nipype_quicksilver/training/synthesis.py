"""Pairs of brain images synthesised from label maps, new ones in every iteration of a training.

A brain is stored as the fraction of each class in each voxel, so that an image of any contrast is
a weighted sum with exact partial volumes. Shapes vary by random affines and random geodesics.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from nipype_quicksilver.lddmm.fields import Shape, compose, sample
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import box_mean
from nipype_quicksilver.spatial.intensity import with_matching_contrast
from nipype_quicksilver.training.tissues import TissueTable

#: The grid of the random geodesics is coarser than that of the images by this factor.
GEODESIC_FACTOR = 4
_MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))


@dataclass(frozen=True)
class Ranges:
    """How much synthesised images vary; lengths are in millimetres, the rest is relative.

    Attributes
    ----------
    rotation : float
        Standard deviation of the angles about each axis, in degrees.
    scaling : float
        Standard deviation of the logarithm of the size along each axis, and of shears.
    translation : float
        Standard deviation along each axis.
    common_rotation : float
        Standard deviation, in degrees, of a rotation of both brains of a pair on the grid.
    geodesic : float
        Largest root mean square of the initial velocity of a random geodesic.
    contrast : float
        Standard deviation of a tissue's mean intensity between subjects.
    texture : float
        Largest standard deviation of the intensity within a tissue.
    noise, bias : float
        Largest standard deviations of the noise and of the logarithm of the bias field.
    other_contrast : float
        Fraction of pairs whose images may have different contrasts.
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
class TrainingScan:
    """A real image of a brain, on the training grid.

    Attributes
    ----------
    image : torch.Tensor
        (1, 1, X, Y, Z), 0 outside the brain, robust maximum 1.
    brain : torch.Tensor
        (1, 1, X, Y, Z): fraction of the brain in each voxel.
    classes : torch.Tensor, optional
        (C, X, Y, Z): fraction of each class in each voxel, where a label map is known.
    """

    image: torch.Tensor
    brain: torch.Tensor
    classes: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainingPair:
    """Two brains to be registered in an iteration.

    Attributes
    ----------
    fixed, moving : torch.Tensor
        (1, 1, X, Y, Z), intensities from 0 to 1.5 with robust maximum 1.
    weight : torch.Tensor
        (1, 1, X, Y, Z): 1 in the union of both brains and one voxel around it, otherwise 0.
    fixed_classes, moving_classes : torch.Tensor or None
        (C, X, Y, Z): fraction of each class, before the brains were moved; None if the labels of
        either brain are not known.
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
    table: TissueTable,
    ranges: Ranges,
    spacing: float,
    generator: torch.Generator,
) -> TrainingPair:
    """Synthesise a pair of images of two brains.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (C, X, Y, Z): fraction of each class in each voxel.
    table : TissueTable
    ranges : Ranges
    spacing : float
        Voxel size of the grid, in millimetres.
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    TrainingPair
    """
    shape: Shape = (fixed.shape[1], fixed.shape[2], fixed.shape[3])
    common = _random_matrix(ranges.common_rotation, 0.03, 0.0, generator)
    poses, images, brains = [], [], []
    means = _contrasts(table, ranges, generator)
    if _uniform(generator) < 0.5:
        common = common @ _MIRROR  # both brains are mirrored
    for classes, mean in zip((fixed, moving), means, strict=True):
        matrix = _random_matrix(ranges.rotation, ranges.scaling, ranges.translation, generator)
        pose = _affine_displacement(matrix @ common, shape, spacing, classes.device)
        speed = ranges.geodesic * _uniform(generator)
        geodesic = _random_geodesic(shape, spacing, speed, generator, classes.device)
        pose = compose(pose, geodesic, spacing)
        image, brain = _image(classes, mean[list(table.groups)], pose, ranges, spacing, generator)
        poses.append(pose / spacing)
        images.append(image)
        brains.append(brain)
    return _paired(images, brains, (fixed, moving), poses)


def pair_scans(
    fixed: TrainingScan,
    moving: TrainingScan,
    ranges: Ranges,
    spacing: float,
    generator: torch.Generator,
) -> TrainingPair:
    """Make a pair of two real images, which are moved at random and not changed otherwise.

    Parameters
    ----------
    fixed, moving : TrainingScan
    ranges : Ranges
        Those of the affines are used.
    spacing : float
        Voxel size of the grid, in millimetres.
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    TrainingPair
        Its classes are known if those of both images are.
    """
    shape: Shape = (fixed.image.shape[2], fixed.image.shape[3], fixed.image.shape[4])
    common = _random_matrix(ranges.common_rotation, 0.03, 0.0, generator)
    if _uniform(generator) < 0.5:
        common = common @ _MIRROR
    images, brains, poses = [], [], []
    for scan in (fixed, moving):
        matrix = _random_matrix(ranges.rotation, ranges.scaling, ranges.translation, generator)
        pose = _affine_displacement(matrix @ common, shape, spacing, scan.image.device)
        both = torch.cat([scan.image, scan.brain], dim=1)
        image, brain = sample(both, pose, spacing).split(1, dim=1)
        mask = (brain > 0.5).float()
        images.append(image * mask)
        brains.append(mask)
        poses.append(pose / spacing)
    known = fixed.classes is not None and moving.classes is not None
    return _paired(images, brains, (fixed.classes, moving.classes) if known else None, poses)


def _paired(
    images: list[torch.Tensor],
    brains: list[torch.Tensor],
    classes: tuple[torch.Tensor | None, torch.Tensor | None] | None,
    poses: list[torch.Tensor],
) -> TrainingPair:
    """Return a pair of images whose contrasts match, as in a registration by networks."""
    fixed, moving, _ = with_matching_contrast(*(image[0, 0].cpu().numpy() for image in images))
    tensors = [torch.from_numpy(a)[None, None].to(images[0].device) for a in (fixed, moving)]
    fixed_classes, moving_classes = classes or (None, None)
    return TrainingPair(
        fixed=tensors[0],
        moving=tensors[1],
        weight=_weight(*brains),
        fixed_classes=fixed_classes,
        moving_classes=moving_classes,
        fixed_pose=poses[0],
        moving_pose=poses[1],
    )


def _weight(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return where images are compared: 1 in the union of both brains and one voxel around it."""
    inside = functional.max_pool3d(torch.maximum(first, second), 3, stride=1, padding=1)
    return (inside > 0.5).float()


def overlap_loss(
    pair: TrainingPair, displacement: torch.Tensor, scored: int, generator: torch.Generator
) -> torch.Tensor:
    """Return one minus the mean soft Dice coefficient of the classes after a registration.

    It is estimated on every second voxel along each axis, from a random first one.

    Parameters
    ----------
    pair : TrainingPair
    displacement : torch.Tensor
        Displacement of ``phi^-1``, (1, 3, X, Y, Z), in voxels.
    scored : int
        The first `scored` classes count.
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    assert pair.fixed_classes is not None and pair.moving_classes is not None
    start = torch.randint(2, (3,), generator=generator).tolist()
    x, y, z = (slice(s, None, 2) for s in start)
    shape = displacement.shape[2:]
    axes = [torch.arange(n, dtype=torch.float32, device=displacement.device) for n in shape]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    mapped = (index + displacement)[..., x, y, z]
    fixed_points = (index + pair.fixed_pose)[..., x, y, z]
    # The pose of the moving brain at the points to which the registration maps the grid.
    moving_points = mapped + _at(pair.moving_pose, mapped)
    target = _at(pair.fixed_classes[None, :scored], fixed_points)
    warped = _at(pair.moving_classes[None, :scored], moving_points)
    common = 2 * (target * warped).sum(dim=(0, 2, 3, 4))
    sizes = (target.square() + warped.square()).sum(dim=(0, 2, 3, 4))
    present = sizes > 1
    return 1 - (common[present] / sizes[present]).mean()


def _at(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return an image (1, C, X, Y, Z) at points (1, 3, x, y, z) in voxels; 0 outside the grid."""
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
    device = classes.device  # random numbers are drawn on the CPU: the same on every device
    both = torch.stack([means, torch.ones_like(means)]).to(device) @ classes.flatten(1)
    image, brain = both.reshape(1, 2, *shape).split(1, dim=1)
    texture = box_mean(torch.randn((1, 1, *shape), generator=generator).to(device), 1) * 27**0.5
    image = image + ranges.texture * _uniform(generator) * texture * brain
    image, brain = sample(torch.cat([image, brain], 1), pose, spacing).split(1, dim=1)
    coarse = torch.randn((1, 1, 4, 4, 4), generator=generator).to(device)
    bias = functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)
    image = image * torch.exp(ranges.bias * _uniform(generator) * bias)
    if _uniform(generator) < 0.3:  # a lower resolution
        image = torch.lerp(image, box_mean(image, 1), _uniform(generator))
    level = ranges.noise * _uniform(generator)
    image = image + level * torch.randn(image.shape, generator=generator).to(device)
    # A brain mask that is slightly too small or too large, as from a brain extraction.
    mask = (brain > 0.2 + 0.6 * _uniform(generator)).float()
    image = image.clamp_min(0) * mask
    inside = image[mask > 0]
    # Every seventh voxel is enough to estimate a percentile.
    image = (image / torch.quantile(inside[::7], 0.995).clamp_min(1e-3)).clamp_max(1.5)
    return image, mask


def _contrasts(table: TissueTable, ranges: Ranges, generator: torch.Generator) -> torch.Tensor:
    """Return the mean intensities of all tissues in the fixed and in the moving image, (2, T)."""
    t1w, t2w = torch.tensor(table.t1w), torch.tensor(table.t2w)
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
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.linalg.matrix_exp(skew) @ torch.linalg.matrix_exp(
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
    """Return the displacement (1, 3, X, Y, Z) at the end of a random geodesic, in mm.

    Parameters
    ----------
    shape : tuple of int
        Sides of the grid.
    spacing : float
        Voxel size of the grid, in mm.
    speed : float
        Root mean square of the initial velocity, in mm.
    generator : torch.Generator
        Source of all random numbers.
    device : torch.device
        Device of the result.
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
