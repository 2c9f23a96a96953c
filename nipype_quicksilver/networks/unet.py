"""The shipped architecture: a U-shaped network of whole images and the forces between them.

While the network of the paper processes patches of 15 voxels, this one is fully convolutional: its
input is the whole image, its context the whole brain. It predicts the whitened momentum ``w``
(``m0 = K^(-1/2) w``) on the velocity grid.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nipype_quicksilver.lddmm.grids import pool
from nipype_quicksilver.networks.forces import MovingImage, descent_directions

# Standard deviation and largest value of the whitened momenta that the optimiser estimates.
MOMENTUM_STD = 0.1
LARGEST_MOMENTUM = 1.0

# Largest logarithm of a gain, and fraction of the step that does not depend on the forces. They
# bound the output for arbitrary weights.
LARGEST_LOG_GAIN = 2.0
FREE_STEP_FRACTION = 0.3

SLOPE = 0.1  # of the rectifiers, for negative values


# Largest factor, width or number of passes, and largest number of levels: a network within them
# still fits into memory. Networks in use have 256 features and 6 levels at most.
_LARGEST_NUMBER, _MOST_LEVELS = 4096, 8


class ForceUNet(nn.Module):
    """Predict a change of the whitened momentum from two images.

    Parameters
    ----------
    image : int
        The images are on the working grid pooled by this factor.
    velocity : int
        The prediction is on the working grid pooled by this factor, a multiple of `image`.
    scales : sequence of int
        Forces are computed on the working grid pooled by these factors.
    widths : sequence of int
        Number of features at each level, from fine to coarse; each level halves the grid.
    passes : int
        Number of times that the network is applied in a row, each time to the remaining
        difference.
    turns : int
        Number of times that it is applied in each pass, between two shoots: its step is then
        composed with the map instead of shot.
    tile : int
        Blocks of this number of voxels of the velocity grid per axis are channels inside the
        network: it runs on a coarser grid, at lower cost, and returns gains on the fine one.
    normalized : bool
        Step along the descent direction of similarity and energy, normalised everywhere in the
        brain, instead of along the plain forces: suits a correction, whose forces are small.
    last_image : int, optional
        In the last passes the images, and those of the finest forces, are pooled by this factor
        instead, a divisor of `image`. Default: `image`.
    last_passes : int
        Number of passes with `last_image`.
    first_step : float
        Step of the untrained network along the mean force; 0.5 suits a prediction, whose forces
        are about 1, smaller values a correction.
    dropout : float
        Fraction of whole features dropped at the end of each inner block, also when predicting; 0
        for the deterministic network.
    """

    def __init__(
        self,
        image: int = 2,
        velocity: int = 4,
        scales: Sequence[int] = (2, 4, 8),
        widths: Sequence[int] = (32, 48, 64, 96),
        passes: int = 1,
        turns: int = 1,
        tile: int = 1,
        normalized: bool = False,
        last_image: int | None = None,
        last_passes: int = 1,
        first_step: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_parameters(
            (image, velocity, passes, turns, tile, last_passes, *scales, *widths), widths, dropout
        )
        if velocity % image or any(scale % image for scale in scales):
            raise ValueError(
                "the velocity factor and the scales must be multiples of the image factor"
            )
        if last_image is not None and (last_image < 1 or image % last_image):
            raise ValueError("the factor of the last image must be a divisor of the image factor")
        if not 1 <= last_passes <= passes:
            raise ValueError(
                "the number of last passes must be at least one and at most that of all passes"
            )
        self.image, self.velocity, self.scales = image, velocity, tuple(scales)
        self.passes, self.turns, self.tile = passes, turns, tile
        self.normalized = normalized
        self.last_image, self.last_passes = last_image, last_passes
        self.ratio = velocity // image
        channels = (2 * self.ratio**3 + 3 * len(self.scales) + 3) * tile**3
        pairs = list(itertools.pairwise(widths))
        self.enter = nn.Conv3d(channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_Block(width, dropout) for width in widths)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairs)
        self.decoders = nn.ModuleList(_Block(a, dropout) for a, _ in pairs)
        # A gain for the force of each scale, and the three components of the free step.
        self.leave = nn.Conv3d(widths[0], (len(self.scales) + 3) * tile**3, 3, padding=1)
        _start_small(self.leave, 1e-3)
        # Before training all gains are one: the step is along the mean force.
        self.along = nn.Parameter(torch.full((len(self.scales),), first_step / len(self.scales)))

    def forward(
        self, moving: MovingImage, target: torch.Tensor, state: torch.Tensor
    ) -> torch.Tensor:
        """Return the predicted change of the whitened momentum.

        Parameters
        ----------
        moving : MovingImage
            Its image is on the working grid pooled by `image`, or by `last_image`, with
            intensities of about 0 to 1.
        target : torch.Tensor
            (B, 1, X, Y, Z), on the same grid, in the space of the moving image.
        state : torch.Tensor
            (B, 3, x, y, z): the current whitened momentum, zero before a prediction.

        Returns
        -------
        torch.Tensor
            (B, 3, x, y, z), on the velocity grid.
        """
        # More than 1 if the images are finer than those of the training.
        finer = moving.ratio // self.ratio
        first, *others = (scale // self.image for scale in self.scales)
        with torch.no_grad():
            forces = moving.forces(target, [first, *(scale * finer for scale in others)])
            if self.normalized:
                forces = descent_directions(forces, state)
        images = [
            _space_to_depth(pool(image, finer), self.ratio) for image in (moving.image, target)
        ]
        features = torch.cat([*images, forces, state / MOMENTUM_STD], dim=1)
        gains, free_step = (
            self._apply_levels(features).float().tensor_split([len(self.scales)], dim=1)
        )
        gains = torch.exp(LARGEST_LOG_GAIN * torch.tanh(gains / LARGEST_LOG_GAIN))
        step = FREE_STEP_FRACTION * free_step
        for along, gain, force in zip(
            self.along, gains.split(1, 1), forces.split(3, 1), strict=True
        ):
            step = step + along * gain * force
        return LARGEST_MOMENTUM * torch.tanh(MOMENTUM_STD / LARGEST_MOMENTUM * step)

    def unroll(self, finest: int = 1) -> "list[ForceUNet | OnFinerImages]":
        """Return the network once for each pass, in the order of the passes.

        Parameters
        ----------
        finest : int
            Factor by which the images are pooled already; finer ones are not available.
        """
        last = max(self.last_image or self.image, finest)
        if last == self.image:
            return [self] * self.passes
        return [self] * (self.passes - self.last_passes) + [
            OnFinerImages(self, last)
        ] * self.last_passes

    def _apply_levels(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the encoders from fine to coarse, and the decoders back, with skip connections."""
        nx, ny, nz = features.shape[2:]
        multiple = self.tile * 2 ** len(self.down)
        x = functional.pad(features, [0, -nz % multiple, 0, -ny % multiple, 0, -nx % multiple])
        x = _space_to_depth(x, self.tile)
        x = self.enter(x.contiguous(memory_format=torch.channels_last_3d))
        skipped = []
        for encoder, down in zip(self.encoders, self.down, strict=False):
            x = encoder(x)
            skipped.append(x)
            x = down(x)
        x = self.encoders[-1](x)
        for up, decoder in zip(reversed(self.up), reversed(self.decoders), strict=True):
            x = decoder(up(x) + skipped.pop())
        x = self.leave(functional.leaky_relu(x, SLOPE))
        return _depth_to_space(x, self.tile)[..., :nx, :ny, :nz]


