"""Training without optimised momenta: end to end through the shooting.

The loss is that of the optimiser (local correlation, kinetic energy, barrier against folds) per
volume of brain, plus the overlap of labels. Every iteration draws its pair, its images and its
dropout from a seed of its own, so that a resumed training is bit-identical to an uninterrupted one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.jacobians import jacobian_shortfall
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.maps import RIM, taper
from nipype_quicksilver.lddmm.objective import BARRIER, MARGIN
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import LocalCorrelation
from nipype_quicksilver.networks.prediction import (
    Images,
    Network,
    State,
    interpolate_state,
    run_networks,
    unroll_before_correction,
)
from nipype_quicksilver.networks.unet import ForceUNet, OnFinerImages
from nipype_quicksilver.training.synthesis import (
    Ranges,
    TrainingPair,
    TrainingScan,
    overlap_loss,
    pair_scans,
    synthesize_pair,
)
from nipype_quicksilver.training.tissues import TissueTable
from nipype_quicksilver.training.trainer import Losses, Trainer


@dataclass(frozen=True)
class EndToEndRecipe:
    """How a network is trained end to end.

    Attributes
    ----------
    iterations : int
        Number of iterations, of one pair each.
    learning_rate : float
        Largest learning rate of Adam; it rises over the warm-up and falls to 0 along a cosine.
    warm_up : int
        Iterations over which the rate rises.
    overlap : float
        Weight of the overlap loss, relative to the image loss.
    regularization : float
        Weight of the kinetic energy, as in the optimiser.
    steps : int
        Time steps of the shooting.
    kernel : Kernel
    crop : int
        Side of the box, in voxels of the training grid, in which a correction is trained; 0 for
        whole images.
    boxes : int
        Number of boxes drawn from each pair.
    factor : int
        The training grid is coarser than the working grid by this factor.
    passes : int
        Number of times that the network is applied in a row; it learns from each.
    clipping : float
        Largest norm of the gradient.
    averaging : float
        Decay of the running average of the weights, which is what is kept.
    seed : int
    ranges : Ranges
    low_precision : bool
        Convolutions in bfloat16.
    scans : float
        Fraction of pairs of real images, if there are also label maps to synthesise images from.
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
class EndToEndLosses(Losses):
    """Numbers of one iteration: the loss, its parts, and the smallest Jacobian determinant."""

    dissimilarity: float
    energy: float
    overlap: float
    smallest_jacobian: float


class EndToEndTrainer(Trainer[ForceUNet]):
    """A network that is trained end to end.

    Parameters
    ----------
    network : ForceUNet
        Prediction network, or correction network if there are networks `before` it.
    brains : sequence of torch.Tensor
        (C, X, Y, Z) each: fraction of each class on the training grid, from 0 to 1, or as bytes
        from 0 to 255. Images are synthesised from them.
    table : TissueTable
    recipe : EndToEndRecipe
    before : sequence of ForceUNet
        Networks whose momentum this one corrects, in their order; they are not changed.
    scans : sequence of TrainingScan
        Real images.
    rank, ranks : int
        Index of this process, and the number of processes that train the network together, each
        on pairs of its own.
    """

    losses = EndToEndLosses

    def __init__(
        self,
        network: ForceUNet,
        brains: Sequence[torch.Tensor],
        table: TissueTable,
        recipe: EndToEndRecipe,
        before: Sequence[ForceUNet] = (),
        scans: Sequence[TrainingScan] = (),
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(network, recipe, rank, ranks)
        self.before = unroll_before_correction(before, recipe.factor)
        #: Predicts: the network, or its wrapper that averages gradients over processes.
        self.runner: ForceUNet = network
        self.brains, self.scans = [_pinned(brain, network) for brain in brains], list(scans)
        self.table, self.recipe = table, recipe

    def step(self) -> EndToEndLosses:
        """Do one iteration."""
        recipe = self.recipe
        seed = self._seed()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        networks = self._passes()
        parts: list[dict[str, float]] = []
        for pair, images, state in self._starts(generator):
            for network in networks:
                predicted, operator = self._predict(network, images, state)
                loss, numbers = training_loss(
                    pair, images, predicted, operator, self.network, recipe, self.table, generator
                )
                (loss / (self._boxes() * len(networks))).backward()
                parts.append(numbers)
                # The next pass learns to correct the prediction of this one.
                state = predicted.detach(), operator
        self.norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clipping))
        self._finish_iteration()
        means = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        return EndToEndLosses(self.iteration, **means)

    def _boxes(self) -> int:
        return self.recipe.boxes if self.recipe.crop and self.before else 1

    @torch.no_grad()
    def _starts(
        self, generator: torch.Generator
    ) -> Iterator[tuple[TrainingPair, Images, State | None]]:
        """Draw a pair; yield it, or boxes of it, with the state from which the network starts."""
        recipe = self.recipe
        pair = self._draw(generator)
        images = _images_of(pair, recipe)
        with self._autocast():
            start = run_networks(self.before, images, recipe.kernel, recipe.steps)
        if not recipe.crop or start is None:
            yield pair, images, start
            return
        grid = images.operator(recipe.kernel, self.network.velocity)
        momentum = interpolate_state(start, grid)
        for _ in range(recipe.boxes):
            box, state = _box(pair, momentum, grid, recipe, generator)
            yield box, _images_of(box, recipe), state

    def _passes(self) -> list[Network]:
        """Return the network of each pass, in their order."""
        passes = self.network.unroll(self.recipe.factor)
        passes += passes[-1:] * (self.recipe.passes - len(passes))
        return [
            self.runner if each is self.network else OnFinerImages(self.runner, each.image)
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

    def _draw(self, generator: torch.Generator) -> TrainingPair:
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
        fixed_brain, moving_brain = (fractions_on(self.brains[k], device) for k in (first, second))
        return synthesize_pair(fixed_brain, moving_brain, self.table, ranges, spacing, generator)

    def _rate(self) -> float:
        recipe = self.recipe
        warm_up = min(1.0, (self.iteration + 1) / recipe.warm_up)
        done = min(1.0, self.iteration / recipe.iterations)
        return recipe.learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * done))


