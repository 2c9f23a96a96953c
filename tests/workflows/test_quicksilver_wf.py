"""The workflow of a pair: built, drawn, run, and compared with the command."""

import inspect
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import DataSink, Node, Workflow
from nipype.interfaces.utility import IdentityInterface
from nipype.utils.filemanip import loadpkl

from nipype_quicksilver import interfaces
from nipype_quicksilver.options import OPTIONS
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.grids import working_grid
from nipype_quicksilver.spatial.images import read_image
from nipype_quicksilver.spatial.momentum import read_momentum
from nipype_quicksilver.workflows import init_quicksilver_wf

ITERATIONS = [10, 4, 1, 1]
PLUGINS = [("Linear", {}), ("MultiProc", {"n_procs": 2, "memory_gb": 4, "n_gpu_procs": 0})]


def load(path):
    return np.asanyarray(nib.load(path).dataobj)


def fields(workflow, node):
    return workflow.get_node(node).outputs.copyable_trait_names()


def run(workflow, folder, plugin="Linear", plugin_args=None, **inputs):
    """Run a workflow inside another; return the file of each output."""
    host = Workflow(name="host", base_dir=folder)
    host.config["execution"]["crashdump_dir"] = str(folder)
    host.config["execution"]["crashfile_format"] = "txt"
    host.config["execution"]["poll_sleep_duration"] = 0.1
    sink = Node(DataSink(base_directory=str(folder / "out")), name="sink")
    names = [name for name in fields(workflow, "outputnode") if name != "warnings"]  # no files
    host.connect([(workflow, sink, [(f"outputnode.{name}", name) for name in names])])
    for name, value in inputs.items():
        setattr(workflow.inputs.inputnode, name, str(value))
    if workflow.get_node("optimize") is not None and workflow.get_node("predict") is None:
        workflow.get_node("optimize").inputs.iterations = ITERATIONS
    host.run(plugin=plugin, plugin_args=plugin_args or {})
    found = {name: list((folder / "out" / name).iterdir()) for name in names}
    return {name: files[0] for name, files in found.items() if len(files) == 1}


def warnings_of(folder):
    """Return the warnings of the workflow that ran in a folder, with file names for paths."""
    (file,) = folder.rglob("result_check.pklz")
    return [Path(text).name for text in loadpkl(file).outputs.warnings]


def of_command(pair, folder, **inputs):
    """Run the node that does the same in one step; return its outputs."""
    inputs = {"method": "optimize", **inputs}
    if inputs["method"] == "optimize":
        inputs["iterations"] = ITERATIONS
    node = interfaces.QuicksilverRegistration(
        fixed_image=pair.fixed, moving_image=pair.moving, **inputs
    )
    node.inputs.brain_extraction = "none"
    if "initial_moving_transform" not in inputs:
        node.inputs.affine = "none"
    return node.run(cwd=folder).outputs


@pytest.fixture(scope="module")
def optional(pair, tmp_path_factory):
    """Every input that may be left out."""
    lesion = nib.load(pair.moving_mask)
    data = np.asanyarray(lesion.dataobj).copy()
    data[10:] = 0
    path = tmp_path_factory.mktemp("lesion") / "lesion.nii.gz"
    nib.save(nib.Nifti1Image(data, lesion.affine), path)
    return {
        "fixed_image_mask": pair.fixed_mask,
        "moving_image_mask": pair.moving_mask,
        "moving_lesion_mask": path,
        "initial_moving_transform": pair.affine,
        "fixed_labels": pair.fixed_labels,
        "moving_labels": pair.moving_labels,
    }


@pytest.fixture(scope="module")
def expected(pair, optional, tmp_path_factory):
    return of_command(pair, tmp_path_factory.mktemp("command"), **optional)


