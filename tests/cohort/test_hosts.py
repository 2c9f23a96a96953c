"""Derivatives of a cohort, as smriprep and fMRIPrep look for derivatives that exist already."""

from pathlib import Path

import pytest

from nipype_quicksilver.cohort.derivatives import Place, prepare, save


def test_smriprep_finds_the_transforms(job, settings, outputs, tmp_path):
    pytest.importorskip("smriprep", minversion="0.20")
    from smriprep.utils.bids import collect_derivatives

    place = Place(tmp_path / "out", tmp_path / "data")
    prepare(place, [])
    save(job, settings, place, outputs)
    space = "MNI152NLin2009aSym"
    found = collect_derivatives(place.output_dir, "01", [space])
    names = {side: Path(path).name for side, path in found["transforms"][space].items()}
    assert names == {
        "forward": f"sub-01_from-T1w_to-{space}_mode-image_xfm.h5",
        "reverse": f"sub-01_from-{space}_to-T1w_mode-image_xfm.h5",
    }
