"""Images done, running and failed, counted from Nipype's events."""

import math
from types import SimpleNamespace

import pytest

from nipype_quicksilver.cohort.jobs import PAIRWISE, CohortOptions, plan
from nipype_quicksilver.cohort.progress import Progress


def node(part, name="register"):
    return SimpleNamespace(fullname=f"cohort_wf.{part}.{name}", name=name)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test advances."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("nipype_quicksilver.cohort.progress.time.monotonic", lambda: now.seconds)
    return now


def test_one_done_one_failed_one_left(cohort, clock):
    jobs, statuses, unneeded = plan(cohort, CohortOptions.of()), [], []
    progress = Progress(jobs, done=5, show=statuses.append, unneeded=unneeded.append)
    first, second, _ = (job.name for job in jobs)
    progress(node("sub-01", "extract"), "start")
    assert (statuses[-1].total, statuses[-1].done, statuses[-1].running) == (8, 5, 1)
    assert statuses[-1].seconds_left == math.inf
    progress(node("sub-01", "extract"), "end")
    progress(node(first), "start")
    progress(node(second), "start")
    assert (statuses[-1].done, statuses[-1].running) == (5, 2)
    progress(node(first), "end")
    clock.seconds += 10
    progress(node(first, "save"), "start")
    progress(node(first, "save"), "end")
    assert (statuses[-1].done, statuses[-1].running, statuses[-1].seconds_left) == (6, 1, 20.0)
    assert sorted(unneeded) == ["sub-01", first]
    progress(node(second), "exception")
    assert (statuses[-1].failed, statuses[-1].running, statuses[-1].seconds_left) == (1, 0, 10.0)
    progress.retry([jobs[1]])
    assert progress.status.failed == 0


def test_all_pairs_of_an_image_that_fails_are_failed(cohort):
    progress = Progress(plan(cohort, CohortOptions.of(PAIRWISE)))
    progress(node("sub-03", "extract"), "exception")
    assert progress.status.failed == 2
    progress(node("fixed", "select_template"), "exception")
    assert progress.status.failed == 3


def test_an_image_is_needed_until_its_last_pair_is_done(cohort):
    unneeded = []
    progress = Progress(plan(cohort, CohortOptions.of(PAIRWISE)), unneeded=unneeded.append)
    for pair, expected in (
        ("sub-02_to-sub01", {"sub-02_to-sub01"}),
        ("sub-03_to-sub01", {"sub-03_to-sub01", "sub-01"}),
        ("sub-03_to-sub02", {"sub-03_to-sub02", "sub-02", "sub-03"}),
    ):
        unneeded.clear()
        progress(node(pair, "save"), "end")
        assert set(unneeded) == expected


@pytest.mark.parametrize("plugin", ["MultiProc", "Linear"])
def test_a_job_that_failed_is_not_done(plugin, cohort, clock):
    """Nipype's Linear plugin reports the end of the nodes that it skips."""
    jobs, unneeded = plan(cohort, CohortOptions.of())[:2], []
    progress = Progress(jobs, unneeded=unneeded.append)
    first, second = (job.name for job in jobs)
    progress(node(first), "exception")
    if plugin == "Linear":
        progress(node(first, "save"), "end")
    clock.seconds += 10
    progress(node(second, "save"), "end")
    status = progress.status
    assert (status.total, status.done, status.failed, status.seconds_left) == (2, 1, 1, 0.0)
    assert first not in unneeded


def test_jobs_that_are_not_started_are_failed(cohort):
    statuses = []
    progress = Progress(plan(cohort, CohortOptions.of()), show=statuses.append)
    progress.fail(["sub-01_to-MNI152NLin2009aSym"])
    assert (statuses[-1].failed, statuses[-1].seconds_left) == (1, math.inf)
