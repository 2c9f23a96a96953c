"""From two images to an initial momentum: prediction (LP) and its corrections (LPC).

The prediction network sees the two images, affinely aligned. Its momentum is shot; the target is
carried back to the moving image by ``phi``, and the correction network sees what is left between
the two (Yang et al. 2017, section 2.4). Both predict momenta at the start of the flow, so they add
up. A *state* here is a whitened momentum ``w``, ``m0 = K^(-1/2) w``, with the operator of its grid.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch

from nipype_quicksilver.lddmm.fields import (
    Box,
    Spacing,
    bounding_box,
    compose,
    placed,
    pool,
    sample,
    shape_of,
    spacing_tuple,
    upsample,
    upsample_within,
)
from nipype_quicksilver.lddmm.folding import calm
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.networks.forces import Moving

State = tuple[torch.Tensor, KernelOperator]

# Passes of a prediction after which a correction on finer grids gets farther than another pass.
UNTIL_CORRECTION = 4


class Network(Protocol):
    """What predicts a whitened momentum; see `unet.ForceUNet`."""

    image: int
    velocity: int
    turns: int

    def __call__(self, moving: Moving, target: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return what is to be added to a whitened momentum (B, 3, x, y, z)."""

    def in_passes(self, finest: int = 1) -> "Sequence[Network]":
        """Return the network as often in a row as it is made to be applied.

        Images are pooled by `finest` already, and it looks at none that are finer.
        """


class Images:
    """A pair on the working grid, pooled on demand.

    Parameters
    ----------
    fixed, moving : torch.Tensor
        (B, 1, X, Y, Z), on the working grid or one that is coarser by `factor`.
    weight : torch.Tensor
        (B, 1, X, Y, Z): how much each voxel of the fixed image counts.
    moving_weight : torch.Tensor, optional
        The same on the moving image's side.
    factor : int
        By which the images are pooled already.
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
            raise ValueError(f"these images are pooled by {self._factor} already, not by {factor}")
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
    """Apply networks in their order: the first predicts unless there is a start; others correct.

    Parameters
    ----------
    networks : sequence of Network
        The velocity grid of each is that of the one before or finer.
    images : Images
    kernel : Kernel
    steps : int
        Time steps of the shoots in between.
    start : State, optional
        Where to go on from.

    Returns
    -------
    State or None
        On the last network's velocity grid; the start if there are no networks.
    """
    for network in networks:
        operator = images.operator(kernel, network.velocity)
        if start is None:
            start = predict(network, images, operator), operator
        else:
            start = correct(network, images, on_grid(start, operator), operator, steps), operator
    return start


def repeated(networks: Sequence[Network], finest: int = 1) -> list[Network]:
    """Return networks with each as often in a row as it is made to be applied.

    Images are pooled by `finest` already.
    """
    return [*before_correction(networks[:-1], finest), *networks[-1].in_passes(finest)]


def before_correction(networks: Sequence[Network], finest: int = 1) -> list[Network]:
    """Return networks as :func:`repeated` does, where another one corrects what they leave.

    The first one, which predicts, is applied `UNTIL_CORRECTION` times at most.
    """
    passes = [list(network.in_passes(finest)) for network in networks]
    return list(chain(*(part[:UNTIL_CORRECTION] for part in passes[:1]), *passes[1:]))


def predict(network: Network, images: Images, operator: KernelOperator) -> torch.Tensor:
    """Return the whitened momentum that a network sees in two images (LP)."""
    fixed, moving, weight, moving_weight = images.at(network.image)
    nothing = moving.new_zeros((moving.shape[0], 3, *operator.shape))
    return network(Moving(moving, weight * moving_weight, operator), fixed, nothing)


def correct(
    network: Network, images: Images, state: torch.Tensor, operator: KernelOperator, steps: int
) -> torch.Tensor:
    """Return a whitened momentum with the correction that a network sees after shooting it (LPC).

    Parameters
    ----------
    network : Network
    images : Images
    state : torch.Tensor
        Whitened momentum, (B, 3, x, y, z), on the network's velocity grid.
    operator : KernelOperator
        On that grid.
    steps : int
        Time steps of the shoot.

    Returns
    -------
    torch.Tensor
        The corrected momentum. Gradients flow to all that the network adds to it, not through what
        it looks at.
    """
    fixed, moving, weight, moving_weight = images.at(network.image)
    with torch.no_grad():
        momentum, velocity = operator.apply(state, -0.5), operator.apply(state, 0.5)
        geodesic = shoot(momentum, operator, steps=steps, velocity=velocity, both=True)
        assert geodesic.forward is not None
        state = calm(state, geodesic, operator)
        forward = geodesic.forward
        # Nearly the same from turn to turn.
        carried = _carried(weight, forward, network, images, bounding_box(moving_weight))
        seen = Moving(moving, moving_weight * carried, operator)
        box = bounding_box(seen.weight)
    for turn in range(network.turns):
        with torch.no_grad():
            target = _carried(fixed, forward, network, images, box)
        step = network(seen, target, state.detach())
        state = state + step
        if turn + 1 < network.turns:
            with torch.no_grad():
                velocity = operator.apply(step, 0.5)
                forward = compose(forward, velocity, operator.spacing)
    return state


def _carried(
    image: torch.Tensor, forward: torch.Tensor, network: Network, images: Images, box: Box
) -> torch.Tensor:
    """Return an image in fixed space carried back to the moving one, in a box; zeros around it."""
    fine = upsample_within(forward, network.velocity // network.image, box)
    carried = sample(image, fine, images.spacing(network.image), box=box)
    return placed(carried, box, shape_of(image))


def on_grid(state: State, operator: KernelOperator) -> torch.Tensor:
    """Return a whitened momentum on the same or a finer grid: the same velocity, interpolated."""
    momentum, old = state
    factor = operator.shape[0] // old.shape[0]
    if factor == 1:
        return momentum
    return operator.apply(upsample(old.apply(momentum, 0.5), factor), -0.5)
