"""A job whose process is killed fails, with a reason; the other jobs are done."""

import os
import signal

import pytest
from nipype import Function, Node, Workflow

from nipype_quicksilver.cohort.failures import read_failures
from nipype_quicksilver.cohort.plugins import make_plugin
from nipype_quicksilver.execution.crashes import KILLED, describe


def end(how):
    """Return a text, or end the process; Nipype runs this function without its module."""
    import os
    import signal
    import subprocess

    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(0)
    if how == "command killed":
        subprocess.run(["sh", "-c", "kill -9 $$"], check=True)
    if how == "odd":
        return lambda: how  # cannot be sent to another process
    return how


def run(plugin, folder, hows, **arguments):
    """Run one node for each way to end; return the names of those that ended well."""
    workflow, events = Workflow(name="cohort_wf", base_dir=folder), []
    workflow.config["execution"] = {
        "crashdump_dir": str(folder / "logs"),
        "crashfile_format": "txt",
        "stop_on_first_crash": "false",
        "poll_sleep_duration": "0.05",
    }
    for number, how in enumerate(hows):
        part = Workflow(name=f"part{number}")
        part.add_nodes([Node(Function(["how"], ["out"], end), name="step")])
        part.inputs.step.how = how
        workflow.add_nodes([part])
    arguments["status_callback"] = lambda node, event: events.append((node, event))
    with pytest.raises(Exception, match=r"raised|step|terminated|pickle"):
        workflow.run(plugin=make_plugin(plugin, arguments))
    return {node.fullname.split(".")[1] for node, event in events if event == "end"}


@pytest.mark.parametrize("n_procs", [1, 3])
def test_a_killed_worker_ends_its_own_job_only(n_procs, tmp_path):
    hows = ["well", "killed", "fine", "exit", "also fine", "killed", "good"]
    assert run("MultiProc", tmp_path, hows, n_procs=n_procs) == {"part0", "part2", "part4", "part6"}
    failures = read_failures(tmp_path / "logs", 0)
    assert {name: failure.reason for name, failure in failures.items()} == {
        name: KILLED for name in ("part1", "part3", "part5")
    }


def test_a_result_that_cannot_be_sent_is_a_failure(tmp_path):
    assert run("MultiProc", tmp_path, ["odd", "well"], n_procs=1) == {"part1"}
    assert "part0" in read_failures(tmp_path / "logs", 0)


@pytest.mark.parametrize("plugin", ["MultiProc", "Linear"])
def test_a_killed_command_ends_its_own_job_only(plugin, tmp_path):
    arguments = {"n_procs": 1} if plugin == "MultiProc" else {}
    assert "part1" in run(plugin, tmp_path, ["command killed", "well"], **arguments)
    assert set(read_failures(tmp_path / "logs", 0)) == {"part0"}


def test_a_worker_that_is_killed_while_idle_is_replaced(tmp_path):
    plugin = make_plugin("MultiProc", {"n_procs": 1})
    process = plugin.pool.submit(os.getpid).result()
    (pool,) = plugin.pool._idle
    os.kill(process, signal.SIGKILL)
    with pytest.raises(Exception, match="terminated"):
        while True:
            pool.submit(os.getpid).result()
    assert plugin.pool.submit(os.getpid).result() != process
    plugin.pool.shutdown()


def test_the_state_of_a_lost_slurm_job_is_in_its_reason(tmp_path, install):
    install("squeue", "#!/bin/sh\n")
    install(
        "scontrol", "#!/bin/sh\necho 'JobId=7 JobName=x'; echo '   JobState=OUT_OF_MEMORY R=0'\n"
    )
    plugin = make_plugin("SLURM", {})
    plugin._config = {"execution": {"job_finished_timeout": "0"}}
    plugin._pending[7] = str(tmp_path)
    traceback = plugin._get_result(7)["traceback"]
    assert describe("".join(traceback)) == "its job ended without a result: OUT_OF_MEMORY"
    install("scontrol", "#!/bin/sh\necho 'Invalid job id' >&2; exit 1\n")
    assert "ended without a result" in describe("".join(plugin._get_result(7)["traceback"]))
