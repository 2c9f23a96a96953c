"""Data sets of momenta: what is written is read, and damaged ones are refused.

`tests/cli/test_dataset.py` builds the data set of a correction network.
"""

import json

import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import Momentum, write_momentum
from nipype_quicksilver.training.model import LddmmModel
from nipype_quicksilver.training.momentum_dataset import (
    DESCRIPTION,
    INDEX,
    build_momentum_dataset,
    dataset_files,
    read_momentum_dataset,
)

KERNEL = {"alpha": 0.225, "beta": 0.0, "gamma": 0.025, "power": 2.0}
CPU = torch.device("cpu")


@pytest.fixture
def pair(tmp_path):
    """Images of 16 voxels a side, and a momentum with half the resolution."""
    grid = Grid((16, 16, 16), from_matvec(np.eye(3), [5, -7, 9]))
    random = np.random.default_rng(0)
    fixed, moving = (random.uniform(0, 1, grid.shape).astype(np.float32) for _ in range(2))
    momentum = random.normal(0, 0.01, (8, 8, 8, 3)).astype(np.float32)
    paths = [
        images.write_image(tmp_path / "fixed.nii.gz", fixed, grid.affine),
        images.write_image(tmp_path / "moving.nii.gz", moving, grid.affine),
        write_momentum(
            tmp_path / "momentum.nii.gz", Momentum(momentum, grid.subsampled(2), KERNEL, 3, grid)
        ),
    ]
    return paths, fixed, moving, momentum


@pytest.fixture
def dataset(pair, tmp_path):
    (fixed, moving, momentum), *_ = pair
    return build_momentum_dataset([fixed], [moving], [momentum], tmp_path / "data set", device=CPU)


def blocks(image):
    return image.reshape(8, 2, 8, 2, 8, 2).mean(axis=(1, 3, 5))


def test_what_is_written_is_read(pair, dataset):
    _, fixed, moving, momentum = pair
    content = read_momentum_dataset(dataset)
    assert (content.role, content.before) == ("prediction", None)
    assert content.model == LddmmModel(KERNEL, 3, 2, 1.0)
    (example,) = content.examples
    np.testing.assert_allclose(example.target[0, 0], blocks(fixed), atol=1e-6)
    np.testing.assert_allclose(example.moving[0, 0], blocks(moving), atol=1e-6)
    assert np.array_equal(np.moveaxis(example.momentum[0].numpy(), 0, -1), momentum)


def test_files(dataset):
    files = dataset_files(dataset)
    assert [path.name for path in files[:2]] == [DESCRIPTION, INDEX]
    assert len(files) == 5 and all(path.is_file() for path in files)


def test_progress(pair, tmp_path):
    (fixed, moving, momentum), *_ = pair
    calls = []
    build_momentum_dataset(
        [fixed] * 2,
        [moving] * 2,
        [momentum] * 2,
        tmp_path / "two",
        device=CPU,
        progress=lambda *numbers: calls.append(numbers),
    )
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not a data set of momenta"),
        ({"version": 2}, "is of a later format"),
        ({"steps": 5}, "has another model than dataset.json describes"),
    ],
)
def test_damaged_descriptions(dataset, change, message):
    path = dataset / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        read_momentum_dataset(dataset)


def test_images_of_another_grid(dataset):
    path = dataset / "pair-0001_moving.nii.gz"
    images.write_image(path, np.eye(8, dtype=np.float32)[..., None] + np.zeros(8), np.eye(4))
    with pytest.raises(InputError, match=r"moving\.nii\.gz: is not on the grid of its momentum"):
        read_momentum_dataset(dataset)


def test_no_data_set(tmp_path):
    with pytest.raises(InputError, match="is not a data set of momenta"):
        dataset_files(tmp_path)
    with pytest.raises(InputError, match="0 fixed images, 0 moving images and 0 momenta"):
        build_momentum_dataset([], [], [], tmp_path / "none", device=CPU)
