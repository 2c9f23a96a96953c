"""Options are declared once: the command, the node, the function and the workflow have them all."""

import argparse
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest
from nipype.interfaces.base import Undefined, isdefined
from traits.api import TraitError

import nipype_quicksilver
from nipype_quicksilver import InputError, interfaces
from nipype_quicksilver.cli import arguments, common
from nipype_quicksilver.cli.main import build_parser
from nipype_quicksilver.declarations import Kind, Option, declared
from nipype_quicksilver.evaluation.methods import AFFINES
from nipype_quicksilver.interfaces.base import CommandInputSpec, QuicksilverCommand, spec_of
from nipype_quicksilver.methods import METHODS, method_that, methods_that
from nipype_quicksilver.options import (
    COHORT_OPTIONS,
    DOF,
    FUSIONS,
    OPTIONS,
    SCAN_FILES,
    RegistrationOptions,
    completed,
)
from nipype_quicksilver.steps import AFFINE_ESTIMATION, BRAIN_EXTRACTION
from nipype_quicksilver.tools import AFFINE_TOOLS, BRAIN_EXTRACTION_TOOLS
from nipype_quicksilver.workflows import (
    init_affine_wf,
    init_brain_extraction_wf,
    init_evaluation_wf,
    init_label_propagation_wf,
    init_quicksilver_wf,
)

EVERY = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
#: A value of each kind that is no default, as words of a command and in Python.
VALUES = {
    Kind.COUNT: ("7", 7),
    Kind.COUNTS: ("3x0x2x1", (3, 0, 2, 1)),
    Kind.FLAG: (None, True),
    Kind.FILE: ("a.bin", Path("a.bin")),
}


def values_of(option):
    """Return values that an option allows, as words of a command and in Python."""
    if option.kind in VALUES:
        return [VALUES[option.kind]]
    files = [("a.bin", "a.bin")] if option.kind is Kind.NAME_OR_FILE else []
    return [*((name, name) for name in option.choices), *files]


def action_of(option, command="register"):
    parser = build_parser()._subparsers._group_actions[0].choices[command]
    return parser._option_string_actions[option.flag]


def parsed(parser, option, *words):
    return getattr(parser.parse_args([option.flag, *words]), option.name)


@EVERY
def test_every_option_is_an_argument_of_the_command(option):
    action = action_of(option)
    assert action.dest == option.name
    assert action.default == (option.default if option.kind is not Kind.FLAG else False)
    if option.kind is Kind.NAME:
        assert tuple(action.choices) == option.choices
    parser = argparse.ArgumentParser(exit_on_error=False)
    common.add_option(parser, option)
    for word, value in values_of(option):
        assert parsed(parser, option, *([] if word is None else [word])) == value
    assert option.kind is not Kind.NAME_OR_FILE or all(
        name in action.metavar for name in option.choices
    )


@EVERY
def test_wrong_words_are_refused_by_the_command(option):
    wrong = {Kind.NAME: "guess", Kind.COUNT: str(option.least - 1), Kind.COUNTS: "1,2"}
    if option.kind not in wrong:
        return
    parser = argparse.ArgumentParser(exit_on_error=False)
    common.add_option(parser, option)
    with pytest.raises(argparse.ArgumentError):
        parser.parse_args([f"{option.flag}={wrong[option.kind]}"])


@EVERY
def test_the_help_has_what_is_declared(option):
    action = action_of(option)
    if option.name != "seed":  # an argument of all commands
        assert action.help.startswith(option.help)
    if option.default not in (None, False):
        assert f"(default: {option.default})" in action.help


