"""The network of the 2017 paper: from a patch of both images to its initial momentum.

Two encoders, one for the moving and one for the target patch, whose features are concatenated, and
one decoder for each component of the momentum (Yang et al. 2017, section 2.2). Each of them has two
blocks. A block of an encoder consists of three convolutions and a strided one instead of pooling, a
block of a decoder of a transposed convolution and three others. Every activation is a PReLU;
features are not normalised.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

# A network with more would not fit into memory; that of the paper has 64.
_MOST_FEATURES, _LARGEST_PATCH = 1024, 255


class SamplingDropout(nn.Module):
    """Dropout that is also active in evaluation mode, so that each pass is a sample.

    Parameters
    ----------
    p : float
        Fraction of the values set to 0; the others are scaled up to keep the mean.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def extra_repr(self) -> str:
        """Return the parameters for `repr`."""
        return f"p={self.p}"

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drop values at random; without using random numbers if `p` is 0."""
        return functional.dropout(values, self.p, training=True) if self.p else values


class PatchNetwork(nn.Module):
    """The network of the 2017 paper.

    Parameters
    ----------
    features : int
        Features of the first block; the second has twice as many.
    dropout : float
        0 for the deterministic network, 0.2 for the probabilistic one of the paper, in which it
        follows every activation except those of the strided and the transposed convolutions and
        the output. Both have the same weights, so that one checkpoint suits both.
    patch_size : int
        Side of a patch, 3 more than a multiple of 4: other sizes are not restored after the
        strided convolutions.

    Examples
    --------
    >>> network = PatchNetwork()
    >>> sum(weights.numel() for weights in network.parameters())
    21826344
    >>> patch = torch.zeros(1, 1, 15, 15, 15)
    >>> PatchNetwork(features=2)(patch, patch).shape
    torch.Size([1, 3, 15, 15, 15])
    """

    def __init__(self, features: int = 64, dropout: float = 0.0, patch_size: int = 15) -> None:
        super().__init__()
        if not 1 <= features <= _MOST_FEATURES:
            raise ValueError(f"a patch network needs 1 to {_MOST_FEATURES} features")
        if not 0 <= dropout < 1:
            raise ValueError("dropout must be at least 0 and less than 1")
        if not 3 <= patch_size <= _LARGEST_PATCH or patch_size % 4 != 3:
            raise ValueError("the side of a patch must be 3 more than a multiple of 4")
        self.features = features
        self.dropout = dropout
        self.patch_size = patch_size
        self.moving_encoder = _encoder(features, dropout)
        self.target_encoder = _encoder(features, dropout)
        self.decoders = nn.ModuleList(_decoder(features, dropout) for _ in range(3))

    def forward(self, moving: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the momentum of patches.

        Parameters
        ----------
        moving, target : torch.Tensor
            (B, 1, X, Y, Z), each side 3 more than a multiple of 4.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z).
        """
        if any(side % 4 != 3 for side in moving.shape[2:]):
            raise ValueError(f"a patch of {tuple(moving.shape[2:])} does not fit this network")
        encoded = torch.cat((self.moving_encoder(moving), self.target_encoder(target)), dim=1)
        return torch.cat([decoder(encoded) for decoder in self.decoders], dim=1)


def _encoder(features: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        _encoder_block(1, features, dropout), _encoder_block(features, 2 * features, dropout)
    )


def _decoder(features: int, dropout: float) -> nn.Sequential:
    # The encoder reduces sides of 15 to 8 and then 5. A transposed convolution of 2 voxels restores
    # 8 from 5, but only one of 3 voxels restores 15 from 8.
    return nn.Sequential(
        _decoder_block(4 * features, 2 * features, 2, dropout),
        _decoder_block(2 * features, 1, 3, dropout, last=True),
    )


def _encoder_block(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, channels in enumerate((inputs, outputs, outputs), start=1):
        layers[f"convolution{number}"] = nn.Conv3d(channels, outputs, 3, padding=1)
        layers[f"activation{number}"] = nn.PReLU()
        layers[f"dropout{number}"] = SamplingDropout(dropout)
    layers["down"] = nn.Conv3d(outputs, outputs, 2, stride=2, padding=1)
    layers["down_activation"] = nn.PReLU()
    return nn.Sequential(layers)


def _decoder_block(
    inputs: int, outputs: int, side: int, dropout: float, *, last: bool = False
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["up"] = nn.ConvTranspose3d(inputs, inputs, side, stride=2, padding=1)
    layers["up_activation"] = nn.PReLU()
    for number, channels in enumerate((inputs, inputs, outputs), start=1):
        layers[f"convolution{number}"] = nn.Conv3d(inputs, channels, 3, padding=1)
        if not (last and number == 3):
            layers[f"activation{number}"] = nn.PReLU()
            layers[f"dropout{number}"] = SamplingDropout(dropout)
    return nn.Sequential(layers)
