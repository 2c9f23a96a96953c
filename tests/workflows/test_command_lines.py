"""No file name reaches a shell: in every command line, each name is one word."""

import ast
import importlib
import json
import pkgutil
import shlex
import sys
from pathlib import Path

import pytest
from nipype.interfaces.base import CommandLine, Directory, File

import nipype_quicksilver
from nipype_quicksilver import interfaces, workflows
from nipype_quicksilver.cohort.derivatives import Place
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import CohortOptions, plan
from nipype_quicksilver.evaluation.pairs import Pair
from nipype_quicksilver.interfaces import base
from nipype_quicksilver.interfaces.ants import AntsBrainExtraction

ROOT = Path(nipype_quicksilver.__file__).parents[1]
#: A name with what a shell or a program could take for something else.
ODD = "a b 'c' \"d\" [e,1] $(touch evil) ; touch evil; `touch evil` & * # é"


def commands():
    """All interfaces of the package that run a command."""
    found = set()
    for module in pkgutil.iter_modules(interfaces.__path__, f"{interfaces.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, CommandLine):
                found.add(value)
    own = [value for value in found if value.__module__.startswith("nipype_quicksilver")]
    concrete = [value for value in own if not value.__name__.startswith("_") and value._cmd]
    return sorted(concrete, key=lambda value: value.__name__)


def odd_file(folder, name):
    path = folder / ODD / f"{name} {ODD}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def fill(interface, folder, *, only_mandatory=False):
    """Give every input that is a file an odd name; return the names."""
    names, excluded = [], set()
    for name, trait in interface.inputs.items():
        inner = trait.inner_traits[0] if trait.inner_traits else trait
        files = [part for part in (trait, inner) if part.is_trait_type((File, Directory))]
        if not files or name in excluded or (only_mandatory and not trait.mandatory):
            continue
        excluded |= set(trait.xor or ())
        if "n_samples" in (trait.requires or ()):
            interface.inputs.n_samples = 2
        path = odd_file(folder, name)
        if inner.is_trait_type(Directory):
            path = path.with_name(f"{name} {ODD}")
            path.mkdir(exist_ok=True)
        try:
            setattr(interface.inputs, name, [str(path)] if trait.inner_traits else str(path))
        except Exception:  # an odd name is refused
            continue
        if trait.argstr:
            names.append(str(path))
    return names


def check(interface, names):
    """Check that each name is one word of the command line, or the file of a link is."""
    words = shlex.split(interface.cmdline)
    if isinstance(interface, (AntsBrainExtraction, *peers())):
        assert "evil" not in interface.cmdline
        return
    for name in names:
        assert name in words, name
    odd = [word for word in words if "evil" in word]
    for word in odd:
        assert word in names or Path(word).name.endswith((".nii.gz", ".mat", ".json", ".h5")), word


def peers():
    from nipype_quicksilver.interfaces import peers

    return (peers.GreedyRegistration, peers.SynRegistration)


@pytest.mark.parametrize("command", commands())
def test_every_interface(command, tmp_path):
    interface = command()
    names = fill(interface, tmp_path)
    assert names or command in peers()
    check(interface, names)


@pytest.mark.parametrize(
    "command", [command for command in commands() if issubclass(command, base.QuicksilverCommand)]
)
def test_the_shell_passes_every_name_as_it_is(command, tmp_path, monkeypatch):
    """Commands that are run by a shell, with a program that prints its arguments."""
    program = tmp_path / "program.py"
    program.write_text("import json, sys; print(json.dumps(sys.argv)); sys.exit(1)")
    monkeypatch.setattr(base, "_program", lambda: shlex.join([sys.executable, str(program)]))
    interface = command()
    names = fill(interface, tmp_path)
    with pytest.raises(RuntimeError) as error:
        interface.run(cwd=tmp_path)
    line = next(line for line in str(error.value).splitlines() if line.strip().startswith('["'))
    assert set(names) <= set(json.loads(line))
    assert not list(tmp_path.rglob("evil"))


@pytest.fixture
def tools(install):
    """All external tools, as far as workflows look for them."""
    for name in ("greedy", "antsRegistration", "antsBrainExtraction.sh", "bet", "flirt"):
        install(name, "#!/bin/sh\n")


def builds(folder):
    """Calls of all builders, with the options that change their nodes."""
    image = odd_file(folder, "image")
    pair = Pair("x", image, image, image, image, label_set="y")
    cohort = [CohortImage(image, n, None, f"sub-{n}", "T1w", image, image, image) for n in "12"]
    for affine in ("simpleitk", "ants", "none"):
        for fixed in (str(image), "pairwise"):
            options = CohortOptions.of(fixed, affine=affine)
            yield (
                workflows.init_cohort_wf,
                {"jobs": plan(cohort, options), "options": options, "place": Place(folder)},
            )
    for tool in ("deepbet", "bet"):
        yield workflows.init_brain_extraction_wf, {"brain_extraction": tool}
        yield workflows.init_preprocessing_wf, {"brain_extraction": tool, "affine": "flirt"}
    template = {"brain_template": str(image), "brain_probability_mask": str(image)}
    yield workflows.init_brain_extraction_wf, {"brain_extraction": "ants", **template}
    for affine in ("simpleitk", "greedy", "ants", "flirt"):
        yield workflows.init_affine_wf, {"affine": affine}
    for method in ("predict", "correct", "refine", "optimize"):
        yield workflows.init_quicksilver_wf, {"method": method, "labels": True}
    yield workflows.init_quicksilver_wf, {"method": "predict", "samples": 2}
    yield workflows.init_template_registration_wf, {"templates": ["MNI152"]}
    yield workflows.init_label_propagation_wf, {}
    yield workflows.init_training_wf, {}
    methods = ["LP", "LO", "greedy", "SyN"]
    yield workflows.init_evaluation_wf, {"pairs": [pair], "methods": methods, "timed_threads": [1]}


def test_every_node_of_every_workflow(tools, tmp_path):
    built, seen = set(), set()
    for builder, options in builds(tmp_path):
        workflow = builder(omp_nthreads=1, **options)
        built.add(builder.__name__)
        for name in workflow.list_node_names():
            interface = workflow.get_node(name).interface
            if isinstance(interface, CommandLine):
                seen.add(type(interface).__name__)
                assert type(interface).__module__.startswith("nipype_quicksilver"), name
                check(interface, fill(interface, tmp_path))
    assert built == set(workflows.__all__)
    assert {"AntsBrainExtraction", "SynRegistration", "QuicksilverRegistration"} <= seen


def test_ants_reads_links(tools, tmp_path, install):
    program = (
        '#!/bin/sh\nfor name in Mask Brain; do cp "$2" highres001_BrainExtraction$name.nii.gz; done'
    )
    install("antsBrainExtraction.sh", program)
    interface = AntsBrainExtraction()
    fill(interface, tmp_path, only_mandatory=True)
    Path(interface.inputs.anatomical_image).write_text("the head")
    outputs = interface.run(cwd=tmp_path).outputs
    assert Path(outputs.BrainExtractionMask).read_text() == "the head"


def test_no_other_command_is_run_by_a_shell():
    """External tools of commands are started without a shell; `tests/preprocessing` runs them."""
    for folder in ("nipype_quicksilver", "workflows"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call):
                    assert not [word for word in call.keywords if word.arg == "shell"], path
                    name = ast.unparse(call.func)
                    assert name not in ("os.system", "os.popen", "subprocess.getoutput"), path