@EVERY
def test_every_option_is_a_trait_of_the_node(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.bin").touch()
    inputs = interfaces.QuicksilverRegistration().inputs
    trait, value = inputs.trait(option.trait), getattr(inputs, option.trait)
    # The file of an affine has a trait of its own.
    declared_as = COHORT_OPTIONS["affine"] if option.name == "affine" else option
    assert trait.desc == declared_as.help
    # A trait without value leaves the default to the command.
    assert value == option.default if isdefined(value) else not trait.usedefault
    if option.default is not None and option.kind in (Kind.NAME, Kind.COUNT):
        assert value == option.default
    for _, allowed in values_of(option):
        if option.name == "affine" and allowed not in option.choices:
            inputs.affine = Undefined
            inputs.initial_moving_transform = allowed
            continue
        given = list(allowed) if option.kind is Kind.COUNTS else allowed
        setattr(inputs, option.trait, given)
        assert getattr(inputs, option.trait) in (given, str(given), str(Path("a.bin").absolute()))


@EVERY
def test_wrong_values_are_refused_by_the_node(option):
    wrong = {Kind.COUNT: option.least - 1, Kind.COUNTS: [-1], Kind.FILE: "absent.bin"}
    with pytest.raises(TraitError):
        setattr(
            interfaces.QuicksilverRegistration().inputs,
            option.trait,
            wrong.get(option.kind, "guess"),
        )


@EVERY
def test_the_node_hands_every_option_to_the_command(option, tmp_path, monkeypatch):
    """What the node's command line says is what was set, when the command parses it."""
    monkeypatch.chdir(tmp_path)
    for name in ("fixed.nii", "moving.nii", "a.bin"):
        Path(name).touch()
    for _, value in values_of(option):
        node = interfaces.QuicksilverRegistration(
            fixed_image="fixed.nii", moving_image="moving.nii"
        )
        if option.name == "affine" and value not in option.choices:
            node.inputs.initial_moving_transform = value
        else:
            if option.needs:
                setattr(node.inputs, OPTIONS[option.needs].trait, 2)
            given = list(value) if option.kind is Kind.COUNTS else value
            setattr(node.inputs, option.trait, given)
        words = node.cmdline.split()
        args = build_parser().parse_args(words[words.index("register") :])
        absolute = Path("a.bin").absolute()
        assert arguments.chosen_options(args)[option.name] in (value, absolute, str(absolute))


@pytest.mark.parametrize("option", SCAN_FILES.values(), ids=SCAN_FILES)
def test_files_of_the_images_are_declared_as_well(option):
    assert action_of(option).type is Path
    trait = interfaces.QuicksilverRegistration.input_spec().trait(option.trait)
    assert trait.desc == option.help and trait.argstr == f"{option.flag} %s"
    assert option.name in inspect.signature(nipype_quicksilver.register).parameters


@EVERY
def test_register_documents_and_accepts_every_option(option, pair):
    assert f"\n    {option.name} : " in nipype_quicksilver.register.__doc__
    # Options are checked before files are read.
    with pytest.raises(InputError, match=r"absent\.nii: no such file"):
        nipype_quicksilver.register("absent.nii", pair.moving, **{option.name: option.default})


def test_unknown_names_are_refused(pair):
    with pytest.raises(TypeError, match="unknown option 'methods'; the options are"):
        completed({"methods": "predict"})
    with pytest.raises(TypeError, match="unknown option 'n_samples'"):
        nipype_quicksilver.register(pair.fixed, pair.moving, n_samples=3)
    with pytest.raises(TypeError, match="unknown option 'smoothing'"):
        init_quicksilver_wf(omp_nthreads=1, smoothing=3)


@pytest.mark.parametrize(
    ("build", "name", "choices"),
    [
        (init_brain_extraction_wf, "brain_extraction", (*BRAIN_EXTRACTION.choices, "ants")),
        (init_affine_wf, "affine", AFFINE_ESTIMATION.choices),
        (init_evaluation_wf, "affine", AFFINES),
        (init_label_propagation_wf, "fusion", tuple(FUSIONS)),
    ],
)
def test_docstrings_list_the_choices(build, name, choices):
    assert f"    {name} : {{{', '.join(map(repr, choices))}}}\n" in build.__doc__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "two"}, "samples 'two': give a whole number"),
        ({"samples": True}, "samples True: give a whole number"),
        ({"seed": 0.5}, "seed 0.5: give a whole number"),
        ({"seed": -1}, "seed -1: give at least 0"),
        ({"method": "optimize", "iterations": 3}, "iterations 3: give a whole number for each"),
        ({"method": "optimize", "iterations": (3, "2")}, "iterations '2': give a whole number"),
        ({"samples": 2, "uncertainty_components": 1}, "uncertainty components 1: give True or"),
    ],
)
def test_a_value_of_another_type(options, message):
    with pytest.raises(InputError, match=message):
        completed(options)
    with pytest.raises(InputError, match=message):
        init_quicksilver_wf(omp_nthreads=1, **options)


