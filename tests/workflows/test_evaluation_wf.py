import ast
import json
import shlex
import shutil
import stat
import sys

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver import tools
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation import methods
from nipype_quicksilver.evaluation.pairs import Pair
from nipype_quicksilver.interfaces.peers import GreedyRegistration, SynRegistration
from nipype_quicksilver.spatial.transforms import read_affine
from nipype_quicksilver.workflows import init_evaluation_wf

PEERS = {"greedy": GreedyRegistration, "SyN": SynRegistration}


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
    def refused(text, **changes):
        with pytest.raises(InputError, match=text):
            init_evaluation_wf(**{"pairs": pairs, "omp_nthreads": 1, **changes})

    refused("no pairs", pairs=[])
    refused("affine 'flirt' is unknown", affine="flirt")
    refused("method 'VM' is unknown; give LP, LPP", methods=["VM"])
    refused("method 'LP' is named twice", methods=["LP", "LO", "LP"])
    refused("no method is named", methods=[])
    own = {"methods": ["LPC"], "prediction_network": tmp_path}
    refused("method 'LPC' corrects by a second network", **own)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    refused("greedy is not installed; .* the package picsl-greedy", methods=["greedy"])
    refused("ANTs is not installed; .* the package antspyx", methods=["SyN"])


def test_peers_are_programs_or_packages(pairs, monkeypatch, tmp_path):
    programs = {"greedy": tmp_path / "greedy", "SyN": tmp_path / "antsRegistration"}
    for program in programs.values():
        program.write_text("#!/bin/sh\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    workflow = init_evaluation_wf(pairs=pairs, omp_nthreads=2, methods=list(PEERS))
    for name, program in programs.items():
        node = workflow.get_node(f"register_{name}")
        assert node.interface.cmd == str(program) and node.inputs.num_threads == 2
        edge = workflow._graph.get_edge_data(node, workflow.get_node(f"measure_{name}"))
        assert ("reverse_forward_transforms", "transforms") in edge["connect"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tools, "find_spec", lambda name: True)
    for name, module in (("greedy", "picsl_greedy"), ("SyN", "antspyx")):
        words = (sys.executable, "-m", f"nipype_quicksilver.preprocessing.{module}")
        assert PEERS[name]().cmd == shlex.join(words)


@pytest.mark.parametrize("name", PEERS)
def test_file_names_of_users_are_not_in_commands(name, pair, tmp_path):
    folder = tmp_path / "a study, [first] & 'last'; $HOME"
    folder.mkdir()
    for side in ("fixed", "moving"):
        shutil.copy(getattr(pair, side), folder / f"{side} x.nii.gz")
    node = PEERS[name](fixed_image=folder / "fixed x.nii.gz")
    node.inputs.moving_image = folder / "moving x.nii.gz"
    node.inputs.initial_moving_transform = pair.affine
    assert "study" not in node.cmdline
    assert "fixed.nii.gz" in node.cmdline and "moving.nii.gz" in node.cmdline


def test_own_networks():
    both = {"prediction_network": "p.safetensors", "correction_network": "c.safetensors"}
    assert methods.node_inputs("LP", **both) == {
        "method": "predict",
        "prediction_network": "p.safetensors",
    }
    assert methods.node_inputs("LPC", **both) == {"method": "correct", **both}
    assert methods.node_inputs("LPP", **both)["prediction_network"] == "p.safetensors"
    assert "correction_network" not in methods.node_inputs("LPP", **both)
    assert methods.node_inputs("LPP")["prediction_network"].endswith("prediction.safetensors")
    assert methods.node_inputs("LO", **both) == {"method": "optimize"}


def test_a_command_gets_its_affine_and_is_timed(pair, tmp_path, monkeypatch):
    """A script in the place of greedy copies the affine that it is given."""
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
    summary = json.loads((work / "summary.json").read_text())
    assert summary["seconds"]["total"] > 0 and summary["cpu_seconds"]["register"] > 0


def test_a_peer_reads_the_world_that_counts_here(pair, tmp_path, monkeypatch):
    """A script in the place of greedy reads the images by ITK, which takes the qform."""
    script = tmp_path / "greedy"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nimport SimpleITK as sitk\n"
        "names = sys.argv[sys.argv.index('-i') + 1 :][:2]\n"
        "origins = [sitk.ReadImage(name).GetOrigin() for name in names]\n"
        "open('warp.nii.gz', 'w').write(repr(origins))\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    image = nib.load(pair.moving)
    expected = image.affine[:3, 3] * [-1, -1, 1]
    wrong = image.affine.copy()
    wrong[0, 3] += 12
    image.set_sform(image.affine, 2)
    image.set_qform(wrong, 1)
    nib.save(image, tmp_path / "aligned.nii.gz")
    node = GreedyRegistration(fixed_image=pair.fixed, moving_image=tmp_path / "aligned.nii.gz")
    node.inputs.initial_moving_transform = pair.affine
    with pytest.warns(UserWarning, match="aligned.nii.gz: sform and qform differ"):
        node.run(cwd=work)
    fixed, moving = ast.literal_eval((work / "warp.nii.gz").read_text())
    np.testing.assert_allclose(moving, expected, atol=1e-3)
    np.testing.assert_allclose(fixed, nib.load(pair.fixed).affine[:3, 3] * [-1, -1, 1], atol=1e-3)
    assert (work / "fixed.nii.gz").is_symlink() and not (work / "moving.nii.gz").is_symlink()


@pytest.mark.parametrize("name", PEERS)
def test_peers_align_labels(name, pair, tmp_path, measured):
    if tools.PEERS[name].command() is None:
        pytest.skip(f"{tools.PEERS[name].title} is not installed")
    folder = tmp_path / "a study, [first] & 'last'"
    folder.mkdir()
    node = PEERS[name](fixed_image=pair.fixed)
    node.inputs.moving_image = shutil.copy(pair.moving, folder / "moving x.nii.gz")
    node.inputs.initial_moving_transform = pair.affine
    outputs = node.run(cwd=folder).outputs
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