@pytest.mark.parametrize(("plugin", "arguments"), PLUGINS)
def test_as_the_command(plugin, arguments, pair, optional, expected, tmp_path):
    workflow = init_quicksilver_wf(method="optimize", omp_nthreads=1, labels=True)
    images = {"fixed_image": pair.fixed, "moving_image": pair.moving}
    found = run(workflow, tmp_path, plugin, arguments, **images, **optional)
    assert set(found) == set(fields(workflow, "outputnode")) - {"warnings"}
    for name in ("warped_image", "inverse_warped_image"):
        np.testing.assert_allclose(load(found[name]), load(getattr(expected, name)), atol=0.5)
    assert np.mean(load(found["warped_labels"]) == load(expected.warped_labels)) > 0.999
    for name in ("displacement", "inverse_displacement", "log_jacobian"):
        np.testing.assert_allclose(load(found[name]), load(getattr(expected, name)), atol=2e-3)
    for name in ("composite_transform", "inverse_composite_transform"):
        points = np.array([[0.0, 0.0, 0.0], [5.0, -6.0, 3.0]])
        both = [transforms.read_transform(file) for file in (found[name], getattr(expected, name))]
        mapped = [transforms.map_points(transform, points) for transform in both]
        np.testing.assert_allclose(*mapped, atol=2e-3)
        assert np.abs(np.abs(mapped[0] - points) - [3, 0, 0]).max() > 0.1  # more than the affine
    summary = json.loads(Path(expected.summary).read_text())
    jacobian = json.loads(found["jacobian_summary"].read_text())
    assert jacobian["voxels"] == summary["jacobian"]["voxels"]
    assert jacobian["folded"] == summary["jacobian"]["folded"]
    overlap = json.loads(found["label_overlap"].read_text())
    dice = summary["labels"]["after"]["mean"]["dice"]
    assert overlap["mean"]["dice"] == pytest.approx(dice, abs=1e-3)
    assert warnings_of(tmp_path) == [Path(text).name for text in expected.warnings]


def test_without_anything_optional(pair, tmp_path):
    workflow = init_quicksilver_wf(method="optimize", omp_nthreads=1)
    found = run(workflow, tmp_path, fixed_image=pair.fixed, moving_image=pair.moving)
    expected = of_command(pair, tmp_path)
    np.testing.assert_allclose(load(found["warped_image"]), load(expected.warped_image), atol=0.5)


def test_a_small_pair_is_compared_at_human_size(small_pair, tmp_path):
    workflow = init_quicksilver_wf(method="optimize", omp_nthreads=1)
    inputs = {"initial_moving_transform": small_pair.affine}
    found = run(
        workflow, tmp_path, fixed_image=small_pair.fixed, moving_image=small_pair.moving, **inputs
    )
    expected = of_command(small_pair, tmp_path, **inputs)
    assert json.loads(Path(expected.summary).read_text())["magnification"] == 10
    for name in ("displacement", "inverse_displacement"):
        maps = load(found[name]), load(getattr(expected, name))
        np.testing.assert_allclose(*maps, atol=2e-4)
        assert np.abs(maps[0]).max() > 0.3


def test_without_a_deformation(pair, optional, tmp_path):
    workflow = init_quicksilver_wf(transform="rigid", omp_nthreads=1, labels=True)
    assert workflow.get_node("shoot") is workflow.get_node("predict") is None
    images = {"fixed_image": pair.fixed, "moving_image": pair.moving}
    found = run(workflow, tmp_path, **images, **optional)
    assert set(found) == set(fields(workflow, "outputnode")) - {"warnings"}
    assert "momentum" not in found
    node = interfaces.QuicksilverRegistration(**images, **optional, transform="rigid")
    node.inputs.brain_extraction = "none"
    expected = node.run(cwd=tmp_path).outputs
    np.testing.assert_allclose(load(found["warped_image"]), load(expected.warped_image), atol=0.5)
    for name in ("displacement", "inverse_displacement", "log_jacobian"):
        np.testing.assert_allclose(load(found[name]), load(getattr(expected, name)), atol=1e-4)
    assert np.array_equal(load(found["warped_labels"]), load(expected.warped_labels))
    assert warnings_of(tmp_path) == [Path(text).name for text in expected.warnings]


