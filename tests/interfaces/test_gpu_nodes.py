"""Nodes on a GPU where there is none."""

import sys

import pytest
from nipype import Node, Workflow

from nipype_quicksilver.interfaces import ShootGeodesic, base


@pytest.fixture
def momentum(tmp_path, monkeypatch):
    """A file for a node, on a machine whose GPUs are hidden and not counted."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("nipype.pipeline.plugins.multiproc.gpu_count", lambda: 0)
    (tmp_path / "momentum.nii.gz").touch()
    return tmp_path / "momentum.nii.gz"


def run(momentum, folder, **arguments):
    """Run a workflow of one node on a GPU by MultiProc."""
    node = Node(ShootGeodesic(momentum=momentum, use_gpu=True), name="shoot")
    workflow = Workflow(name="gpu_wf", base_dir=folder)
    workflow.config["execution"] = {"crashdump_dir": str(folder), "poll_sleep_duration": "0.1"}
    workflow.add_nodes([node])
    workflow.run(plugin="MultiProc", plugin_args={"n_procs": 1, **arguments})


def test_multiproc_needs_the_number_of_gpus(momentum, tmp_path, monkeypatch):
    """What docs/gpu.md says of `n_gpu_procs`."""
    program = tmp_path / "program.py"
    program.write_text("import sys; sys.exit('quicksilver: error: it ran with ' + sys.argv[-1])")
    monkeypatch.setattr(base, "_program", lambda: f"{sys.executable} {program}")
    with pytest.raises(RuntimeError, match="Insufficient GPU resources available for job"):
        run(momentum, tmp_path)
    with pytest.raises(Exception, match="it ran with cuda"):
        run(momentum, tmp_path, n_gpu_procs=1)


def test_a_node_without_its_gpu_ends_with_one_line(momentum, tmp_path):
    with pytest.raises(RuntimeError) as error:
        ShootGeodesic(momentum=momentum, use_gpu=True).run(cwd=tmp_path)
    line, *_ = str(error.value).splitlines()  # then Nipype's own words, with the output
    assert line.startswith("quicksilver: error: device cuda: torch ")
    assert line.endswith(" sees 0 GPUs; use cpu or auto")
