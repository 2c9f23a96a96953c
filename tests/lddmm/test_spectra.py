"""Resampling between cell-centred grids by Fourier series."""

import math

import pytest
import torch

from nipype_quicksilver.lddmm.spectra import resize_spectrally


def wave(size: int) -> torch.Tensor:
    x = 2 * math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return (torch.sin(2 * x)[:, None, None] + torch.cos(x)[None, :, None] + 0.5).expand(
        size, size, size
    )


@pytest.mark.parametrize(("old", "new"), [(8, 16), (16, 8), (9, 18), (10, 40), (8, 8)])
def test_is_exact_for_low_frequencies(old: int, new: int) -> None:
    field = wave(old)[None, None]
    assert torch.allclose(resize_spectrally(field, (new,) * 3)[0, 0], wave(new), atol=1e-12)


def test_keeps_the_mean_and_drops_high_frequencies() -> None:
    noise = torch.randn((1, 3, 16, 16, 16), dtype=torch.float64)
    small = resize_spectrally(noise, (8, 8, 8))
    assert torch.allclose(small.mean(dim=(2, 3, 4)), noise.mean(dim=(2, 3, 4)))
    again = resize_spectrally(resize_spectrally(small, (16, 16, 16)), (8, 8, 8))
    assert torch.allclose(again, resize_spectrally(again, (8, 8, 8)))
    assert again.var() < noise.var()
