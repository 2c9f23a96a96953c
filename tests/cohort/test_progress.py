"""Images done, at work and failed, as Nipype's events tell."""

import math
from types import SimpleNamespace

import pytest

from nipype_quicksilver.cohort.jobs import PAIRWISE, Settings, plan
from nipype_quicksilver.cohort.progress import Progress


def node(part, name="register"):
    return SimpleNamespace(fullname=f"cohort_wf.{part}.{name}", name=name)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as a test says."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("nipype_quicksilver.cohort.progress.time.monotonic", lambda: now.seconds)
    return now


def test_one_done_one_failed_one_left(cohort, clock):
    jobs, seen, unneeded = plan(cohort, Settings()), [], []
    progress = Progress(jobs, done=5, show=seen.append, unneeded=unneeded.append)
    first, second, _ = (job.name for job in jobs)
    progress(node("sub-01", "extract"), "start")
    assert (seen[-1].total, seen[-1].done, seen[-1].running) == (8, 5, 1)
    assert seen[-1].seconds_left == math.inf
    progress(node("sub-01", "extract"), "end")
    progress(node(first), "start")
    progress(node(second), "start")
    assert (seen[-1].done, seen[-1].running) == (5, 2)
    progress(node(first), "end")
    clock.seconds += 10
    progress(node(first, "save"), "start")
    progress(node(first, "save"), "end")
    assert (seen[-1].done, seen[-1].running, seen[-1].seconds_left) == (6, 1, 20.0)
    assert sorted(unneeded) == ["sub-01", first]
    progress(node(second), "exception")
    assert (seen[-1].failed, seen[-1].running, seen[-1].seconds_left) == (1, 0, 10.0)
    progress.again([jobs[1]])
    assert progress.status.failed == 0


def test_an_image_that_fails_takes_all_its_pairs_along(cohort):
    progress = Progress(plan(cohort, Settings(PAIRWISE)))
    progress(node("sub-03", "extract"), "exception")
    assert progress.status.failed == 2
    progress(node("fixed", "select_template"), "exception")
    assert progress.status.failed == 3


def test_an_image_is_needed_until_its_last_pair_is_done(cohort):
    unneeded = []
    progress = Progress(plan(cohort, Settings(PAIRWISE)), unneeded=unneeded.append)
    for pair, expected in (
        ("sub-02_to-sub01", {"sub-02_to-sub01"}),
        ("sub-03_to-sub01", {"sub-03_to-sub01", "sub-01"}),
        ("sub-03_to-sub02", {"sub-03_to-sub02", "sub-02", "sub-03"}),
    ):
        unneeded.clear()
        progress(node(pair, "save"), "end")
        assert set(unneeded) == expected
