"""Requests for a cohort, checked before anything is written."""

import pytest

from nipype_quicksilver.cohort import request
from nipype_quicksilver.errors import InputError


def test_two_contrasts_are_compared_by_self_similarity():
    assert request.default_similarity("refine", "MNI152", "T2w") == "mind"
    assert request.default_similarity("correct", "MNI152", "T2w") is None  # nothing is optimised
    assert request.default_similarity("refine", "MNI152", "T1w") is None
    assert request.default_similarity("refine", "tpl-Study_T2w.nii.gz", "T2w") is None


@pytest.mark.parametrize(
    ("device", "plugin", "n_gpus", "expected"),
    [
        ("cpu", "MultiProc", None, 0),
        ("cuda", "MultiProc", None, 2),
        ("cuda", "MultiProc", 1, 1),
        ("auto", "SLURM", None, 0),
        ("cuda", "SLURM", None, 1),
        ("auto", "SLURM", 4, 4),
    ],
)
def test_number_of_gpus(device, plugin, n_gpus, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert request.choose_gpus(device, plugin, n_gpus) == expected


@pytest.mark.parametrize(
    ("device", "n_gpus", "message"),
    [
        ("cuda:1", None, "--device cuda:1: a cohort may use several GPUs"),
        ("cpu", 1, "leave --n-gpus out"),
        ("cuda", 3, "--n-gpus 3: this machine has 2; give at most 2"),
    ],
)
def test_gpus_that_cannot_be_used(device, n_gpus, message, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(InputError, match=message):
        request.choose_gpus(device, "MultiProc", n_gpus)