def _pinned(brain: torch.Tensor, network: nn.Module) -> torch.Tensor:
    """Return fractions in pinned memory if the network is on a GPU, which reads them faster."""
    return brain.pin_memory() if next(network.parameters()).is_cuda else brain


def fractions_on(brain: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return fractions of classes on a device, from 0 to 1; brains are stored as bytes."""
    brain = brain.to(device)
    return brain.float().div_(255) if brain.dtype == torch.uint8 else brain


def scan_on(scan: TrainingScan, device: torch.device) -> TrainingScan:
    """Return a real image on a device."""
    classes = None if scan.classes is None else fractions_on(scan.classes, device)
    return TrainingScan(scan.image.to(device), scan.brain.to(device), classes)


def _images_of(pair: TrainingPair, recipe: EndToEndRecipe) -> Images:
    return Images(pair.fixed, pair.moving, pair.weight, factor=recipe.factor)


def _box(
    pair: TrainingPair,
    momentum: torch.Tensor,
    operator: KernelOperator,
    recipe: EndToEndRecipe,
    generator: torch.Generator,
) -> tuple[TrainingPair, State]:
    """Return a box around a random voxel of the brains, and the whitened momentum in it.

    The velocity falls to zero over the rim of the box, where images are not compared, since the
    grid of the box is periodic.
    """
    ratio = pair.fixed.shape[2] // operator.shape[0]
    # A box is moved to lie inside the grid; these voxels are never in its rim all the same.
    inner = taper(pair.fixed.shape[2:], [float(recipe.factor)] * 3, pair.weight) == 1
    inside = (pair.weight[0, 0] * inner).nonzero()
    if not len(inside):
        raise InputError(
            f"the brains lie within {RIM:g} mm of the grid's edge, where boxes compare no images; "
            "give a recipe with a larger grid"
        )
    voxel = inside[int(torch.randint(len(inside), (), generator=generator))].tolist()
    slices, coarse = [], []
    for centre, size in zip(voxel, pair.fixed.shape[2:], strict=True):
        start = min(max(centre - recipe.crop // 2, 0), size - recipe.crop) // ratio * ratio
        slices.append(slice(start, start + recipe.crop))
        coarse.append(slice(start // ratio, (start + recipe.crop) // ratio))
    x, y, z = slices
    offset = pair.fixed.new_tensor([s.start for s in slices])[None, :, None, None, None]
    spacing = [float(recipe.factor)] * 3
    window = taper([recipe.crop] * 3, spacing, pair.weight)
    box = replace(
        pair,
        fixed=pair.fixed[..., x, y, z],
        moving=pair.moving[..., x, y, z],
        weight=pair.weight[..., x, y, z] * (window == 1),
        fixed_pose=pair.fixed_pose[..., x, y, z] + offset,
        moving_pose=pair.moving_pose[..., x, y, z] + offset,
    )
    i, j, k = coarse
    velocity = operator.apply(momentum, 0.5)[..., i, j, k]
    shape = velocity.shape[2:]
    box_operator = KernelOperator(
        operator.kernel, shape, operator.spacing, velocity.dtype, velocity.device
    )
    velocity = velocity * taper(box_operator.shape, operator.spacing, velocity)
    return box, (box_operator.apply(velocity, -0.5), box_operator)


def training_loss(
    pair: TrainingPair,
    images: Images,
    state: torch.Tensor,
    operator: KernelOperator,
    network: ForceUNet,
    recipe: EndToEndRecipe,
    table: TissueTable,
    generator: torch.Generator,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of a predicted momentum, and the numbers of :class:`EndToEndLosses`.

    Parameters
    ----------
    pair : TrainingPair
    images : Images
        Those of the pair.
    state : torch.Tensor
        Whitened momentum, (1, 3, x, y, z), on the grid of `operator`.
    operator : KernelOperator
    network : ForceUNet
        The network that predicted it.
    recipe : EndToEndRecipe
    table : TissueTable
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    loss : torch.Tensor
        Scalar, with a gradient.
    numbers : dict
        Without the iteration.
    """
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
        overlap = overlap_loss(pair, fine / recipe.factor, table.scored, generator)
        loss = loss + recipe.overlap * overlap
    numbers = {
        "loss": float(loss.detach()),
        "dissimilarity": float(dissimilarity.detach()),
        "energy": float(energy.detach()),
        "overlap": 1 - float(overlap.detach()),
        "smallest_jacobian": float(smallest),
    }
    return loss, numbers
