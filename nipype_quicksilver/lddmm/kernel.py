"""The smoothing kernel ``K`` that turns momentum into velocity, applied in Fourier space.

``K = L^-power`` with ``L = -alpha Lap - beta grad div + gamma`` (Yang et al. 2017, section 2.1).
``L`` is a finite-difference operator on a periodic grid, so that its symbol is exact at every
spacing: along axis ``d``, with ``theta = 2 pi j / N_d`` and spacing
``h_d``, the second difference is ``-C_d = -(2 - 2 cos theta) / h_d^2`` and the mixed central
differences are ``-S_d S_e`` with ``S_d = sin theta / h_d``.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch

from nipype_quicksilver.lddmm.fields import Shape, Spacing, spacing_tuple
from nipype_quicksilver.lddmm.settings import Kernel

AXES = (-3, -2, -1)


class KernelOperator:
    """A `Kernel` on one grid: ``K``, its inverse and its square root as spectral multiplications.

    Parameters
    ----------
    kernel : Kernel
    shape : sequence of int
        Grid size (X, Y, Z).
    spacing : float or sequence of float
        Grid spacing along each axis.
    dtype : torch.dtype
    device : torch.device or str
        Data type and device of the fields that the operator is applied to.

    Notes
    -----
    The square root is the symmetric one, ``K = R R``. With ``m = R^-1 w`` the energy ``<m, K m>``
    is ``<w, w>``, so that ``w``, the *whitened momentum*, is well scaled for first-order
    optimisers.
    """

    def __init__(
        self,
        kernel: Kernel,
        shape: Sequence[int],
        spacing: Spacing = 1.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.kernel = kernel
        nx, ny, nz = shape
        self.shape: Shape = (nx, ny, nz)
        self.spacing = spacing_tuple(spacing)
        self.dtype = dtype
        self.device = torch.device(device)

    @property
    def cell_volume(self) -> float:
        """Volume of one voxel, in cubic units of the spacing."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2]

    def smooth(self, momentum: torch.Tensor) -> torch.Tensor:
        """Return the velocity ``K m`` of a momentum (B, 3, X, Y, Z)."""
        return self.apply(momentum, 1.0)

    def sharpen(self, velocity: torch.Tensor) -> torch.Tensor:
        """Return the momentum ``K^-1 v`` of a velocity (B, 3, X, Y, Z)."""
        return self.apply(velocity, -1.0)

    def apply(self, field: torch.Tensor, exponent: float) -> torch.Tensor:
        """Return ``K^exponent`` applied to a vector field (B, 3, X, Y, Z)."""
        return self.from_spectrum(self.to_spectrum(field), exponent)

    def to_spectrum(self, field: torch.Tensor) -> torch.Tensor:
        """Return the real Fourier transform of a vector field, (B, 3, X, Y, Z // 2 + 1)."""
        return torch.fft.rfftn(field, dim=AXES)

    def from_spectrum(self, spectrum: torch.Tensor, exponent: float) -> torch.Tensor:
        """Return the field of a spectrum after multiplication by ``K^exponent``."""
        symbol = _symbol(
            self.kernel, self.shape, self.spacing, exponent, self.dtype, str(self.device)
        )
        if symbol.dim() == 3:
            product = spectrum * symbol
        else:
            product = torch.einsum("dexyz,bexyz->bdxyz", symbol.to(spectrum.dtype), spectrum)
        return torch.fft.irfftn(product, s=self.shape, dim=AXES)

    def inner(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the inner product of two fields over the grid, one number per batch entry."""
        return (first * second).sum(dim=(1, 2, 3, 4)) * self.cell_volume


@lru_cache(maxsize=12)
def _symbol(
    kernel: Kernel,
    shape: Shape,
    spacing: tuple[float, float, float],
    exponent: float,
    dtype: torch.dtype,
    device: str,
) -> torch.Tensor:
    """Return the symbol of ``K^exponent``: (X, Y, Z'), or (3, 3, X, Y, Z') if beta is not 0."""
    thetas = [2 * torch.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape[:2]]
    thetas.append(2 * torch.pi * torch.fft.rfftfreq(shape[2], dtype=torch.float64))
    power = -kernel.power * exponent
    second = torch.meshgrid(
        *[(2 - 2 * t.cos()) / h**2 for t, h in zip(thetas, spacing, strict=True)], indexing="ij"
    )
    scalar = kernel.alpha * (second[0] + second[1] + second[2]) + kernel.gamma
    if kernel.beta == 0:
        return (scalar**power).to(dtype).to(device)
    first = torch.meshgrid(
        *[t.sin() / h for t, h in zip(thetas, spacing, strict=True)], indexing="ij"
    )
    # At the Nyquist frequency the sine is zero up to rounding, as it should be.
    rows = []
    for d in range(3):
        for e in range(3):
            mixed = second[d] if d == e else first[d] * first[e]
            rows.append(kernel.beta * mixed + (scalar if d == e else 0.0))
    matrix = torch.stack(rows, dim=-1).reshape(*scalar.shape, 3, 3)
    values, vectors = torch.linalg.eigh(matrix)
    result = (vectors * (values**power)[..., None, :]) @ vectors.mT
    return result.permute(3, 4, 0, 1, 2).to(dtype).contiguous().to(device)
