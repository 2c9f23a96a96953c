"""Workflows of a cohort, started in turn; Nipype itself is left out."""

from types import SimpleNamespace

import pytest

from nipype_quicksilver.cohort import running
from nipype_quicksilver.cohort.jobs import plan
from nipype_quicksilver.cohort.progress import Progress


@pytest.fixture
def run(cohort, settings, tmp_path):
    """A function that runs many jobs with an engine; returns sizes of workflows, and failures."""

    def run(jobs, raised=None, **options):
        def start(plugin):
            if raised is not None:
                raise raised

        def build(jobs):
            sizes.append(len(jobs))
            return SimpleNamespace(config={}, run=start, list_node_names=list)

        sizes = []
        options = {"plugin": "Linear", **options}
        engine = running.Engine(work_dir=tmp_path, crash_dir=tmp_path / "logs", **options)
        failures = running.run(jobs, settings, tmp_path, build, engine, Progress(jobs))
        return sizes, failures

    return run


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [200, 200, 50]),
        ({"n_procs": 64}, [256, 194]),
        ({"plugin": "SLURM"}, [400, 50]),
        ({"plugin": "SLURM", "given": {"max_jobs": 200}}, [450]),
    ],
)
def test_large_cohorts_are_run_in_batches(options, expected, run, cohort, settings):
    jobs = plan(cohort, settings) * 150
    assert run(jobs, **options)[0] == expected


def test_what_was_not_run_is_a_failure(run, cohort, settings):
    jobs = plan(cohort, settings)
    _, failures = run(jobs, raised=RuntimeError("the scheduler\nis gone"))
    assert [failure.reason for failure in failures.values()] == ["not run: is gone"] * 3
    _, failures = run(jobs)
    assert {failure.reason for failure in failures.values()} == {"its files changed meanwhile"}
