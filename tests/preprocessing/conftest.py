"""Brains of natural size on coarse grids."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti, write_image

# Blobs of other tissue: centre and radius, mm; nothing is symmetric.
BLOBS = (
    ((20, 30, 10), 18, 60),
    ((-25, 20, 15), 14, -40),
    ((10, -35, -5), 20, 50),
    ((-20, -30, 20), 12, 70),
    ((0, 5, 30), 15, -50),
    ((35, -10, -10), 12, 40),
    ((-38, 0, -12), 16, -30),
)


def brain(points):
    """Return T1-like intensities at points (..., 3), RAS mm; 0 outside."""
    x, y, z = np.moveaxis(points, -1, 0)
    radius = np.sqrt((x / 65) ** 2 + ((y - 3) / 80) ** 2 + (z / 55) ** 2)
    image = 200 + 100 * (radius < 0.8) + 30 * np.sin(x / 11) * np.cos(y / 13 + z / 9)
    for center, size, contrast in BLOBS:
        near = np.linalg.norm(points - np.array(center, float), axis=-1) < size
        image = image + contrast * near
    return np.where(radius < 1, image, 0).astype(np.float32)


@pytest.fixture(scope="session")
def fixed():
    """A brain on a grid of 4 mm."""
    grid = Grid((44, 52, 40), from_matvec(np.eye(3) * 4, [-86, -100, -78]))
    return nifti(brain(grid.coordinates()), grid.affine)


@pytest.fixture(scope="session")
def moved():
    """A function that returns the brain as a matrix moves it, on a grid of its own."""

    def moved(matrix, contrast=lambda data: data):
        grid = Grid((56, 40, 60), from_matvec(np.diag([-4, 5, 3.5]), [110, -95, -105]))
        shift = matrix[:3, 3]
        grid = Grid(grid.shape, from_matvec(np.eye(3), shift) @ grid.affine)
        data = brain(apply_affine(np.linalg.inv(matrix), grid.coordinates()))
        return nifti(contrast(data).astype(np.float32), grid.affine)

    return moved


@pytest.fixture
def saved(tmp_path):
    """A function that writes an image and returns its path."""

    def saved(image, name):
        return write_image(tmp_path / name, np.asanyarray(image.dataobj), image.affine)

    return saved
