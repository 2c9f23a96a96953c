"""GPUs shared by nodes that run in parallel; the GPUs are imaginary."""

import os
import sys
from itertools import pairwise

import pytest
from nipype import Node, Workflow
from nipype.interfaces.base import File, TraitedSpec

from nipype_quicksilver.execution import gpus
from nipype_quicksilver.interfaces.base import CommandInputSpec, QuicksilverCommand

# Writes which GPU it sees, and when it started and ended.
_PROGRAM = """
import os, time
start = time.time()
time.sleep(0.4)
print(os.environ.get("CUDA_VISIBLE_DEVICES"), start, time.time(), file=open("gpu.txt", "w"))
"""


class OutputSpec(TraitedSpec):
    out_file = File(exists=True)


class OnGPU(QuicksilverCommand):
    """A node that uses a GPU for a moment."""

    input_spec = CommandInputSpec
    output_spec = OutputSpec

    _cmd = "set by the fixture"
    cmd = ""

    def _parse_inputs(self, skip=None):
        return []

    def _list_outputs(self):
        return {"out_file": os.path.abspath("gpu.txt")}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs GPU nodes in parallel; returns each one's GPU, start and end."""
    program = tmp_path / "on_gpu.py"
    program.write_text(_PROGRAM)
    monkeypatch.setattr(OnGPU, "cmd", f"{sys.executable} {program}")

    def run(nodes, slots):
        workflow = Workflow(name="gpus", base_dir=tmp_path)
        workflow.config["execution"] = {"poll_sleep_duration": "0.05"}
        names = [f"node_{number}" for number in range(nodes)]
        workflow.add_nodes([Node(OnGPU(use_gpu=True), name=name) for name in names])
        workflow.run(plugin="MultiProc", plugin_args={"n_procs": nodes, "n_gpu_procs": slots})
        uses = []
        for name in names:
            device, *times = (tmp_path / "gpus" / name / "gpu.txt").read_text().split()
            uses.append((device, *map(float, times)))
        return uses

    return run


def test_one_node_at_a_time_on_each_gpu(run, monkeypatch):
    monkeypatch.delenv(gpus.FOLDER, raising=False)
    with gpus.shared(["2", "5"]):
        uses = run(nodes=5, slots=2)
    assert gpus.FOLDER not in os.environ
    assert {device for device, _, _ in uses} == {"2", "5"}
    for device in ("2", "5"):
        turns = sorted((start, end) for name, start, end in uses if name == device)
        assert all(end < start for (_, end), (start, _) in pairwise(turns))


def test_more_nodes_than_gpus_wait_for_each_other(run):
    with gpus.shared(["1"]):
        (_, start, end), (_, other_start, other_end) = run(nodes=2, slots=2)
    assert end < other_start or other_end < start


def test_the_gpu_that_a_scheduler_assigned_is_used(run, monkeypatch):
    monkeypatch.delenv(gpus.FOLDER, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert [device for device, _, _ in run(nodes=1, slots=1)] == ["7"]
