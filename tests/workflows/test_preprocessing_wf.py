"""Workflows around the registration: built with every tool, spliced, and run on a small pair."""

import csv
import inspect
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import from_matvec
from nipype import Node, Workflow
from nipype.interfaces.utility import IdentityInterface

from nipype_quicksilver import workflows
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.interfaces import ConvertAffine, UnifyForms
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.steps import AFFINE_ESTIMATION, BRAIN_EXTRACTION
from nipype_quicksilver.tools import AFFINE_TOOLS, ANTS_BRAIN_EXTRACTION, BRAIN_EXTRACTION_TOOLS

BUILDERS = {
    "init_affine_wf": {},
    "init_brain_extraction_wf": {},
    "init_label_propagation_wf": {},
    "init_preprocessing_wf": {},
    "init_template_registration_wf": {"templates": ["MNI152"]},
}
ITERATIONS = [3, 1, 0, 0]


def fields(workflow, node):
    return workflow.get_node(node).outputs.copyable_trait_names()


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder(name):
    build = getattr(workflows, name)
    parameters = inspect.signature(build).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    workflow = build(omp_nthreads=3, **BUILDERS[name])
    assert build(omp_nthreads=1, name="mine", **BUILDERS[name]).name == "mine"
    documented = inspect.getdoc(build)
    for node in ("inputnode", "outputnode"):
        for field in fields(workflow, node):
            assert field in documented, field
    for full in workflow.list_node_names():
        node = workflow.get_node(full)
        assert node.n_procs in (1, 2, 3) and 0 < node.mem_gb < 10


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """The programs of all external tools, which do nothing, on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    everything = (*BRAIN_EXTRACTION_TOOLS.values(), *AFFINE_TOOLS.values(), ANTS_BRAIN_EXTRACTION)
    for tool in everything:
        (folder / tool.program).write_text("#!/bin/sh\n")
        (folder / tool.program).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FSLOUTPUTTYPE", "NIFTI_GZ")


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{name}.nii.gz" for name in ("fixed", "moving", "mask")]
    for path in paths:
        path.touch()
    return [str(path) for path in paths]


@pytest.mark.parametrize("tool", [*BRAIN_EXTRACTION.choices, "ants"])
def test_brain_extraction_by_any_tool(tool, programs, images):
    template = {"brain_template": images[0], "brain_probability_mask": images[2]}
    workflow = workflows.init_brain_extraction_wf(
        omp_nthreads=2, brain_extraction=tool, **(template if tool == "ants" else {})
    )
    node = workflow.get_node("extract")
    name = "anatomical_image" if tool == "ants" else "in_file"
    setattr(node.inputs, name, images[1])
    command = node.interface.cmdline
    start = f"extract-brain --brain-extraction {tool} --input /"
    # ANTs' script gets a link to the image.
    ants = "antsBrainExtraction.sh -a anatomical_image.nii.gz "
    assert (start if tool != "ants" else ants) in command
    assert tool == "ants" or Path(images[1]).name in command
    assert {"out_file", "out_mask"} == set(fields(workflow, "outputnode"))
    assert tool in workflow.__desc__
    sources = {
        target
        for _, node, data in workflow._graph.edges(data=True)
        if node.name == "outputnode"
        for _, target in data["connect"]
    }
    assert sources == {"out_file", "out_mask"}


def test_ants_extracts_brains_in_the_world_that_counts_here(programs, images, tmp_path):
    workflow = workflows.init_brain_extraction_wf(
        omp_nthreads=1,
        brain_extraction="ants",
        brain_template=images[0],
        brain_probability_mask=images[2],
    )
    unify, extract = (workflow.get_node(name) for name in ("unify_forms", "extract"))
    edges = {(start.name, end.name): data["connect"] for start, end, data in _edges(workflow)}
    assert edges["inputnode", "unify_forms"] == [("in_file", "in_file")]
    assert edges["unify_forms", "extract"] == [("out_file", "anatomical_image")]
    assert "inputnode" not in {start for start, end in edges if end == extract.name}
    head = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    head.set_sform(np.diag([1, 1, 1, 1]), 2)
    head.set_qform(from_matvec(np.eye(3), [12, 0, 0]), 1)
    nib.save(head, tmp_path / "head.nii")
    unify.base_dir, unify.inputs.in_file = tmp_path, tmp_path / "head.nii"
    with pytest.warns(UserWarning, match="place the image 12 mm from where it is by the sform"):
        copy = unify.run().outputs.out_file
    assert sitk.ReadImage(copy).GetOrigin() == (0, 0, 0)
    # A file that has one world is not copied.
    again = UnifyForms(in_file=copy).run(cwd=tmp_path).outputs.out_file
    assert Path(again).samefile(copy)


def _edges(workflow):
    return workflow._graph.edges(data=True)


@pytest.mark.parametrize("tool", AFFINE_ESTIMATION.choices)
def test_affine_by_any_tool(tool, programs, images):
    workflow = workflows.init_affine_wf(omp_nthreads=2, affine=tool)
    node = workflow.get_node("align")
    node.inputs.fixed_image, node.inputs.moving_image = images[:2]
    command = node.interface.cmdline
    assert f"affine --affine {tool} --dof 12 --fixed {images[0]} --moving {images[1]}" in command
    (edge,) = (
        data["connect"] for start, end, data in workflow._graph.edges(data=True) if end is node
    )
    given = {source for source, _ in edge}
    assert {"fixed_image_mask", "moving_image_mask"} <= given


def test_tools_of_the_preprocessing(programs):
    workflow = workflows.init_preprocessing_wf(
        omp_nthreads=2, brain_extraction="synthstrip", affine="flirt", dof=9
    )
    extract = workflow.get_node("brain_extraction_wf.extract")
    align = workflow.get_node("affine_wf.align")
    assert extract.inputs.brain_extraction == "synthstrip"
    assert (align.inputs.affine, align.inputs.dof) == ("flirt", 9)


def test_earlier_names_work_with_a_warning(programs):
    with pytest.warns(DeprecationWarning, match="'engine' is called 'brain_extraction'") as warned:
        workflow = workflows.init_brain_extraction_wf(omp_nthreads=1, engine="bet")
    assert workflow.get_node("extract").inputs.brain_extraction == "bet"
    with pytest.warns(DeprecationWarning, match="'engine' is called 'affine'") as other:
        workflow = workflows.init_affine_wf(omp_nthreads=1, engine="greedy")
    assert workflow.get_node("align").inputs.affine == "greedy"
    # The warning points to the line that uses the earlier name.
    assert {each.filename for each in (*warned, *other)} == {__file__}


def test_tools_that_are_missing_are_refused(monkeypatch, tmp_path, programs):
    with pytest.raises(InputError, match="'greedy' does not estimate 9 degrees of freedom"):
        workflows.init_affine_wf(omp_nthreads=1, affine="greedy", dof=9)
    with pytest.raises(InputError, match="needs a template with skull"):
        workflows.init_brain_extraction_wf(omp_nthreads=1, brain_extraction="ants")
    with pytest.raises(InputError, match="brain extraction 'guess' is unknown; give deepbet, bet"):
        workflows.init_brain_extraction_wf(omp_nthreads=1, brain_extraction="guess")
    with pytest.raises(InputError, match="affine 'guess' is unknown; give simpleitk, greedy"):
        workflows.init_affine_wf(omp_nthreads=1, affine="guess")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="bet is not on the PATH; install FSL, or choose deepbet"):
        workflows.init_preprocessing_wf(omp_nthreads=1, brain_extraction="bet")
    with pytest.raises(InputError, match="flirt is not on the PATH; install FSL"):
        workflows.init_affine_wf(omp_nthreads=1, affine="flirt")
    with pytest.raises(InputError, match=r"antsBrainExtraction\.sh is not on the PATH"):
        workflows.init_brain_extraction_wf(
            omp_nthreads=1,
            brain_extraction="ants",
            brain_template="t.nii",
            brain_probability_mask="p.nii",
        )
    with pytest.raises(InputError, match="'x' is unknown; give weighted, staple"):
        workflows.init_label_propagation_wf(omp_nthreads=1, fusion="x")


def scaled_mm(path):
    """Return world to FSL's coordinates: mm from the corner, x flipped if right-handed."""
    image = nib.load(path)
    scale = np.diag([*nib.affines.voxel_sizes(image.affine), 1])
    if np.linalg.det(image.affine) > 0:
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = image.shape[0] - 1
        scale = scale @ flip
    return scale @ np.linalg.inv(image.affine)


