"""Training without optimised momenta: end to end through the shooting.

The loss is that of the optimiser (local correlation, kinetic energy, barrier against folds) per
volume of brain, and the overlap of labels. Every iteration draws its pair, its images and its
dropout from a seed of its own, so that a training that was interrupted goes on to the bit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.fields import sample, upsample
from nipype_quicksilver.lddmm.jacobians import jacobian_shortfall
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import RIM, taper
from nipype_quicksilver.lddmm.optimize import BARRIER, MARGIN
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import LocalCorrelation
from nipype_quicksilver.networks.prediction import (
    Images,
    Network,
    State,
    before_correction,
    on_grid,
    run_networks,
)
from nipype_quicksilver.networks.unet import ForceUNet, Sharper
from nipype_quicksilver.training.synthesis import (
    Pair,
    Ranges,
    Scan,
    Tissues,
    overlap_loss,
    pair_scans,
    synthesize_pair,
)
from nipype_quicksilver.training.trainer import Trainer


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    iterations : int
        One pair each.
    learning_rate : float
        Of Adam, after a warm-up; it falls to nothing along a cosine.
    warm_up : int
        Iterations over which the rate rises.
    overlap : float
        Weight of the overlap loss beside the image loss.
    regularization : float
        Weight of the kinetic energy, as in the optimiser.
    steps : int
        Time steps of the shooting.
    kernel : Kernel
    crop : int
        Side of the box, in voxels of the training's grid, in which a correction is trained; 0 for
        whole images.
    boxes : int
        Boxes of each pair.
    factor : int
        By which the training's grid is coarser than the working grid.
    passes : int
        The network is applied so many times in a row, and learns from each.
    clipping : float
        Longest gradient.
    averaging : float
        Decay of the running average of the weights, which is what is kept.
    seed : int
    ranges : Ranges
    low_precision : bool
        Convolutions in bfloat16.
    scans : float
        Share of pairs of real images, where there are also label maps to make images from.
    """

    iterations: int = 2000
    learning_rate: float = 1e-3
    warm_up: int = 50
    overlap: float = 1.0
    regularization: float = 1.6
    steps: int = 3
    kernel: Kernel = field(default_factory=Kernel)
    crop: int = 0
    boxes: int = 1
    factor: int = 2
    passes: int = 1
    clipping: float = 1.0
    averaging: float = 0.995
    seed: int = 0
    ranges: Ranges = field(default_factory=Ranges)
    low_precision: bool = True
    scans: float = 0.5


@dataclass(frozen=True)
class Losses:
    """What one iteration saw."""

    iteration: int
    loss: float
    dissimilarity: float
    energy: float
    overlap: float
    smallest_jacobian: float