def test_doubtful_results_have_warnings(pair, tmp_path):
    """A mask of another place, in which the moving image is void."""
    moving = nib.load(pair.moving_mask)
    data = np.zeros(moving.shape, np.uint8)
    data[:8] = 1
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(data, moving.affine), mask)
    workflow = init_quicksilver_wf(method="optimize", omp_nthreads=1)
    images = {"fixed_image": pair.fixed, "moving_image": pair.moving}
    run(workflow, tmp_path, **images, moving_image_mask=mask)
    assert any("of the brain mask is background in the image" in w for w in warnings_of(tmp_path))


def test_on_the_grid_of_a_template(pair, optional, tmp_path):
    workflow = init_quicksilver_wf(omp_nthreads=1, labels=True, template=str(pair.fixed))
    images = {"fixed_image": pair.fixed, "moving_image": pair.moving}
    found = run(workflow, tmp_path, **images, **optional)
    template = working_grid(native_brain(read_image(pair.fixed), None))
    assert read_momentum(found["momentum"]).working_grid.equals(template)
    overlap = json.loads(found["label_overlap"].read_text())
    assert overlap["mean"]["dice"] > 0.74  # .73 by the affine
    forward, inverse = (
        transforms.read_transform(found[name])
        for name in ("composite_transform", "inverse_composite_transform")
    )
    points = np.array([[0.0, 0.0, 0.0], [5.0, -6.0, 3.0]])
    mapped = transforms.map_points(forward, points)
    np.testing.assert_allclose(transforms.map_points(inverse, mapped), points, atol=0.3)


@pytest.mark.parametrize(
    ("method", "networks", "options"),
    [
        ("refine", ("prediction_network", "correction_network"), {"corrections": 2}),
        ("predict", ("probabilistic",), {"samples": 2, "uncertainty_components": True, "seed": 4}),
    ],
)
def test_predicting_as_the_command(
    method, networks, options, pair, optional, tiny_networks, tmp_path
):
    given = {"prediction_network": tiny_networks[networks[0]], **options}
    if len(networks) == 2:
        given["correction_network"] = tiny_networks[networks[1]]
    workflow = init_quicksilver_wf(omp_nthreads=1, method=method, **given)
    inputs = {name: path for name, path in optional.items() if "labels" not in name}
    images = {"fixed_image": pair.fixed, "moving_image": pair.moving}
    found = run(workflow, tmp_path, **images, **inputs)
    assert set(found) == set(fields(workflow, "outputnode")) - {"warnings"}
    assert ("uncertainty" in found) == ("samples" in options)
    traits = {OPTIONS[name].trait: value for name, value in given.items()}
    expected = of_command(pair, tmp_path, method=method, **inputs, **traits)
    np.testing.assert_allclose(load(found["warped_image"]), load(expected.warped_image), atol=1)
    for name in ("displacement", "inverse_displacement"):
        np.testing.assert_allclose(load(found[name]), load(getattr(expected, name)), atol=5e-3)
    if "uncertainty" in found:
        uncertainty = load(expected.uncertainty)
        assert uncertainty.max() > 0
        np.testing.assert_allclose(load(found["uncertainty"]), uncertainty, atol=5e-3)
        components = load(expected.uncertainty_components)
        np.testing.assert_allclose(load(found["uncertainty_components"]), components, atol=5e-3)


@pytest.mark.parametrize(
    ("method", "nodes"),
    [
        ("predict", {"predict": 0}),
        ("correct", {"predict": 1}),
        ("refine", {"predict": 1, "optimize": "refine"}),
        ("optimize", {"optimize": "full"}),
    ],
)
def test_nodes_of_the_methods(method, nodes):
    workflow = init_quicksilver_wf(omp_nthreads=1, method=method)
    for name, expected in {"predict": None, "optimize": None, **nodes}.items():
        node = workflow.get_node(name)
        if expected is None:
            assert node is None
            continue
        assert (node.inputs.corrections if name == "predict" else node.inputs.schedule) == expected


def test_options_without_use_are_refused():
    with pytest.raises(ValueError, match="method 'guess' is unknown"):
        init_quicksilver_wf(omp_nthreads=1, method="guess")
    with pytest.raises(ValueError, match="'optimize' does not use samples"):
        init_quicksilver_wf(omp_nthreads=1, method="optimize", samples=5)
    with pytest.raises(ValueError, match="'predict' does not use corrections"):
        init_quicksilver_wf(omp_nthreads=1, method="predict", corrections=2)
    with pytest.raises(ValueError, match="template 'auto' is for heads"):
        init_quicksilver_wf(omp_nthreads=1, template="auto")