class OnFinerImages:
    """A network that is applied to finer images than it was trained on.

    Parameters
    ----------
    network : ForceUNet
    image : int
        The images are on the working grid pooled by this factor.
    """

    def __init__(self, network: ForceUNet, image: int) -> None:
        self._network = network
        self.image, self.velocity, self.turns = image, network.velocity, network.turns

    def __call__(
        self, moving: MovingImage, target: torch.Tensor, state: torch.Tensor
    ) -> torch.Tensor:
        """Return the output of the network, see :meth:`ForceUNet.forward`."""
        change: torch.Tensor = self._network(moving, target, state)
        return change

    def unroll(self, finest: int = 1) -> "list[OnFinerImages]":
        """Return the network, which has a single pass."""
        return [self]


class _Block(nn.Module):
    """Two convolutions with a residual connection (He et al. 2016, with activations first)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        self.dropout = dropout
        # Initialised as the identity, so that depth does not slow down training.
        _start_small(self.second, 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.first(functional.leaky_relu(x, SLOPE))
        inner = self.second(functional.leaky_relu(inner, SLOPE))
        if self.dropout > 0:  # also when predicting: samples of the posterior
            inner = functional.dropout3d(inner, self.dropout, training=True)
        return x + inner


def _start_small(layer: nn.Conv3d, scale: float) -> None:
    """Initialise a layer with weights of a standard deviation, and without bias."""
    if not layer.weight.is_meta:  # has no values, and torch would import its compiler
        nn.init.normal_(layer.weight, std=scale)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _space_to_depth(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """Return each block of ``ratio`` voxels per axis as channels: (B, C ratio^3, x, y, z)."""
    if ratio == 1:
        return image
    batch, _, nx, ny, nz = image.shape
    blocks = image.reshape(batch, -1, nx // ratio, ratio, ny // ratio, ratio, nz // ratio, ratio)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(
        batch, -1, nx // ratio, ny // ratio, nz // ratio
    )


def _depth_to_space(blocks: torch.Tensor, ratio: int) -> torch.Tensor:
    """Return channels as blocks of voxels, the inverse of :func:`_space_to_depth`."""
    if ratio == 1:
        return blocks
    batch, _, nx, ny, nz = blocks.shape
    image = blocks.reshape(batch, -1, ratio, ratio, ratio, nx, ny, nz)
    return image.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        batch, -1, nx * ratio, ny * ratio, nz * ratio
    )


def _check_parameters(numbers: Sequence[int], widths: Sequence[int], dropout: float) -> None:
    """Raise an error if parameters of a network, which may come from a file, make no sense."""
    if not all(type(n) is int and 1 <= n <= _LARGEST_NUMBER for n in numbers):
        raise ValueError(
            f"factors, widths and numbers of passes must be integers from 1 to {_LARGEST_NUMBER}"
        )
    if not 1 <= len(widths) <= _MOST_LEVELS:
        raise ValueError(f"a network has 1 to {_MOST_LEVELS} widths")
    if not 0 <= dropout < 1:
        raise ValueError("dropout must be at least 0 and less than 1")
