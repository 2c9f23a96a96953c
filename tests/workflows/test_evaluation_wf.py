import json
import stat
import sys

import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation import ants, greedy, methods
from nipype_quicksilver.evaluation.pairs import Pair
from nipype_quicksilver.interfaces.peers import AntspyxRegistration, GreedyRegistration
from nipype_quicksilver.spatial.transforms import read_affine
from nipype_quicksilver.workflows import init_evaluation_wf

needs_greedy = pytest.mark.skipif(greedy.greedy_command() is None, reason="greedy is not installed")
needs_ants = pytest.mark.skipif(not ants.has_package(), reason="antspyx is not installed")


@pytest.fixture
def pairs(pair):
    """A pair and its reverse, with masks."""
    first = Pair(
        "m_to_f",
        pair.fixed,
        pair.moving,
        pair.fixed_labels,
        pair.moving_labels,
        fixed_mask=pair.fixed_mask,
        moving_mask=pair.moving_mask,
    )
    second = Pair(
        "f_to_m",
        pair.moving,
        pair.fixed,
        pair.moving_labels,
        pair.fixed_labels,
        fixed_mask=pair.moving_mask,
        moving_mask=pair.fixed_mask,
    )
    return [first, second]


def sources(workflow, name):
    """Return the node that gives each input of a node."""
    graph, node = workflow._graph, workflow.get_node(name)
    return {
        field: source.name
        for source, _, data in graph.in_edges(node, data=True)
        for _, field in data["connect"]
    }


def test_one_node_for_each_image_pair_and_method(pairs):
    workflow = init_evaluation_wf(pairs=pairs, omp_nthreads=2, methods=["LP", "refine", "LO"])
    assert len(workflow.get_node("brains").inputs.in_file) == 2  # though four are named
    assert workflow.get_node("fixed_brains").inputs.index == [0, 1]
    assert workflow.get_node("moving_brains").inputs.index == [1, 0]
    for method in ("LP", "refine", "LO"):
        register = sources(workflow, f"register_{method}")
        assert register["initial_moving_transform"] == "align"
        assert workflow.get_node(f"register_{method}").inputs.brain_extraction == "none"
        measured = sources(workflow, f"measure_{method}")
        assert measured["transforms"] == measured["summary"] == f"register_{method}"
        assert measured.get("reference_transforms") == (None if method == "LO" else "register_LO")
    measured = sources(workflow, "measure_affine")
    assert measured["transforms"] == "align"
    assert measured["reference_transforms"] == "register_LO"
    assert workflow.get_node("summarize").inputs.methods == ["affine", "LP", "refine", "LO"]


def test_without_the_optimisation_nothing_is_compared_to_it(pairs):
    workflow = init_evaluation_wf(pairs=pairs, omp_nthreads=1, methods=["LP", "LPC3"])
    assert "reference_transforms" not in sources(workflow, "measure_LP")
    assert workflow.get_node("register_LPC3").inputs.corrections == 3


def test_resources(pairs):
    workflow = init_evaluation_wf(
        pairs=pairs, omp_nthreads=3, use_gpu=True, timed_threads=[1, 4], methods=["LPP", "LO"]
    )
    for name in ("register_LPP", "register_LO", "time"):
        node = workflow.get_node(name)
        assert node.is_gpu_node() and node.n_procs == 1
    assert not workflow.get_node("brains").is_gpu_node()
    assert workflow.get_node("align").n_procs == 2
    assert sources(workflow, "time")["after"] == "measures"
    on_cpu = init_evaluation_wf(
        pairs=pairs, omp_nthreads=3, timed_threads=[1, 4], methods=["LP"], name="cpu_wf"
    )
    assert on_cpu.get_node("time").n_procs == 4
    assert on_cpu.get_node("register_LP").inputs.num_threads == 3


def test_unusable_arguments(pairs, monkeypatch, tmp_path):
    def refused(told, **changes):
        with pytest.raises(InputError, match=told):
            init_evaluation_wf(**{"pairs": pairs, "omp_nthreads": 1, **changes})

    refused("no pairs", pairs=[])
    refused("affine 'flirt' is unknown", affine="flirt")
    refused("method 'VM' is unknown; give LP, LPP", methods=["VM"])
    refused("method 'LP' is named twice", methods=["LP", "LO", "LP"])
    refused("no method is named", methods=[])
    own = {"methods": ["LPC"], "prediction_network": tmp_path}
    refused("method 'LPC' corrects by a second network", **own)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(greedy, "find_spec", lambda name: None)
    monkeypatch.setattr(ants, "find_spec", lambda name: None)
    refused("neither the program greedy nor the package picsl-greedy", methods=["greedy"])
    refused("neither the program antsRegistration nor the package antspyx", methods=["SyN"])


