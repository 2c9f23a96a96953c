"""From two images to an initial momentum: prediction (LP) and its corrections (LPC).

The prediction network sees the two images, affinely aligned. Its momentum is shot; the target is
carried back to the moving image by ``phi``, and the correction network sees what is left between
the two (Yang et al. 2017, section 2.4). Both predict whitened momenta at the start of the flow, so
they add up.
"""


import torch

from nipype_quicksilver.lddmm.fields import Spacing, pool, sample, spacing_tuple, upsample
from nipype_quicksilver.lddmm.kernel import Kernel, KernelOperator
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.networks.unet import ForceUNet


class Images:
    """A pair on the working grid, pooled on demand.

    Parameters
    ----------
    fixed, moving, weight : torch.Tensor
        (B, 1, X, Y, Z), on the grid of the finest network's images or a finer one.
    factor : int
        By which that grid is pooled already, from the working grid.
    spacing : float or sequence of float
        Of the working grid.
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        weight: torch.Tensor,
        *,
        factor: int = 1,
        spacing: Spacing = 1.0,
    ) -> None:
        self._images = (fixed, moving, weight)
        self._factor = factor
        self._spacing = spacing_tuple(spacing)
        self._pooled: dict[int, tuple[torch.Tensor, ...]] = {}

    def at(self, factor: int) -> tuple[torch.Tensor, ...]:
        """Return fixed image, moving image and weight pooled by a factor of the working grid."""
        if factor not in self._pooled:
            further = factor // self._factor
            self._pooled[factor] = tuple(pool(image, further) for image in self._images)
        return self._pooled[factor]

    def spacing(self, factor: int) -> tuple[float, float, float]:
        """Return the spacing of the working grid pooled by a factor."""
        x, y, z = (h * factor for h in self._spacing)
        return x, y, z

    def operator(self, kernel: Kernel, factor: int) -> KernelOperator:
        """Return a kernel on the working grid pooled by a factor."""
        fixed = self._images[0]
        shape = [n * self._factor // factor for n in fixed.shape[2:]]
        return KernelOperator(kernel, shape, self.spacing(factor), fixed.dtype, fixed.device)


def predict(network: ForceUNet, images: Images, operator: KernelOperator) -> torch.Tensor:
    """Return the whitened momentum that the prediction network sees in two images (LP)."""
    fixed, moving, weight = images.at(network.image)
    return network(moving, fixed, weight, operator)


def correct(
    network: ForceUNet,
    images: Images,
    state: torch.Tensor,
    operator: KernelOperator,
    *,
    steps: int,
) -> torch.Tensor:
    """Return a state with the correction that a network sees after shooting it (LPC).

    Parameters
    ----------
    network : ForceUNet
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
        The corrected state; gradients flow through the network only.
    """
    fixed, moving, weight = images.at(network.image)
    with torch.no_grad():
        momentum, velocity = operator.apply(state, -0.5), operator.apply(state, 0.5)
        forward = shoot(momentum, operator, steps=steps, velocity=velocity, both=True).forward
        assert forward is not None
        forward = upsample(forward, network.ratio)
        spacing = images.spacing(network.image)
        target, brain = sample(torch.cat([fixed, weight], 1), forward, spacing).split(1, dim=1)
    return state + network(moving, target, torch.maximum(brain, weight), operator)


def carry_state(
    state: torch.Tensor, old: KernelOperator, new: KernelOperator
) -> torch.Tensor:
    """Return a whitened momentum on a finer grid: the same velocity, interpolated."""
    factor = new.shape[0] // old.shape[0]
    if factor == 1:
        return state
    return new.apply(upsample(old.apply(state, 0.5), factor), -0.5)
