"""Reasons of failures, read from Nipype's crash files."""

import os

import pytest
from nipype import Function, Node, Workflow

from nipype_quicksilver.cohort.failures import failure_of, lost_jobs, read_failures
from nipype_quicksilver.cohort.jobs import CohortOptions, plan


def complain(text):
    """Fail; Nipype runs this function without its module."""
    raise OSError(text)


def crash(folder, part, text):
    """Let a node fail in a workflow, which leaves a crash file."""
    workflow, inner = Workflow(name="cohort_wf", base_dir=folder), Workflow(name=part)
    workflow.config["execution"] = {"crashdump_dir": str(folder), "crashfile_format": "txt"}
    node = Node(Function(["text"], ["out"], complain), name="register")
    node.inputs.text = text
    inner.add_nodes([node])
    workflow.add_nodes([inner])
    with pytest.raises(Exception, match="register"):
        workflow.run()


def test_crash_files_that_nipype_writes(cohort, tmp_path):
    jobs = plan(cohort, CohortOptions.of())
    crash(tmp_path, jobs[0].name, "the disk is gone")
    crash(tmp_path, "sub-02", "Job id (7) terminated, but results file does not exist after (5) s")
    failures = read_failures(tmp_path, since=0)
    first, second, third = (failure_of(job, failures) for job in jobs)
    assert first.reason == "OSError: the disk is gone"
    assert first.node == f"cohort_wf.{jobs[0].name}.register"
    assert first.crash_file.parent == tmp_path
    assert "without a result" in second.reason
    assert third is None
    assert lost_jobs(jobs, failures) == [jobs[1]]
    for path in tmp_path.glob("crash-*"):
        os.utime(path, (1, 1))
    assert read_failures(tmp_path, since=2) == {}
