"""Training from the command line on images: what it uses of them, and what it refuses."""

import json

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial import images
from tests.helpers.tables import rows


@pytest.fixture(scope="module")
def brains(label_maps, tmp_path_factory):
    """Brains on grids of their own, with label maps on the same grids."""
    folder = tmp_path_factory.mktemp("brains")
    files = []
    for number, path in enumerate(label_maps):
        labels = np.asanyarray(nib.load(path).dataobj)[::-1]
        affine = np.diag([-1.0, 1.0, 1.0, 1.0])
        affine[:3, 3] = 140, 20, -35
        noise = np.random.default_rng(number).normal(0, 5, labels.shape)
        data = (labels > 0) * (500 + 10 * (labels % 7) + noise)
        image = images.write_image(folder / f"sub-{number}_T1w.nii.gz", data, affine)
        files.append((image, images.write_image(folder / f"sub-{number}.mgz.nii", labels, affine)))
    return files


def image_arguments(brains, recipe, folder, *more):
    first = ["train", "--quiet", "--num-threads", "1", "--recipe", recipe, "--output-dir", folder]
    first += ["--images", *[image for image, _ in brains[:2]]]
    first += ["--validation-images", *[image for image, _ in brains[2:]], *more]
    return [str(argument) for argument in first]


def test_images_alone(brains, recipe, tmp_path):
    assert main(image_arguments(brains, recipe, tmp_path / "run")) == 0
    log = rows(tmp_path / "run" / "log.csv")
    assert {row["overlap"] for row in log} == {""}
    assert all(0 < float(row["dissimilarity"]) < 1 for row in log)
    card = json.loads((tmp_path / "run" / "prediction.json").read_text())
    assert "overlap" not in card["validation"]["after"]


def test_images_with_labels_mixed_with_label_maps(brains, label_maps, recipe, tmp_path):
    more = ["--image-labels", *[labels for _, labels in brains], "--labels", *label_maps[:2]]
    more += ["--iterations", "12"]
    assert main(image_arguments(brains, recipe, tmp_path / "run", *more)) == 0
    log = rows(tmp_path / "run" / "log.csv")
    assert len(log) == 12 and all(0 <= float(row["overlap"]) < 1 for row in log)


def test_image_inputs_that_cannot_be_used(brains, label_maps, recipe, tmp_path, refused):
    far = nib.load(brains[1][0])
    affine = far.affine.copy()
    affine[0, 3] += 60
    path = images.write_image(tmp_path / "far.nii.gz", np.asanyarray(far.dataobj), affine)
    run = tmp_path / "run"
    misplaced = [brains[0], (path, None), *brains[2:]]
    refused(*image_arguments(misplaced, recipe, run), message="align the images to each other")
    labels = ["--image-labels", *[labels for _, labels in brains[:3]]]
    refused(*image_arguments(brains, recipe, run, *labels), message="3 label maps for 4 images")
    labels = ["--image-labels", *label_maps]
    refused(*image_arguments(brains, recipe, run, *labels), message="not on the grid of")
