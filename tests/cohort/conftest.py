import json
from pathlib import Path

import numpy as np
import pytest

from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import CohortOptions, plan
from nipype_quicksilver.spatial.images import write_image
from tests.helpers.summaries import summary_content


@pytest.fixture
def cohort(tmp_path):
    """Three images in files of one byte each."""
    images = []
    for name in ("01", "02", "03"):
        path = tmp_path / "data" / f"sub-{name}_T1w.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        images.append(CohortImage(path, name, None, f"sub-{name}", "T1w"))
    return images


@pytest.fixture
def settings():
    return CohortOptions.of("MNI152", affine="none", brain_extraction="none")


@pytest.fixture
def job(cohort, settings):
    return plan(cohort, settings)[0]


@pytest.fixture
def outputs(tmp_path):
    """Files such as the outputs of a registration's node."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    image = write_image(folder / "image.nii.gz", np.ones((4, 4, 4)), np.eye(4))
    composite, summary = folder / "composite.h5", folder / "summary.json"
    composite.write_bytes(bytes(range(200)))
    summary.write_text(json.dumps(summary_content()))
    names = {"warped_image": image, "log_jacobian": image, "summary": summary}
    for name in ("composite_transform", "inverse_composite_transform"):
        names[name] = composite
    return {name: str(Path(path)) for name, path in names.items()}