class Training(Trainer[ForceUNet]):
    """A network on its way.

    Parameters
    ----------
    network : ForceUNet
        Prediction network, or correction network if there are `before`.
    brains : sequence of torch.Tensor
        (C, X, Y, Z) each: shares of classes on the training's grid, from 0 to 1, or to 255 as
        bytes. Images are made from them.
    tissues : Tissues
    recipe : Recipe
    before : sequence of ForceUNet
        Networks whose momentum this one corrects, in their order; they are not changed.
    scans : sequence of Scan
        Real images.
    rank, ranks : int
        Number of this process, and of all that train the network together, on pairs of their own.
    """

    def __init__(
        self,
        network: ForceUNet,
        brains: Sequence[torch.Tensor],
        tissues: Tissues,
        recipe: Recipe,
        before: Sequence[ForceUNet] = (),
        scans: Sequence[Scan] = (),
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(network, recipe, rank, ranks)
        self.before = before_correction(before, recipe.factor)
        #: What is called to predict: the network, or what distributes it over processes.
        self.runner: ForceUNet = network
        self.brains, self.scans = [_at_hand(brain, network) for brain in brains], list(scans)
        self.tissues, self.recipe = tissues, recipe

    def step(self) -> Losses:
        """Do one iteration."""
        recipe = self.recipe
        seed = self._seed()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        networks = self._passes()
        seen = []
        for pair, images, state in self._starts(generator):
            for network in networks:
                reached, operator = self._predict(network, images, state)
                loss, facts = training_loss(
                    pair, images, reached, operator, self.network, recipe, self.tissues, generator
                )
                (loss / (self._boxes() * len(networks))).backward()
                seen.append(facts)
                # The next pass learns to correct what this one did.
                state = reached.detach(), operator
        self.norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clipping))
        self._finish_iteration()
        means = {name: sum(facts[name] for facts in seen) / len(seen) for name in seen[0]}
        return Losses(self.iteration, **means)

    def _boxes(self) -> int:
        return self.recipe.boxes if self.recipe.crop and self.before else 1

    @torch.no_grad()
    def _starts(self, generator: torch.Generator) -> Iterator[tuple[Pair, Images, State | None]]:
        """Draw a pair; yield it, or boxes of it, with the state that the network goes on from."""
        recipe = self.recipe
        pair = self._draw(generator)
        images = _images_of(pair, recipe)
        with self._autocast():
            start = run_networks(self.before, images, recipe.kernel, recipe.steps)
        if not recipe.crop or start is None:
            yield pair, images, start
            return
        grid = images.operator(recipe.kernel, self.network.velocity)
        begun = on_grid(start, grid)
        for _ in range(recipe.boxes):
            part, state = _box(pair, begun, grid, recipe, generator)
            yield part, _images_of(part, recipe), state

    def _passes(self) -> list[Network]:
        """Return what learns as often as it is applied in a row."""
        passes = self.network.in_passes(self.recipe.factor)
        passes += passes[-1:] * (self.recipe.passes - len(passes))
        return [
            self.runner if each is self.network else Sharper(self.runner, each.image)
            for each in passes[: self.recipe.passes]
        ]

    def _autocast(self) -> torch.autocast:
        device = next(self.network.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.recipe.low_precision)

    def _predict(self, network: Network, images: Images, start: State | None) -> State:
        recipe = self.recipe
        with self._autocast():
            result = run_networks([network], images, recipe.kernel, recipe.steps, start)
        assert result is not None
        return result

    def _draw(self, generator: torch.Generator) -> Pair:
        ranges, spacing = self.recipe.ranges, float(self.recipe.factor)
        real = len(self.brains) < 2
        if not real and len(self.scans) > 1:
            real = float(torch.rand((), generator=generator)) < self.recipe.scans
        number = len(self.scans if real else self.brains)
        first, second = torch.randperm(number, generator=generator)[:2].tolist()
        device = next(self.network.parameters()).device
        if real:
            fixed, moving = (scan_on(self.scans[k], device) for k in (first, second))
            return pair_scans(fixed, moving, ranges, spacing, generator)
        fixed_brain, moving_brain = (shares_on(self.brains[k], device) for k in (first, second))
        return synthesize_pair(fixed_brain, moving_brain, self.tissues, ranges, spacing, generator)

    def _rate(self) -> float:
        recipe = self.recipe
        warm = min(1.0, (self.iteration + 1) / recipe.warm_up)
        done = min(1.0, self.iteration / recipe.iterations)
        return recipe.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * done))


def _at_hand(brain: torch.Tensor, network: nn.Module) -> torch.Tensor:
    """Return shares from where they come fast to the network: for a GPU, pages that stay put."""
    return brain.pin_memory() if next(network.parameters()).is_cuda else brain


