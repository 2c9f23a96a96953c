import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy import ndimage

from nipype_quicksilver.preprocessing import brain
from nipype_quicksilver.spatial import images
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image
from tests.helpers.registrations import SETTINGS, options_of, register
from tests.preprocessing.conftest import brain as brain_at

#: Of the moving head, mm.
SHIFT = np.array([14.0, -9.0, 6.0])


@pytest.fixture(scope="session")
def result(pair):
    """The small pair, registered by optimisation with all its files."""
    return register(pair.fixed, pair.moving, settings=SETTINGS, **options_of(pair))


@pytest.fixture(scope="session")
def saved(result, tmp_path_factory):
    """Files of the registered pair, by attribute."""
    return result.save(tmp_path_factory.mktemp("saved") / "new" / "out")


@pytest.fixture
def brain_mask(pair):
    """Brain mask of the fixed image of the small pair."""
    return images.read_mask(pair.fixed_mask)


@pytest.fixture(scope="session")
def heads(tmp_path_factory):
    """Two heads, the second shifted; what is brightest in them is the scalp."""
    folder = tmp_path_factory.mktemp("heads")
    grid = Grid((40, 44, 36), from_matvec(np.eye(3) * 5, [-98, -108, -88]))
    paths = []
    for name, shift in (("fixed", 0), ("moving", SHIFT)):
        data = brain_at(grid.coordinates() - shift)
        out = ndimage.distance_transform_edt(data == 0, sampling=5)
        data = np.where((out > 10) & (out <= 20), 900, np.where((out > 0) & (out <= 10), 30, data))
        paths.append(write_image(folder / f"{name}.nii.gz", data.astype(np.float32), grid.affine))
    return paths


@pytest.fixture
def network(monkeypatch):
    """The brain of the two heads instead of a network's answer."""

    def answer(image, *_):
        data = np.asanyarray(image.dataobj)
        return brain._largest_component((data > 90) & (data < 900))

    monkeypatch.setattr(brain, "_by_deepbet", answer)


@pytest.fixture(scope="session")
def coarse_template(tmp_path_factory):
    """The template at 2 mm, elsewhere in the world: a human brain that is quickly aligned."""
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=2)
    data = np.asarray(image.dataobj, np.float32)
    affine = from_matvec(np.eye(3), [10, -4, 6]) @ image.affine
    return write_image(tmp_path_factory.mktemp("coarse") / "brain.nii.gz", data, affine)
