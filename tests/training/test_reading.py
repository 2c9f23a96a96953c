"""Label maps and images, resampled to the training grid."""

import nibabel as nib
import numpy as np
import pytest
import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images
from nipype_quicksilver.training.data import Files
from nipype_quicksilver.training.reading import read_brains, read_scans
from nipype_quicksilver.training.tissues import read_tissue_table

GRID = (32, 32, 32)


def test_brains(label_maps):
    table = read_tissue_table()
    training, validation = read_brains(Files(label_maps[:2], label_maps[2:3]), table, GRID, 2)
    assert len(training) == 2 and len(validation) == 1
    for brain in (*training, *validation):
        assert brain.shape == (len(table.labels), 16, 16, 16) and brain.dtype == torch.uint8
        assert int(brain.sum(dim=0, dtype=torch.int32).max()) == pytest.approx(255, abs=3)
    assert read_brains(Files(), table, GRID, 2) == ([], [])


@pytest.fixture
def brains(label_maps, tmp_path):
    paths = []
    for number, path in enumerate(label_maps[:3]):
        labels = np.asanyarray(nib.load(path).dataobj)
        affine = np.eye(4)
        affine[:3, 3] = 40, -20, 5
        data = (labels > 0) * (500.0 + 10 * (labels % 7))
        brain = images.write_image(tmp_path / f"brain-{number}.nii.gz", data, affine)
        same_grid = images.write_image(tmp_path / f"labels-{number}.nii.gz", labels, affine)
        paths.append((brain, same_grid))
    return paths


def overlap(first, second):
    return float(torch.minimum(first, second).sum() / second.sum())


def test_scans_match_their_labels(brains):
    table = read_tissue_table()
    files = Files([brain for brain, _ in brains[:2]], [brains[2][0]])
    labels = [path for _, path in brains]
    training, validation = read_scans(files, labels, table, GRID, 2)
    assert len(training) == 2 and len(validation) == 1
    for scan in (*training, *validation):
        assert scan.image.shape == scan.brain.shape == (1, 1, 16, 16, 16)
        classes = scan.classes.float() / 255
        tissue = classes.sum(dim=0) - classes[table.labels.index(24)]  # without the fluid
        brain = scan.brain[0, 0]
        # Labels are resampled to the nearest voxel, masks linearly: they may differ by half a mm.
        assert overlap(tissue, brain) > 0.92
        assert all(overlap(tissue.roll(1, axis), brain) < 0.92 for axis in range(3))
    assert read_scans(files, [], table, GRID, 2)[0][0].classes is None
    with pytest.raises(InputError, match="1 label maps for 3 images"):
        read_scans(files, labels[:1], table, GRID, 2)
    with pytest.raises(InputError, match="does not fit into the training grid of 16x32x32 mm"):
        read_scans(files, [], table, (16, 32, 32), 2)
