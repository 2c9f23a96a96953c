"""Resampling of fields between grids of different spacing, by their Fourier series."""

import math

import torch

AXES = (-3, -2, -1)


def resize_spectrally(field: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return a periodic field on a cell-centred grid of another size over the same box.

    Exact for fields without frequencies beyond the Nyquist frequency of either grid; those are
    dropped.

    Parameters
    ----------
    field : torch.Tensor
        (..., X, Y, Z).
    shape : tuple of int
        New grid size.

    Returns
    -------
    torch.Tensor
        (..., X', Y', Z') of size `shape`.
    """
    spectrum = torch.fft.fftn(field, dim=AXES)
    for axis, new in zip(AXES, shape, strict=True):
        spectrum = _resize_axis(spectrum, axis, new)
    gain = math.prod(shape) / math.prod(field.shape[-3:])
    return torch.fft.ifftn(spectrum, dim=AXES).real * gain


def _resize_axis(spectrum: torch.Tensor, axis: int, new: int) -> torch.Tensor:
    """Pad or cut the spectrum along one axis and shift it by the offset of the voxel centres."""
    old = spectrum.shape[axis]
    if old == new:
        return spectrum
    kept = (min(old, new) - 1) // 2
    shape = list(spectrum.shape)
    shape[axis] = new - 2 * kept - 1
    gap = torch.zeros(shape, dtype=spectrum.dtype, device=spectrum.device)
    parts = [
        spectrum.narrow(axis, 0, kept + 1),
        gap,
        spectrum.narrow(axis, old - kept, kept),
    ]
    # Voxel 0 is half a voxel inside the box on both grids, which are different positions.
    offset = 0.5 / new - 0.5 / old
    frequencies = torch.fft.fftfreq(new, 1 / new, dtype=spectrum.real.dtype)
    phase = torch.exp(2j * math.pi * offset * frequencies).to(spectrum)
    index = [-1 if a == axis else 1 for a in AXES]
    return torch.cat(parts, dim=axis) * phase.reshape(index)
