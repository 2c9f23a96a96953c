"""The two brains of the demonstration: a template, and the same brain, deformed and altered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.demo.geodesic import TrueGeodesic, random_geodesic
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti, write_image
from nipype_quicksilver.spatial.resampling import conform, resample

if TYPE_CHECKING:
    import torch

#: Tissues by the number they have in label maps.
TISSUES = {1: "CSF", 2: "gray matter", 3: "white matter"}

WHITE = 1000.0  # about the intensity of white matter in both images
GAMMA = 1.5  # of the fixed contrast
#: Names of the images of a pair, and of their files.
IMAGES = ("fixed", "moving", "fixed_labels", "moving_labels")
GRAY_LOSS = 0.2  # fraction of its signal that gray matter loses in addition
BIAS = 0.2  # largest logarithm of the bias field
NOISE = 0.03  # standard deviation, of white matter's intensity


@dataclass(frozen=True, eq=False)
class Template:
    """A brain whose tissues are known, all on one grid.

    Attributes
    ----------
    brain : Nifti1Image
        T1-weighted, (X, Y, Z), from 0 to 1, 0 outside the brain.
    gray, white : Nifti1Image
        Fractions of gray and white matter, from 0 to 1.
    """

    brain: Nifti1Image
    gray: Nifti1Image
    white: Nifti1Image


@dataclass(frozen=True, eq=False)
class Pair:
    """Two brains and the deformation between them, all on one grid.

    Attributes
    ----------
    moving, fixed : Nifti1Image
        (X, Y, Z), int16, 0 outside the brain.
    moving_labels, fixed_labels : Nifti1Image
        Tissues, uint8, see :data:`TISSUES`.
    deformed : Nifti1Image
        (X, Y, Z), float32: the deformed moving brain, before its contrast is changed.
    truth : TrueGeodesic
        The deformation.
    """

    moving: Nifti1Image
    fixed: Nifti1Image
    moving_labels: Nifti1Image
    fixed_labels: Nifti1Image
    deformed: Nifti1Image
    truth: TrueGeodesic

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the images and labels.

        Parameters
        ----------
        folder : Path
            An existing folder.

        Returns
        -------
        dict
            Paths by name, see :data:`IMAGES`.
        """
        images = {name: getattr(self, name) for name in IMAGES}
        return {
            name: write_image(folder / f"{name}.nii.gz", np.asanyarray(image.dataobj), image.affine)
            for name, image in images.items()
        }


def load_template(spacing: int = 1) -> Template:
    """Load the MNI152 template that is installed with nilearn; nothing is downloaded.

    Parameters
    ----------
    spacing : {1, 2}
        Voxel size, mm.

    Returns
    -------
    Template
        ICBM 152 nonlinear symmetric 2009a, without skull.
    """
    # Importing it takes seconds, as it imports much of scikit-learn.
    from nilearn import datasets

    brain = datasets.load_mni152_template(resolution=1)
    gray = datasets.load_mni152_gm_template(resolution=1)
    white = datasets.load_mni152_wm_template(resolution=1)
    images = [
        nifti(np.asarray(i.dataobj, dtype=np.float32), i.affine) for i in (brain, gray, white)
    ]
    if spacing > 1:
        grid = Grid.from_image(brain).subsampled(spacing)
        # Without the mask, smoothing would leave a dim rim around the brain.
        inside = nifti((np.asanyarray(images[0].dataobj) > 0).astype(np.float32), brain.affine)
        mask = conform(inside, grid) > 0.5
        images = [nifti(conform(image, grid) * mask, grid.affine) for image in images]
    return Template(*images)


def make_pair(template: Template, seed: int, device: torch.device) -> Pair:
    """Make a moving brain, and a fixed brain by a random geodesic and another contrast.

    Parameters
    ----------
    template : Template
        The moving brain.
    seed : int
        Seed of the deformation, the bias field and the noise.
    device : torch.device
        Where the geodesic is shot.

    Returns
    -------
    Pair
        The fixed brain is ``M o phi^-1``, with gray matter darker, a bias field and noise.
    """
    affine, grid = template.brain.affine, Grid.from_image(template.brain)
    brain = np.asanyarray(template.brain.dataobj)
    truth = random_geodesic(template.brain, seed, device)
    deformed, gray, inside = (
        resample(image, grid, truth.transform)
        for image in (
            template.brain,
            template.gray,
            nifti((brain > 0).astype(np.float32), affine),
        )
    )
    inside = inside > 0.5
    deformed = np.where(inside, deformed, 0)
    labels = nifti(_tissues(template), affine)
    deformed_labels = resample(labels, grid, truth.transform, interpolation="GenericLabel")
    fixed = _altered(deformed, gray, inside, grid, np.random.default_rng([seed, 1]))
    return Pair(
        moving=nifti(_as_int16(brain, brain > 0), affine),
        fixed=nifti(_as_int16(fixed, inside), affine),
        moving_labels=labels,
        fixed_labels=nifti(np.where(inside, deformed_labels, 0).astype(np.uint8), affine),
        deformed=nifti(deformed.astype(np.float32), affine),
        truth=truth,
    )


def _tissues(template: Template) -> np.ndarray:
    """Return the tissue with the largest fraction in each voxel of the brain, uint8."""
    brain, gray, white = (
        np.asanyarray(image.dataobj) for image in (template.brain, template.gray, template.white)
    )
    fractions = np.stack([1 - gray - white, gray, white])
    return np.where(brain > 0, 1 + fractions.argmax(axis=0), 0).astype(np.uint8)


def _altered(
    brain: np.ndarray,
    gray: np.ndarray,
    inside: np.ndarray,
    grid: Grid,
    random: np.random.Generator,
) -> np.ndarray:
    """Return a brain with another contrast, a bias field and noise, from 0 to about 1."""
    contrast = np.clip(brain, 0, None) ** GAMMA * (1 - GRAY_LOSS * np.clip(gray, 0, 1))
    noise = NOISE * random.standard_normal(grid.shape)
    return contrast * np.exp(_log_bias(grid, inside, random)) + noise


def _log_bias(grid: Grid, inside: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a random quadratic polynomial of the position, bounded and of mean 0 in the brain."""
    x, y, z = _standardized_axes(grid, inside)
    terms = (x, y, z, x * x, y * y, z * z, x * y, y * z, z * x)
    field = sum(c * term for c, term in zip(random.standard_normal(9), terms, strict=True))
    field = field - field[inside].mean()
    return BIAS * field / np.abs(field[inside]).max()


def _standardized_axes(grid: Grid, inside: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the positions along each axis, which broadcast against each other.

    They are 0 in the middle of the brain, with a standard deviation of 1 along its longest axis.
    """
    centred, spreads = [], []
    for axis, spacing in enumerate(grid.spacing):
        position = spacing * np.arange(grid.shape[axis])
        voxels = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        position = position - np.average(position, weights=voxels)
        centred.append(position)
        spreads.append(np.sqrt(np.average(position**2, weights=voxels)))
    return np.ix_(*(position / max(spreads) for position in centred))


def _as_int16(data: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return intensities as int16, at least 1 in the brain and 0 outside."""
    return np.where(inside, np.maximum(np.rint(WHITE * data), 1), 0).astype(np.int16)
