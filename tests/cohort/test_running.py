"""Workflows of a cohort, run in batches; Nipype itself is replaced."""

from types import SimpleNamespace

import pytest
from nipype import Function, Node, Workflow

from nipype_quicksilver.cohort import running
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import Job, plan
from nipype_quicksilver.cohort.plugins import make_plugin
from nipype_quicksilver.cohort.progress import Progress


@pytest.fixture
def run(cohort, settings, tmp_path):
    """A function that runs many jobs with run options; returns sizes of workflows, and failures."""

    def run(jobs, raised=None, **options):
        def start(plugin):
            if raised is not None:
                raise raised

        def build(jobs):
            sizes.append(len(jobs))
            return SimpleNamespace(config={}, run=start, list_node_names=list)

        sizes = []
        options = {"plugin": "MultiProc", **options}
        options = running.RunOptions(work_dir=tmp_path, crash_dir=tmp_path / "logs", **options)
        failures = running.run(jobs, settings, tmp_path, build, options, Progress(jobs))
        return sizes, failures

    return run


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [200, 200, 50]),
        ({"plugin": "Linear"}, [1] * 450),
        ({"n_procs": 64}, [256, 194]),
        ({"plugin": "SLURM"}, [400, 50]),
        ({"plugin": "SLURM", "plugin_args": {"max_jobs": 200}}, [450]),
    ],
)
def test_large_cohorts_are_run_in_batches(options, expected, run, cohort, settings):
    jobs = plan(cohort, settings) * 150
    assert run(jobs, **options)[0] == expected


@pytest.mark.parametrize("suffix", ["T1w", "T2w"])
def test_images_are_finished_one_after_the_other(suffix, tmp_path):
    images = [
        CohortImage(tmp_path / f"{n}.nii.gz", f"0{n}", None, f"sub-0{n}", suffix) for n in (1, 2, 3)
    ]
    jobs = [Job(image, "X") for image in images]
    workflow = Workflow(name="cohort_wf", base_dir=tmp_path)
    fixed = Workflow(name="fixed")
    source = Node(Function([], ["out"], begin), name="select_template")
    fixed.add_nodes([source])
    for job in jobs:
        parts = [Workflow(name=name) for name in job.parts[1:]]
        for part in parts:
            part.add_nodes([Node(Function(["x"], ["out"], increase), name="step")])
        workflow.connect(fixed, "select_template.out", parts[0], "step.x")
        workflow.connect(parts[0], "step.out", parts[1], "step.x")
    events = []
    workflow.config["execution"] = {"poll_sleep_duration": "0.05"}
    arguments = {"n_procs": 1, "status_callback": lambda node, event: events.append((node, event))}
    workflow.run(plugin=make_plugin("MultiProc", arguments))
    ended = [node.fullname for node, event in events if event == "end"]
    assert ended[0] == "cohort_wf.fixed.select_template"
    parts = [name.split(".")[1] for name in ended[1:]]
    assert parts == [name for job in jobs for name in job.parts[1:]]


def begin():
    """Return a number; Nipype runs this function without its module."""
    return 1


def increase(x):
    """Return the next number."""
    return x + 1


def test_what_was_not_run_is_a_failure(run, cohort, settings):
    jobs = plan(cohort, settings)
    _, failures = run(jobs, raised=RuntimeError("the scheduler\nis gone"))
    assert [failure.reason for failure in failures.values()] == ["not run: is gone"] * 3
    _, failures = run(jobs)
    assert {failure.reason for failure in failures.values()} == {"its files changed meanwhile"}