def shares_on(brain: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return shares of classes on a device, from 0 to 1; many brains are kept as bytes."""
    brain = brain.to(device)
    return brain.float().div_(255) if brain.dtype == torch.uint8 else brain


def scan_on(scan: Scan, device: torch.device) -> Scan:
    """Return a real image on a device."""
    classes = None if scan.classes is None else shares_on(scan.classes, device)
    return Scan(scan.image.to(device), scan.brain.to(device), classes)


def _images_of(pair: Pair, recipe: Recipe) -> Images:
    return Images(pair.fixed, pair.moving, pair.weight, factor=recipe.factor)


def _box(
    pair: Pair,
    state: torch.Tensor,
    operator: KernelOperator,
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[Pair, State]:
    """Return a box around a random voxel of the brains, and the state there.

    The velocity falls to zero over the box's rim, where images are not compared: beyond it the
    grid is periodic.
    """
    ratio = pair.fixed.shape[2] // operator.shape[0]
    # Only there is the voxel, wherever the grid's edge pushes the box, inside the box's rim.
    inner = taper(pair.fixed.shape[2:], [float(recipe.factor)] * 3, pair.weight) == 1
    inside = (pair.weight[0, 0] * inner).nonzero()
    if not len(inside):
        raise InputError(
            f"the brains lie within {RIM:g} mm of the grid's edge, where a box compares nothing; "
            "take a larger grid"
        )
    middle = inside[int(torch.randint(len(inside), (), generator=generator))].tolist()
    slices, coarse = [], []
    for centre, size in zip(middle, pair.fixed.shape[2:], strict=True):
        start = min(max(centre - recipe.crop // 2, 0), size - recipe.crop) // ratio * ratio
        slices.append(slice(start, start + recipe.crop))
        coarse.append(slice(start // ratio, (start + recipe.crop) // ratio))
    x, y, z = slices
    offset = pair.fixed.new_tensor([s.start for s in slices])[None, :, None, None, None]
    spacing = [float(recipe.factor)] * 3
    window = taper([recipe.crop] * 3, spacing, pair.weight)
    part = replace(
        pair,
        fixed=pair.fixed[..., x, y, z],
        moving=pair.moving[..., x, y, z],
        weight=pair.weight[..., x, y, z] * (window == 1),
        fixed_pose=pair.fixed_pose[..., x, y, z] + offset,
        moving_pose=pair.moving_pose[..., x, y, z] + offset,
    )
    i, j, k = coarse
    velocity = operator.apply(state, 0.5)[..., i, j, k]
    shape = velocity.shape[2:]
    smaller = KernelOperator(
        operator.kernel, shape, operator.spacing, velocity.dtype, velocity.device
    )
    velocity = velocity * taper(smaller.shape, operator.spacing, velocity)
    return part, (smaller.apply(velocity, -0.5), smaller)


def training_loss(
    pair: Pair,
    images: Images,
    state: torch.Tensor,
    operator: KernelOperator,
    network: ForceUNet,
    recipe: Recipe,
    tissues: Tissues,
    generator: torch.Generator,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of a predicted state, and what it is made of."""
    momentum, velocity = operator.apply(state, -0.5), operator.apply(state, 0.5)
    inverse = shoot(momentum, operator, steps=recipe.steps, velocity=velocity).inverse
    shortfall, smallest = jacobian_shortfall(inverse, operator.spacing, MARGIN)
    fine = upsample(inverse, network.velocity // recipe.factor)
    spacing = images.spacing(recipe.factor)
    warped = sample(pair.moving, fine, spacing)
    cell = math.prod(spacing)
    volume = pair.weight.sum() * cell
    dissimilarity = LocalCorrelation(pair.fixed)(warped, pair.weight).sum() * cell / volume
    energy = operator.inner(state, state).sum() / volume
    barrier = BARRIER * shortfall * operator.cell_volume / volume
    loss = dissimilarity + recipe.regularization * energy + barrier
    overlap = loss.new_full((), math.nan)
    if pair.fixed_classes is not None:
        overlap = overlap_loss(pair, fine / recipe.factor, tissues.scored, generator)
        loss = loss + recipe.overlap * overlap
    seen = {
        "loss": float(loss.detach()),
        "dissimilarity": float(dissimilarity.detach()),
        "energy": float(energy.detach()),
        "overlap": 1 - float(overlap.detach()),
        "smallest_jacobian": float(smallest),
    }
    return loss, seen