def test_the_earlier_name_of_samples_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="'n_samples' is called 'samples'") as warned:
        workflow = init_quicksilver_wf(omp_nthreads=1, n_samples=3)
    assert workflow.get_node("predict").inputs.n_samples == 3
    assert [each.filename for each in warned] == [__file__]  # the line that uses it


def test_names_of_inputs_and_outputs():
    workflow = init_quicksilver_wf(method="optimize", omp_nthreads=1)
    command_inputs = set(interfaces.QuicksilverRegistration.input_spec().trait_get())
    command_outputs = set(interfaces.QuicksilverRegistration.output_spec().trait_get())
    assert set(fields(workflow, "inputnode")) <= command_inputs
    assert set(fields(workflow, "outputnode")) - command_outputs == {"jacobian_summary"}
    documented = inspect.getdoc(init_quicksilver_wf)
    workflow = init_quicksilver_wf(
        method="predict", omp_nthreads=1, labels=True, samples=5, uncertainty_components=True
    )
    for name in (*fields(workflow, "inputnode"), *fields(workflow, "outputnode")):
        assert name in documented


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("use_gpu", [False, True])
@pytest.mark.parametrize("samples", [None, 3])
def test_resources(labels, use_gpu, samples):
    workflow = init_quicksilver_wf(
        method="refine",
        omp_nthreads=3,
        use_gpu=use_gpu,
        labels=labels,
        samples=samples,
        name="pair_wf",
    )
    assert workflow.name == "pair_wf"
    nodes = [workflow.get_node(name) for name in workflow.list_node_names()]
    for node in nodes:
        if isinstance(node.interface, IdentityInterface) or node.name.startswith("merge_"):
            continue
        assert isinstance(node.mem_gb, float) and 0 < node.mem_gb < 8
        on_gpu = use_gpu and node.name in ("predict", "optimize", "shoot")
        assert node.is_gpu_node() == on_gpu, node.name
        # A GPU node takes as many GPU slots as processors.
        assert node.n_procs in ((1,) if on_gpu else (1, 3)), node.name
        assert getattr(node.inputs, "num_threads", 1) == node.n_procs
    assert workflow.get_node("merge_forward").run_without_submitting


def test_arguments_are_keywords():
    parameters = inspect.signature(init_quicksilver_wf).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_inside_a_host(pair):
    host = Workflow(name="host")
    before = Node(IdentityInterface(fields=["t1w"]), name="before")
    first = init_quicksilver_wf(method="optimize", omp_nthreads=1, name="first_wf")
    second = init_quicksilver_wf(method="optimize", omp_nthreads=1, name="second_wf")
    host.connect([
        (before, first, [("t1w", "inputnode.fixed_image")]),
        (first, second, [("outputnode.warped_image", "inputnode.moving_image")]),
    ])  # fmt: skip
    assert "first_wf.optimize" in host.list_node_names()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folder with the graph, described by pydot and networkx."""
    workflow = init_quicksilver_wf(method="optimize", omp_nthreads=1, labels=True)
    workflow.base_dir = tmp_path_factory.mktemp("drawn")
    return workflow, Path(workflow.base_dir) / workflow.name


@pytest.mark.parametrize("graph2use", ["orig", "flat", "colored", "hierarchical", "exec"])
def test_graph_is_described(drawn, graph2use):
    workflow, folder = drawn
    with_dot = shutil.which("dot") is not None
    try:
        workflow.write_graph(graph2use=graph2use, format="png")
    except OSError:
        # Without the `dot` program the description is written, and the picture fails.
        if with_dot:
            raise
    written = [file for file in folder.glob("*.dot") if "label_overlap" in file.read_text()]
    assert written


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz' dot is not installed")
def test_graph_is_drawn(drawn):
    workflow, _ = drawn
    assert (
        Path(workflow.write_graph(graph2use="colored", format="png")).with_suffix(".png").exists()
    )