def test_affines_of_fsl_are_converted(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # World matrix from fixed to moving points, and FLIRT's from moving to fixed coordinates.
    truth = np.array([[1.1, 0.1, 0, 4], [-0.1, 0.9, 0, -3], [0, 0.05, 1, 2], [0, 0, 0, 1.0]])
    flirt = scaled_mm(pair.fixed) @ np.linalg.inv(truth) @ np.linalg.inv(scaled_mm(pair.moving))
    np.savetxt("flirt.mat", flirt, fmt="%.12g")
    node = ConvertAffine(in_file="flirt.mat", in_format="fsl")
    node.inputs.fixed_image, node.inputs.moving_image = pair.fixed, pair.moving
    outputs = node.run().outputs
    np.testing.assert_allclose(transforms.read_affine(outputs.affine_transform), truth, atol=1e-4)
    inverse = transforms.read_affine(outputs.inverse_affine_transform)
    np.testing.assert_allclose(inverse @ truth, np.eye(4), atol=1e-4)
    itk = ConvertAffine(in_file=str(pair.affine), in_format="itk").run().outputs
    assert transforms.read_affine(itk.affine_transform)[0, 3] == pytest.approx(3)
    Path("bad.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"bad\.txt: is no"):
        ConvertAffine(in_file="bad.txt").run()


def aligned(workflow):
    """Let a workflow register the small pair, which is aligned and far smaller than a head."""
    register = workflow.get_node("register")
    register.inputs.affine = "none"
    register.inputs.method = "optimize"
    register.inputs.iterations = ITERATIONS
    return workflow


def test_labels_are_propagated_and_fused(pair, tmp_path):
    table = tmp_path / "lut.txt"
    table.write_text("1 rind 0 0 0 0\n2 core 0 0 0 0\n")
    workflow = aligned(workflows.init_label_propagation_wf(omp_nthreads=1, fusion="majority"))
    workflow.base_dir = tmp_path
    inputs = workflow.inputs.inputnode
    inputs.target_image = str(pair.fixed)
    inputs.atlas_images = [str(pair.moving), str(pair.fixed)]
    inputs.atlas_labels = [str(pair.moving_labels), str(pair.fixed_labels)]
    inputs.label_table = str(table)
    nodes = {node.name: node for node in workflow.run().nodes}
    fused = nib.load(nodes["fuse"].result.outputs.out_file)
    truth = nib.load(pair.fixed_labels)
    assert fused.get_data_dtype() == truth.get_data_dtype()
    np.testing.assert_allclose(fused.affine, truth.affine)
    same = np.asanyarray(fused.dataobj) == np.asanyarray(truth.dataobj)
    assert same.mean() > 0.8
    with open(nodes["volumes"].result.outputs.out_file, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["name"] for row in rows] == ["rind", "core"]
    assert len(nodes["register"].result.outputs.composite_transform) == 2


def test_templates_one_by_one_and_joined(pair, tmp_path):
    workflow = workflows.init_template_registration_wf(
        omp_nthreads=1, templates=[str(pair.fixed)], sloppy=True, image_type="T2w"
    )
    workflow.get_node("register").inputs.affine = "none"  # the small pair is aligned
    workflow.base_dir = tmp_path
    workflow.inputs.inputnode.moving_image = str(pair.moving)
    nodes = {node.name: node for node in workflow.run().nodes}
    outputs = nodes["outputnode"].result.outputs
    assert outputs.template == ["fixed"] and outputs.template_spec == [{}]
    chain = transforms.read_transform(outputs.anat2std_xfm[0])
    inverse = transforms.read_transform(outputs.std2anat_xfm[0])
    points = np.array([[1.0, 2.0, 3.0]])
    mapped = transforms.map_points(chain, points)
    np.testing.assert_allclose(transforms.map_points(inverse, mapped), points, atol=0.3)


def test_spliced_into_a_host():
    splicer = pytest.importorskip("niworkflows.engine.splicer")
    host = Workflow(name="host")
    before = Node(IdentityInterface(fields=["t1w", "mask", "roi"]), name="before")
    outputs = ["anat2std_xfm", "std2anat_xfm", "template", "template_spec"]
    # As smriprep's has them, with nothing in between.
    old = Workflow(name="register_template_wf")
    inputnode = Node(
        IdentityInterface(fields=["lesion_mask", "moving_image", "moving_mask", "template"]),
        name="inputnode",
    )
    pout, out = (
        Node(IdentityInterface(fields=outputs), name=n) for n in ("poutputnode", "outputnode")
    )
    old.connect([
        (inputnode, pout, [("template", "template")]),
        (pout, out, [(field, field) for field in outputs]),
    ])  # fmt: skip
    old._tag = "anat.register-template"
    after = Node(IdentityInterface(fields=outputs), name="after")
    every = Node(IdentityInterface(fields=["xfms"]), name="every")
    host.connect([
        (before, old, [
            ("t1w", "inputnode.moving_image"),
            ("mask", "inputnode.moving_mask"),
            ("roi", "inputnode.lesion_mask"),
        ]),
        (old, after, [(f"poutputnode.{field}", field) for field in outputs]),
        (old, every, [("outputnode.anat2std_xfm", "xfms")]),
    ])  # fmt: skip
    new = workflows.init_template_registration_wf(omp_nthreads=1, templates=["MNI152", "MNI152"])
    splicer.splice_workflow(host, {"anat.register-template": new})
    assert host.get_node("register_template_wf") is new
    assert host.get_node("register_template_wf.register") is not None
    flat = host._create_flat_graph()
    sources = {
        (data["connect"][0][0] if isinstance(data["connect"][0][0], str) else "", target.name)
        for _, target, data in flat.edges(data=True)
        if target.name in ("after", "every")
    }
    assert {name for _, name in sources} == {"after", "every"}
    incoming = {
        target
        for _, node, data in flat.edges(data=True)
        for _, target in data["connect"]
        if node.name == "register"
    }
    assert {"moving_image", "moving_image_mask", "moving_lesion_mask", "fixed_image"} <= incoming