def test_the_options_stand_in_the_signature():
    parameters = inspect.signature(nipype_quicksilver.register).parameters
    assert {name: parameters[name].default for name in OPTIONS} == {
        name: option.default for name, option in OPTIONS.items()
    }
    assert inspect.signature(init_quicksilver_wf).parameters["template"].default == "none"


@EVERY
def test_the_workflow_has_every_option_it_has_a_use_for(option):
    documented = f"\n    {option.name} : " in init_quicksilver_wf.__doc__
    assert documented == ("workflow" not in option.without)
    assert documented == (option.name in inspect.signature(init_quicksilver_wf).parameters)
    value = values_of(option)[-1][1]
    if "workflow" in option.without:
        reason = f"{option.title}: init_quicksilver_wf {option.without['workflow']}"
        with pytest.raises(InputError) as error:
            init_quicksilver_wf(omp_nthreads=1, **{option.name: value})
        assert str(error.value) == reason
        return
    method = next(name for name in METHODS if used_by(option, name))
    options = {"method": method, option.name: value}
    if option.needs:
        options[option.needs] = 2
    if option.kind is Kind.FILE:
        options[option.name] = __file__
    if option.name == "template":
        options[option.name] = "none"
    assert init_quicksilver_wf(omp_nthreads=1, **options).get_node("shoot")


def test_the_node_takes_the_default_of_a_flag(pair):
    files = {"fixed_image": pair.fixed, "moving_image": pair.moving}
    node = interfaces.QuicksilverRegistration(**files, uncertainty_components=False)
    assert "--uncertainty-components" not in node.cmdline


def used_by(option, method):
    return not option.method or getattr(METHODS[method], option.method)


def inputs_of_nodes(workflow):
    """All inputs of all nodes, which an option must change if it is to have an effect."""
    nodes = (workflow.get_node(name) for name in workflow.list_node_names())
    return {
        (node.name, name): value
        for node in nodes
        for name, value in node.inputs.get().items()
        if isdefined(value)
    }


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS.values() if "workflow" not in option.without],
    ids=lambda option: option.name,
)
def test_every_option_changes_the_workflow(option, tiny_networks):
    """An option that no node gets would be accepted and ignored."""
    method = next(name for name in METHODS if used_by(option, name))
    start = {"method": method, **({option.needs: 2} if option.needs else {})}
    value = next(value for _, value in values_of(option) if value != option.default)
    if option.kind is Kind.FILE:
        value = tiny_networks[option.name]
    if option.name == "template":
        value = "MNI152"
    before = inputs_of_nodes(init_quicksilver_wf(omp_nthreads=1, **start))
    after = inputs_of_nodes(init_quicksilver_wf(omp_nthreads=1, **{**start, option.name: value}))
    assert after != before


def test_options_reach_the_nodes_of_the_workflow(tiny_networks):
    wf = init_quicksilver_wf(
        omp_nthreads=1,
        method="refine",
        seed=5,
        similarity="mind",
        iterations=(4,),
        samples=3,
        uncertainty_components=True,
        corrections=2,
        interpolation="BSpline",
        prediction_network=tiny_networks["probabilistic"],
    )
    predict, optimize = wf.get_node("predict").inputs, wf.get_node("optimize").inputs
    assert (predict.random_seed, predict.n_samples, predict.corrections) == (5, 3, 2)
    assert predict.prediction_network == str(tiny_networks["probabilistic"])
    assert (optimize.random_seed, optimize.similarity, optimize.iterations) == (5, "mind", [4])
    assert optimize.schedule == "refine"
    for name in ("warp_moving", "warp_fixed"):
        assert wf.get_node(name).inputs.interpolation == "BSpline"
    fields = wf.get_node("outputnode").outputs.copyable_trait_names()
    assert {"uncertainty", "uncertainty_components"} <= set(fields)
    assert wf.get_node("warp_uncertainty") and wf.get_node("warp_uncertainty_components")


