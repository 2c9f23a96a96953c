"""What holds for every node."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nipype import Node
from nipype.interfaces.base import File, isdefined
from traits.api import TraitError

import nipype_quicksilver
from nipype_quicksilver import interfaces
from nipype_quicksilver.interfaces import base

NODES = [getattr(interfaces, name) for name in interfaces.__all__]
THREADED = [node for node in NODES if "num_threads" in node.input_spec().trait_get()]
COMMANDS = [node for node in NODES if issubclass(node, base.QuicksilverCommand)]
ROOT = Path(nipype_quicksilver.__file__).parents[1]


def file_traits(spec):
    """Names and traits of files, in lists too."""
    for name, trait in spec.items():
        inner = trait.inner_traits[0] if trait.inner_traits else trait
        if inner.is_trait_type(File):
            yield name, trait


def is_output_name(trait):
    """Return whether an input is the name of a file that does not exist yet."""
    return bool(trait.name_source) or trait.hash_files is False


def as_value(trait, path):
    return [str(path)] if trait.inner_traits else str(path)


@pytest.fixture
def filled(tmp_path):
    """A function that makes a node with files for all its mandatory inputs."""

    def filled(node_class, folder=tmp_path):
        node = node_class()
        for name, trait in file_traits(node.inputs.traits()):
            if trait.mandatory:
                path = folder / f"{name}.nii.gz"
                path.write_text(name)
                setattr(node.inputs, name, as_value(trait, path))
        return node

    return filled


@pytest.mark.parametrize("node_class", NODES)
def test_missing_file_is_refused(node_class, tmp_path):
    inputs, checked = node_class().inputs, 0
    for name, trait in file_traits(inputs.traits()):
        if is_output_name(trait):
            continue
        with pytest.raises(TraitError, match=rf"{name}.*|existing file"):
            setattr(inputs, name, as_value(trait, tmp_path / "missing.nii.gz"))
        assert not isdefined(getattr(inputs, name)), name
        checked += 1
    assert checked


@pytest.mark.parametrize("node_class", NODES)
def test_missing_output_is_refused(node_class, tmp_path):
    outputs = node_class.output_spec()
    for name, trait in file_traits(outputs.traits()):
        with pytest.raises(TraitError):
            setattr(outputs, name, as_value(trait, tmp_path / "missing.nii.gz"))


@pytest.mark.parametrize("node_class", NODES)
def test_mandatory_inputs(node_class):
    with pytest.raises(ValueError, match="requires a value for input"):
        node_class().run()


@pytest.mark.parametrize("node_class", THREADED)
def test_threads_and_device_are_not_hashed(node_class, filled):
    inputs = filled(node_class).inputs
    before = inputs.get_hashval()[1]
    inputs.num_threads = 7
    if node_class in COMMANDS:
        inputs.use_gpu = True
    assert inputs.get_hashval()[1] == before


@pytest.mark.parametrize(
    ("node_class", "changes"),
    [
        (interfaces.NormalizeIntensity, {"percentile": 99.0, "equalize": True}),
        (interfaces.ComposeTransforms, {"invert_transform_flags": [True]}),
        (interfaces.ApplyTransforms, {"interpolation": "BSpline", "default_value": 1.0}),
        (interfaces.LabelOverlap, {"labels": [1]}),
        (
            interfaces.TrainNetwork,
            {"random_seed": 1, "role": "correction", "iterations": 5, "half": True},
        ),
        (
            interfaces.OptimizeMomentum,
            {"random_seed": 1, "similarity": "ssd", "iterations": [5], "args": "--verbose"},
        ),
        (interfaces.OptimizeMomentum, {"schedule": "refine"}),
        (interfaces.PredictMomentum, {"random_seed": 1, "corrections": 0, "n_samples": 5}),
        (
            interfaces.QuicksilverRegistration,
            {"random_seed": 1, "similarity": "mind", "iterations": [1, 2]},
        ),
        (
            interfaces.QuicksilverRegistration,
            {"method": "predict", "corrections": 2, "n_samples": 5, "uncertainty_components": True},
        ),
    ],
)
def test_parameters_are_hashed(node_class, changes, filled):
    inputs = filled(node_class).inputs
    seen = {inputs.get_hashval()[1]}
    for name, value in changes.items():
        setattr(inputs, name, value)
        assert inputs.get_hashval()[1] not in seen, name
        seen.add(inputs.get_hashval()[1])


@pytest.mark.parametrize("node_class", NODES)
def test_every_input_file_is_hashed(node_class, filled, tmp_path):
    before = filled(node_class).inputs.get_hashval()[1]
    for name, trait in file_traits(node_class().inputs.traits()):
        if not is_output_name(trait):
            inputs = filled(node_class).inputs
            path = tmp_path / f"another_{name}.nii.gz"
            path.write_text(name)
            setattr(inputs, name, as_value(trait, path))
            assert inputs.get_hashval()[1] != before, name


@pytest.mark.parametrize(
    "node_class", [interfaces.PredictMomentum, interfaces.QuicksilverRegistration]
)
@pytest.mark.parametrize("name", ["prediction_network", "correction_network"])
@pytest.mark.parametrize("method", ["content", "timestamp"])
def test_the_card_of_a_network_is_hashed(node_class, name, method, filled, tmp_path):
    network, card = (tmp_path / f"network.{suffix}" for suffix in ("safetensors", "json"))
    network.touch()
    inputs = filled(node_class).inputs
    setattr(inputs, name, network)
    seen = {inputs.get_hashval(method)[1]}
    for time, text in enumerate(("one", "another")):
        card.write_text(text)
        os.utime(card, (time, time))
        assert inputs.get_hashval(method)[1] not in seen
        assert inputs.get_hashval(method)[1] == inputs.get_hashval(method)[1]
        seen.add(inputs.get_hashval(method)[1])


@pytest.mark.parametrize("node_class", NODES)
def test_outputs_need_no_run(node_class, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = filled(node_class)
    outputs = node._list_outputs()
    assert outputs
    files = [value for value in outputs.values() if isinstance(value, str)]
    assert len(set(files)) == len(files)
    for file in files:
        assert Path(file).is_absolute() and Path(file).is_relative_to(tmp_path)


@pytest.mark.parametrize("node_class", NODES)
def test_outputs_never_replace_inputs(node_class, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = filled(node_class)
    inputs = {str(path) for path in tmp_path.iterdir()}
    outputs = {value for value in node._list_outputs().values() if isinstance(value, str)}
    assert not inputs & outputs


@pytest.mark.parametrize("node_class", THREADED)
def test_a_node_passes_its_processors_to_the_command(node_class, filled):
    node = Node(filled(node_class), n_procs=3, name="node")
    assert node.inputs.num_threads == 3 and node.n_procs == 3
    if node_class in COMMANDS:
        assert "--num-threads 3" in node.interface.cmdline
    # By default one processor is charged and one is used.
    assert Node(filled(node_class), name="node").n_procs == 1
    assert node_class().inputs.num_threads == 1


@pytest.mark.parametrize("node_class", COMMANDS)
def test_device(node_class, filled):
    node = filled(node_class)
    assert "--device cpu" in node.cmdline
    node.inputs.use_gpu = True
    assert "--device cuda" in node.cmdline
    assert Node(node, name="node").is_gpu_node()


@pytest.mark.parametrize("node_class", NODES)
def test_nodes_are_described(node_class):
    assert inspect.getdoc(node_class)
    for spec in (node_class.input_spec, node_class.output_spec):
        for name, trait in spec().items():
            assert trait.desc, name


def test_nothing_heavy_is_imported():
    code = (
        "from nipype_quicksilver.workflows import init_quicksilver_wf as i; import sys; "
        "i(omp_nthreads=1, labels=True); "
        "print([m for m in ('torch', 'SimpleITK', 'nitransforms') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("folder", ["nipype_quicksilver/interfaces", "workflows"])
def test_torch_is_never_imported(folder):
    files = list((ROOT / folder).glob("*.py"))
    assert files
    for file in files:
        for statement in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in getattr(statement, "names", [])]
            names.append(getattr(statement, "module", None) or "")
            assert not [name for name in names if name.split(".")[0] == "torch"], file


@pytest.fixture
def without_scripts(monkeypatch):
    """A PATH without this interpreter's scripts."""
    monkeypatch.setenv("PATH", os.defpath)


