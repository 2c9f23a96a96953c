"""The shipped family: a U-shaped network that sees both images whole, and the forces between.

Where the paper's network looks at patches of 15 voxels, this one is convolutional throughout:
its tile is the whole image, its context the whole brain. It predicts the whitened momentum ``w``
(``m0 = K^(-1/2) w``) on the grid where the velocity lives.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nipype_quicksilver.lddmm.fields import pool
from nipype_quicksilver.networks.forces import Moving, descent_directions

# Standard deviation and largest value of the whitened momenta that the optimiser finds.
TYPICAL = 0.1
LARGEST = 1.0

# Largest logarithm of a gain, and the part of the step that is free of the forces: how far a
# network with arbitrary weights can go astray.
LARGEST_GAIN = 2.0
BESIDE = 0.3

SLOPE = 0.1  # of the rectifiers, for negative values


class ForceUNet(nn.Module):
    """Predict a change of the whitened momentum from two images.

    Parameters
    ----------
    image : int
        The network looks at the images on the working grid pooled by this factor.
    velocity : int
        It predicts on the working grid pooled by this factor, a multiple of `image`.
    scales : sequence of int
        Forces are computed on the working grid pooled by these factors.
    widths : sequence of int
        Features at each level, from fine to coarse; each level halves the grid.
    passes : int
        Times in a row that the network is applied, each time to what the last has left.
    turns : int
        Times that it looks again in each pass, between two shoots: what it saw is then composed
        with the map instead of shot.
    tile : int
        Blocks of so many voxels of the velocity grid an axis go through the network as channels:
        a coarser and cheaper grid, whose gains are fine again.
    normalized : bool
        Go along the descent of image match and energy, brought to the same size everywhere in the
        brain, instead of along the forces as they are: what is left after a pass is small.
    last_image : int, optional
        In its last passes the images are pooled by this factor, a divisor of `image`, and so are
        those of the finest forces: the gains are those of the same weights, on finer images.
    last_passes : int
        How many passes these are.
    first_step : float
        How far the untrained network goes along the mean force; 0.5 suits a prediction, whose
        forces are about 1, and less a correction.
    dropout : float
        Share of whole features left out at the end of each inner block, also when predicting; 0
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
        if velocity % image or any(scale % image for scale in scales):
            raise ValueError("the velocity's factor and the scales are multiples of the image's")
        if last_image is not None and (last_image < 1 or image % last_image):
            raise ValueError("the last image's factor is a divisor of the image's")
        if not 1 <= last_passes <= passes:
            raise ValueError("there are at least one and at most all passes with the last image")
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
        # A gain for the force of each scale, and three components beside them.
        self.leave = nn.Conv3d(widths[0], (len(self.scales) + 3) * tile**3, 3, padding=1)
        _start_small(self.leave, 1e-3)
        # Before any training all gains are one: the network goes along the mean force.
        self.along = nn.Parameter(torch.full((len(self.scales),), first_step / len(self.scales)))

    def forward(self, moving: Moving, target: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the predicted change of the whitened momentum.

        Parameters
        ----------
        moving : Moving
            Its image is on the working grid pooled by `image`, or by `last_image`, with
            intensities about 0 to 1.
        target : torch.Tensor
            (B, 1, X, Y, Z), on the same grid, in the space of the moving image.
        state : torch.Tensor
            (B, 3, x, y, z): the whitened momentum so far, zero before a prediction.

        Returns
        -------
        torch.Tensor
            (B, 3, x, y, z), on the velocity grid.
        """
        sharper = moving.ratio // self.ratio
        first, *others = (scale // self.image for scale in self.scales)
        with torch.no_grad():
            forces = moving.forces(target, [first, *(scale * sharper for scale in others)])
            if self.normalized:
                forces = descent_directions(forces, state)
        images = [
            _space_to_depth(pool(image, sharper), self.ratio) for image in (moving.image, target)
        ]
        features = torch.cat([*images, forces, state / TYPICAL], dim=1)
        gains, beside = self._through(features).float().tensor_split([len(self.scales)], dim=1)
        gains = torch.exp(LARGEST_GAIN * torch.tanh(gains / LARGEST_GAIN))
        step = BESIDE * beside
        for along, gain, force in zip(
            self.along, gains.split(1, 1), forces.split(3, 1), strict=True
        ):
            step = step + along * gain * force
        return LARGEST * torch.tanh(TYPICAL / LARGEST * step)

    def in_passes(self, finest: int = 1) -> "list[ForceUNet | Sharper]":
        """Return the network once for each pass, in their order.

        Parameters
        ----------
        finest : int
            By which the images are pooled already.
        """
        last = max(self.last_image or self.image, finest)
        if last == self.image:
            return [self] * self.passes
        return [self] * (self.passes - self.last_passes) + [Sharper(self, last)] * self.last_passes

    def _through(self, features: torch.Tensor) -> torch.Tensor:
        """Go down through the levels and up again, adding what each level saw on the way."""
        nx, ny, nz = features.shape[2:]
        multiple = self.tile * 2 ** len(self.down)
        x = functional.pad(features, [0, -nz % multiple, 0, -ny % multiple, 0, -nx % multiple])
        x = _space_to_depth(x, self.tile)
        x = self.enter(x.contiguous(memory_format=torch.channels_last_3d))
        seen = []
        for encoder, down in zip(self.encoders, self.down, strict=False):
            x = encoder(x)
            seen.append(x)
            x = down(x)
        x = self.encoders[-1](x)
        for up, decoder in zip(reversed(self.up), reversed(self.decoders), strict=True):
            x = decoder(up(x) + seen.pop())
        x = self.leave(functional.leaky_relu(x, SLOPE))
        return _depth_to_space(x, self.tile)[..., :nx, :ny, :nz]


class Sharper:
    """A network that looks at finer images than it was trained on.

    Parameters
    ----------
    network : ForceUNet
    image : int
        By which the images are pooled.
    """

    def __init__(self, network: ForceUNet, image: int) -> None:
        self._network = network
        self.image, self.velocity, self.turns = image, network.velocity, network.turns

    def __call__(self, moving: Moving, target: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return what the network returns, see :meth:`ForceUNet.forward`."""
        change: torch.Tensor = self._network(moving, target, state)
        return change

    def in_passes(self, finest: int = 1) -> "list[Sharper]":
        """Return the one pass."""
        return [self]


class _Block(nn.Module):
    """Two convolutions and a shortcut past them (He et al. 2016, with activations first)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        self.dropout = dropout
        # Starts as the identity, so that depth costs nothing at first.
        _start_small(self.second, 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.first(functional.leaky_relu(x, SLOPE))
        inner = self.second(functional.leaky_relu(inner, SLOPE))
        if self.dropout > 0:  # kept on when predicting: samples of the posterior
            inner = functional.dropout3d(inner, self.dropout, training=True)
        return x + inner


def _start_small(layer: nn.Conv3d, scale: float) -> None:
    if not layer.weight.is_meta:  # there is nothing to draw, and torch would import its compiler
        nn.init.normal_(layer.weight, std=scale)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _space_to_depth(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """Return each block of ``ratio`` voxels an axis as channels: (B, C ratio^3, x, y, z)."""
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
