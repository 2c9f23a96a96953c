"""From two images to an initial momentum: prediction (LP) and its corrections (LPC).

The input of the prediction network is two affinely aligned images. Its momentum is shot, the
target is warped to the space of the moving image by ``phi``, and the correction network predicts
from the remaining difference (Yang et al. 2017, section 2.4). Both predict momenta at the start of
the flow, which are added. A *state* is a whitened momentum ``w``, ``m0 = K^(-1/2) w``, with the
operator of its grid.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch

from nipype_quicksilver.lddmm.fields import Spacing, compose, sample, shape_of, spacing_tuple
from nipype_quicksilver.lddmm.folding import damp
from nipype_quicksilver.lddmm.grids import (
    Box,
    bounding_box,
    embed,
    pool,
    upsample,
    upsample_within,
)
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.networks.forces import MovingImage

State = tuple[torch.Tensor, KernelOperator]

# Number of passes of a prediction after which a correction on finer grids improves the result more
# than another pass.
PASSES_BEFORE_CORRECTION = 4


class Network(Protocol):
    """A network that predicts whitened momenta; see `unet.ForceUNet`.

    Attributes
    ----------
    image, velocity : int
        Images and momentum are on the working grid pooled by these factors.
    turns : int
        Number of times that it is applied between two shoots.
    """

    image: int
    velocity: int
    turns: int

    def __call__(
        self, moving: MovingImage, target: torch.Tensor, state: torch.Tensor
    ) -> torch.Tensor:
        """Return the change of a whitened momentum (B, 3, x, y, z)."""

    def unroll(self, finest: int = 1) -> "Sequence[Network]":
        """Return the network once for each of its passes.

        Images are pooled by `finest` already; finer ones are not available.
        """


class Images:
    """A pair on the working grid, pooled on demand.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (B, 1, X, Y, Z), on the working grid pooled by `factor`.
    weight : torch.Tensor
        (B, 1, X, Y, Z): weight of each voxel of the fixed image.
    moving_weight : torch.Tensor, optional
        The same for the moving image. Default: 1.
    factor : int
        The images are pooled by this factor already.
    spacing : float or sequence of float
        Of the working grid, in millimetres.
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        weight: torch.Tensor,
        moving_weight: torch.Tensor | None = None,
        *,
        factor: int = 1,
        spacing: Spacing = 1.0,
    ) -> None:
        if moving_weight is None:
            moving_weight = torch.ones_like(moving)
        self._images = torch.cat([fixed, moving, weight, moving_weight], dim=1)
        self._factor = factor
        self._spacing = spacing_tuple(spacing)
        self._pooled: dict[int, torch.Tensor] = {}

    def at(self, factor: int) -> tuple[torch.Tensor, ...]:
        """Return fixed, moving and both weights on the working grid pooled by a factor."""
        if factor % self._factor:
            raise ValueError(f"the images are already pooled by {self._factor}, not by {factor}")
        if factor not in self._pooled:
            self._pooled[factor] = pool(self._images, factor // self._factor)
        return self._pooled[factor].split(1, dim=1)

    def spacing(self, factor: int) -> tuple[float, float, float]:
        """Return the spacing of the working grid pooled by a factor."""
        x, y, z = (h * factor for h in self._spacing)
        return x, y, z

    def operator(self, kernel: Kernel, factor: int) -> KernelOperator:
        """Return a kernel on the working grid pooled by a factor."""
        shape = [n * self._factor // factor for n in self._images.shape[2:]]
        like = self._images
        return KernelOperator(kernel, shape, self.spacing(factor), like.dtype, like.device)


def run_networks(
    networks: Sequence[Network],
    images: Images,
    kernel: Kernel,
    steps: int,
    start: State | None = None,
) -> State | None:
    """Apply networks in order: the first one predicts, or corrects a given start; others correct.

    Parameters
    ----------
    networks : sequence of Network
        The velocity grid of each is that of the previous one or finer.
    images : Images
    kernel : Kernel
    steps : int
        Time steps of the shooting in between.
    start : State, optional
        State to start from. Default: the first network predicts it.

    Returns
    -------
    State or None
        On the last network's velocity grid; `start` if there are no networks.
    """
    for network in networks:
        operator = images.operator(kernel, network.velocity)
        if start is None:
            start = predict(network, images, operator), operator
        else:
            state = correct(network, images, interpolate_state(start, operator), operator, steps)
            start = state, operator
    return start


def unroll_networks(networks: Sequence[Network], finest: int = 1) -> list[Network]:
    """Return networks with each of them once for each of its passes.

    Images are pooled by `finest` already.
    """
    return [*unroll_before_correction(networks[:-1], finest), *networks[-1].unroll(finest)]


def unroll_before_correction(networks: Sequence[Network], finest: int = 1) -> list[Network]:
    """Return networks as :func:`unroll_networks` does, for another network that follows.

    The first one, which predicts, has `PASSES_BEFORE_CORRECTION` passes at most.
    """
    passes = [list(network.unroll(finest)) for network in networks]
    return list(chain(*(part[:PASSES_BEFORE_CORRECTION] for part in passes[:1]), *passes[1:]))


def predict(network: Network, images: Images, operator: KernelOperator) -> torch.Tensor:
    """Return the whitened momentum that a network predicts from two images (LP)."""
    fixed, moving, weight, moving_weight = images.at(network.image)
    zero = moving.new_zeros((moving.shape[0], 3, *operator.shape))
    return network(MovingImage(moving, weight * moving_weight, operator), fixed, zero)


def correct(
    network: Network, images: Images, state: torch.Tensor, operator: KernelOperator, steps: int
) -> torch.Tensor:
    """Return a whitened momentum with the correction that a network predicts (LPC).

    Parameters
    ----------
    network : Network
    images : Images
    state : torch.Tensor
        Whitened momentum, (B, 3, x, y, z), on the network's velocity grid.
    operator : KernelOperator
        On that grid.
    steps : int
        Time steps of the shooting.

    Returns
    -------
    torch.Tensor
        The corrected momentum. Gradients are propagated through the output of the network, not
        through its input.
    """
    fixed, moving, weight, moving_weight = images.at(network.image)
    with torch.no_grad():
        momentum, velocity = operator.apply(state, -0.5), operator.apply(state, 0.5)
        geodesic = shoot(momentum, operator, steps=steps, velocity=velocity, both=True)
        assert geodesic.forward is not None
        state = damp(state, geodesic, operator)
        forward = geodesic.forward
        # The weight hardly changes between turns.
        warped_weight = _warped(weight, forward, network, images, bounding_box(moving_weight))
        source = MovingImage(moving, moving_weight * warped_weight, operator)
        box = bounding_box(source.weight)
    for turn in range(network.turns):
        with torch.no_grad():
            target = _warped(fixed, forward, network, images, box)
        step = network(source, target, state.detach())
        state = state + step
        if turn + 1 < network.turns:
            with torch.no_grad():
                velocity = operator.apply(step, 0.5)
                forward = compose(forward, velocity, operator.spacing)
    return state


def _warped(
    image: torch.Tensor, forward: torch.Tensor, network: Network, images: Images, box: Box
) -> torch.Tensor:
    """Return an image of fixed space warped to moving space, in a box; zero outside."""
    fine = upsample_within(forward, network.velocity // network.image, box)
    warped = sample(image, fine, images.spacing(network.image), box=box)
    return embed(warped, box, shape_of(image))


def interpolate_state(state: State, operator: KernelOperator) -> torch.Tensor:
    """Return a whitened momentum on the same or a finer grid, with interpolated velocity."""
    momentum, old = state
    factor = operator.shape[0] // old.shape[0]
    if factor == 1:
        return momentum
    return operator.apply(upsample(old.apply(momentum, 0.5), factor), -0.5)