def test_program_without_scripts_on_the_path(without_scripts, filled):
    start = f"{sys.executable} -m nipype_quicksilver shoot "
    assert filled(interfaces.ShootGeodesic).cmdline.startswith(start)


def test_program_of_another_environment_is_not_taken(monkeypatch, tmp_path, filled):
    other = tmp_path / "quicksilver"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}")
    assert filled(interfaces.ShootGeodesic).cmdline.startswith(f"{sys.executable} -m ")


def test_program_on_the_path(monkeypatch, filled):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    assert filled(interfaces.ShootGeodesic).cmdline.startswith("quicksilver shoot ")


def test_paths_with_spaces(filled, tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    assert (
        f"--momentum '{folder}/momentum.nii.gz'" in filled(interfaces.ShootGeodesic, folder).cmdline
    )


def test_a_template_with_spaces_is_quoted_and_further_arguments_are_not(filled, tmp_path):
    template = tmp_path / "a template.nii.gz"
    template.touch()
    node = filled(interfaces.QuicksilverRegistration)
    node.inputs.template, node.inputs.args = template, "--corrections 2 --verbose"
    assert f" --template '{template}'" in node.cmdline
    assert "--corrections 2 --verbose" in node.cmdline


@pytest.mark.parametrize("name", ["momenta", "validation_momenta"])
def test_data_sets_are_hashed_by_what_they_contain(name, filled, tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "index.tsv").write_text("one")
    inputs = filled(interfaces.TrainNetwork).inputs
    setattr(inputs, name, folder)
    before = inputs.get_hashval()[1]
    assert inputs.get_hashval()[1] == before
    (folder / "index.tsv").write_text("another")
    changed = inputs.get_hashval()[1]
    (folder / "more.nii.gz").write_text("one")
    assert len({before, changed, inputs.get_hashval()[1]}) == 3


def test_lists_of_paths_with_spaces(tmp_path):
    files = [tmp_path / f"a {name}.nii" for name in ("recipe", "map", "second map", "network")]
    for file in files:
        file.touch()
    node = interfaces.TrainNetwork(recipe=files[0], labels=files[1:3], before=files[3:] * 2)
    node.inputs.licence = "CC BY 4.0"
    assert f" --labels '{files[1]}' '{files[2]}' " in node.cmdline
    assert f" --before '{files[3]}' --before '{files[3]}' " in node.cmdline
    assert " --licence 'CC BY 4.0' " in node.cmdline


def test_error_and_environment_of_the_command(monkeypatch, tmp_path, filled):
    script = tmp_path / "quicksilver.py"
    script.write_text(
        "import os, sys; sys.exit('quicksilver: error: GPU ' + os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(base, "_program", lambda: f"{sys.executable} {script}")
    with pytest.raises(RuntimeError, match="quicksilver: error: GPU 3\n"):
        filled(interfaces.ShootGeodesic).run(cwd=tmp_path)
    node = Node(filled(interfaces.ShootGeodesic), base_dir=tmp_path, name="node")
    with pytest.raises(Exception, match="quicksilver: error: GPU 3\n") as error:
        node.run()
    assert type(error.value).__name__ == "NodeExecutionError"


def test_threads_of_itk_are_restored():
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    with base.itk_threads(before + 1):
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before + 1
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before


def test_names_of_ants():
    from nipype.interfaces import ants

    for ours, theirs, inputs in (
        (
            interfaces.QuicksilverRegistration,
            ants.Registration,
            {
                "fixed_image",
                "moving_image",
                "initial_moving_transform",
                "interpolation",
                "num_threads",
                "random_seed",
            },
        ),
        (
            interfaces.ApplyTransforms,
            ants.ApplyTransforms,
            {
                "input_image",
                "reference_image",
                "transforms",
                "invert_transform_flags",
                "interpolation",
                "default_value",
                "output_image",
                "num_threads",
            },
        ),
    ):
        assert inputs <= set(ours.input_spec().trait_get())
        assert inputs <= set(theirs.input_spec().trait_get())
    outputs = set(ants.Registration.output_spec().trait_get())
    missing = outputs - set(interfaces.QuicksilverRegistration.output_spec().trait_get())
    assert missing == {"save_state", "metric_value", "elapsed_time"}


def test_files_of_the_node_are_those_of_a_registration():
    from nipype_quicksilver.interfaces import registration
    from nipype_quicksilver.registration.results import FILES

    optional = ("warped_labels", "uncertainty", "uncertainty_components")
    files = {*registration._FILES.values(), *(f"{name}.nii.gz" for name in optional)}
    assert files == set(FILES.values())