def test_peers_are_taken_where_they_are(pairs, monkeypatch, tmp_path):
    for program in ("greedy", "antsRegistration"):
        file = tmp_path / program
        file.write_text("#!/bin/sh\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    workflow = init_evaluation_wf(pairs=pairs, omp_nthreads=2, methods=["greedy", "SyN"])
    assert greedy.greedy_command() == (str(tmp_path / "greedy"),)
    syn = workflow.get_node("register_SyN")
    assert syn.inputs.transforms == ["SyN"] and syn.inputs.num_threads == 2
    edge = workflow._graph.get_edge_data(syn, workflow.get_node("measure_SyN"))
    assert ("composite_transform", "transforms") in edge["connect"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(ants, "find_spec", lambda name: True)
    workflow = init_evaluation_wf(pairs=pairs, omp_nthreads=2, methods=["SyN"])
    assert isinstance(workflow.get_node("register_SyN").interface, AntspyxRegistration)


def test_own_networks():
    both = {"prediction_network": "p.safetensors", "correction_network": "c.safetensors"}
    assert methods.settings_of("LP", **both) == {
        "method": "predict",
        "prediction_network": "p.safetensors",
    }
    assert methods.settings_of("LPC", **both) == {"method": "correct", **both}
    assert methods.settings_of("LPP", **both)["prediction_network"] == "p.safetensors"
    assert "correction_network" not in methods.settings_of("LPP", **both)
    assert methods.settings_of("LPP")["prediction_network"].endswith("prediction.safetensors")
    assert methods.settings_of("LO", **both) == {"method": "optimize"}


def test_a_command_takes_its_affine_and_its_time(pair, tmp_path, monkeypatch):
    """Greedy is played by a script, which keeps what it was told."""
    script = tmp_path / "greedy"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        "shutil.copy(sys.argv[sys.argv.index('-it') + 1], 'warp.nii.gz')\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    node = GreedyRegistration(fixed_image=pair.fixed, moving_image=pair.moving)
    node.inputs.initial_moving_transform = pair.affine
    outputs = node.run(cwd=work).outputs
    matrix = np.loadtxt((work / "warp.nii.gz").read_text().splitlines())
    assert np.allclose(matrix, read_affine(pair.affine))
    assert outputs.reverse_forward_transforms == [str(work / "warp.nii.gz"), str(pair.affine)]
    told = json.loads((work / "summary.json").read_text())
    assert told["seconds"]["total"] > 0 and told["cpu_seconds"]["register"] > 0


@needs_greedy
def test_greedy_aligns_labels(pair, tmp_path, measured):
    node = GreedyRegistration(fixed_image=pair.fixed, moving_image=pair.moving)
    node.inputs.initial_moving_transform = pair.affine
    outputs = node.run(cwd=tmp_path).outputs
    assert measured(outputs.reverse_forward_transforms) > measured([pair.affine]) + 0.05


@needs_ants
def test_syn_aligns_labels(pair, tmp_path, measured):
    node = AntspyxRegistration(fixed_image=pair.fixed, moving_image=pair.moving)
    node.inputs.initial_moving_transform = pair.affine
    outputs = node.run(cwd=tmp_path).outputs
    assert measured(outputs.reverse_forward_transforms) > measured([pair.affine]) + 0.05


@pytest.fixture
def measured(pair, tmp_path):
    """A function that returns the mean Dice by transforms; the moving brain is larger."""
    from nipype_quicksilver.interfaces import MeasureRegistration

    def measured(transforms):
        node = MeasureRegistration(transforms=transforms, out_file=tmp_path / "measures.json")
        node.inputs.fixed_mask = pair.fixed_mask
        node.inputs.fixed_labels, node.inputs.moving_labels = pair.fixed_labels, pair.moving_labels
        with open(node.run().outputs.out_file) as file:
            return json.load(file)["overlap"]["mean"]["dice"]

    return measured