def test_all_options_have_their_defaults():
    assert completed({}) == {name: option.default for name, option in OPTIONS.items()}
    nothing = dict.fromkeys(OPTIONS)
    # None is the default, but means that nothing is done where that is a choice.
    done_without = {name: "none" for name in ("brain_extraction", "affine", "template")}
    assert completed(nothing) == {**completed({}), **done_without}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", [o for o in OPTIONS.values() if o.method], ids=lambda o: o.name)
def test_options_without_use_are_refused(method, option):
    options = {"method": method, option.name: values_of(option)[0][1]}
    if getattr(METHODS[method], option.method):
        assert completed(options)[option.name] == options[option.name]
        return
    with pytest.raises(InputError) as error:
        completed(options)
    message = str(error.value)
    assert message.startswith(f"method '{method}' does not use {option.title}; leave it out")
    assert message.endswith(methods_that(option.method))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, f"method 'guess' is unknown; give {', '.join(METHODS)}"),
        ({"similarity": "mi", "method": "optimize"}, "similarity 'mi' is unknown"),
        ({"interpolation": "GenericLabel"}, "interpolation 'GenericLabel' is unknown"),
        ({"brain_extraction": "guess"}, "brain extraction 'guess' is unknown"),
        ({"corrections": 0}, "corrections 0: give at least 1"),
        ({"samples": 1}, "samples 1: give at least 2"),
        ({"seed": -1}, "seed -1: give at least 0"),
        ({"iterations": (3, -1), "method": "optimize"}, "iterations -1: give at least 0"),
        ({"uncertainty_components": True}, "uncertainty components: needs samples"),
    ],
)
def test_values_that_are_not_allowed_are_refused(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        completed(options)


class More(RegistrationOptions, total=False):
    """The options of a later version."""

    smoothing: Annotated[
        str, Option("how images are smoothed", default="none", choices=("none", "gauss"))
    ]
    passes: Annotated[int | None, Option("how often it is done", kind=Kind.COUNT, node="n_passes")]


def test_a_new_option_is_an_argument_and_a_trait():
    options = declared(More)
    assert set(options) == {*OPTIONS, "smoothing", "passes"}
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("smoothing", "passes"):
        common.add_option(parser, options[name])
    assert vars(parser.parse_args([])) == {"smoothing": "none", "passes": None}
    args = parser.parse_args(["--smoothing", "gauss", "--passes", "3"])
    assert vars(args) == {"smoothing": "gauss", "passes": 3}
    with pytest.raises(argparse.ArgumentError, match="invalid choice"):
        parser.parse_args(["--smoothing", "much"])

    class Node(QuicksilverCommand):
        _cmd = "smooth"
        input_spec = spec_of("Spec", (CommandInputSpec,), options.values())

    node = Node()
    assert node.inputs.smoothing == "none" and not isdefined(node.inputs.n_passes)
    node.inputs.smoothing, node.inputs.n_passes = "gauss", 3
    assert "--passes 3" in node.cmdline and "--smoothing gauss" in node.cmdline
    with pytest.raises(TraitError):
        node.inputs.smoothing = "much"


def test_a_declaration_is_not_changed_by_its_use():
    option = OPTIONS["method"]
    assert replace(option) == option and option.flag == "--method" and option.title == "method"
    assert OPTIONS["brain_extraction"].flag == "--brain-extraction"
    assert OPTIONS["brain_extraction"].title == "brain extraction"


def test_names_of_tools_and_methods():
    assert method_that(predicts=True) == "predict"
    assert method_that(predicts=True, corrects=True, optimizes=True) == "refine"
    assert set(BRAIN_EXTRACTION_TOOLS) < set(OPTIONS["brain_extraction"].choices)
    assert set(AFFINE_TOOLS) < set(OPTIONS["affine"].choices)
    assert all(tool.dof and set(tool.dof) <= set(DOF) for tool in AFFINE_TOOLS.values())
