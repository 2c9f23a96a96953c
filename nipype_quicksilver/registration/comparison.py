"""The similarity of two images on the working grid; torch is imported when it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nipype_quicksilver.registration.preparation import Prepared
from nipype_quicksilver.registration.shooting import Maps, to_tensor
from nipype_quicksilver.registration.summary import Similarity
from nipype_quicksilver.spatial import intensity

if TYPE_CHECKING:
    import torch

SIMILARITY = "mean squared local correlation over the compared voxels, at half resolution"


def with_matching_contrast(prepared: Prepared) -> tuple[Prepared, str | None]:
    """Return a pair of matching contrast, and the image whose dark and bright were exchanged.

    Parameters
    ----------
    prepared : Prepared
        Images on the working grid.

    Returns
    -------
    prepared : Prepared
        See `spatial.intensity.with_matching_contrast`.
    exchanged : str or None
        ``fixed`` or ``moving``; None if neither.
    """
    fixed, moving, exchanged = intensity.with_matching_contrast(prepared.fixed, prepared.moving)
    return replace(prepared, fixed=fixed, moving=moving), exchanged


def describe_similarity(prepared: Prepared, maps: Maps, device: torch.device) -> Similarity:
    """Measure the similarity of two prepared images, without and with the deformation.

    Parameters
    ----------
    prepared : Prepared
        Images on the working grid, of matching contrast.
    maps : Maps
        Of the deformation, on the working grid.
    device : torch.device
        Where to compute.

    Returns
    -------
    Similarity
        Squared local correlations, from 0 to 1.
    """
    import torch

    from nipype_quicksilver.lddmm.fields import sample
    from nipype_quicksilver.lddmm.grids import pool
    from nipype_quicksilver.lddmm.similarity import mean_local_correlation

    def halved(array: np.ndarray) -> torch.Tensor:
        return pool(to_tensor(array, device), 2)

    arrays = (prepared.fixed, prepared.moving, prepared.weight)
    target, source, inside = (halved(array) for array in arrays)
    lesion = torch.ones_like(source)
    if prepared.moving_weight is not None:
        lesion = halved(prepared.moving_weight)
    spacing = [2 * h for h in prepared.grid.spacing]
    with torch.no_grad():
        before = mean_local_correlation(target, source, inside * lesion)
        warp = halved(maps.inverse)
        source, lesion = (sample(image, warp, spacing) for image in (source, lesion))
        after = mean_local_correlation(target, source, inside * lesion)
    return Similarity(SIMILARITY, before, after)
