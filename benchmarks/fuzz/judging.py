"""What is right: values within the limits of the package."""

import numpy as np
from nibabel.spatialimages import SpatialImage

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import limits


class Nonsense(Exception):
    """A reader returned a value that it should have refused."""


def check_finite(values: np.ndarray) -> None:
    """Raise an error for numbers that are not finite."""
    if not np.isfinite(values).all():
        raise Nonsense("a value that is not finite")


def check_points(points: np.ndarray) -> None:
    """Raise an error for points beyond the limits."""
    try:
        limits.check_coordinates(points, "points", "points")
    except InputError as error:
        raise Nonsense(str(error)) from error


def check_image(image: SpatialImage) -> None:
    """Raise an error for an image beyond the limits, also after its affine is stored."""
    check_finite(np.asanyarray(image.dataobj))
    try:
        for affine in (image.affine, image.get_sform(), image.affine.astype(np.float32)):
            limits.check_world(affine, image.shape, "image")
    except InputError as error:
        raise Nonsense(str(error)) from error


def same(value: object, expected: object, what: str) -> None:
    """Raise an error if a value is not the expected one."""
    if not np.array_equal(np.asarray(value), np.asarray(expected)):
        raise Nonsense(f"{what} that is not the one that was written")
