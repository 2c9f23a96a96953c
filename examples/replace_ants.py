"""Replace ANTs by Quicksilver in smriprep's registration to templates.

    python replace_ants.py T1w_brain.nii.gz --output-dir normalized
    python replace_ants.py --output-dir normalized

smriprep marks its workflow for this step as ``anat.register-template``, and niworkflows' splicer
replaces it by another workflow. The host workflow here is small: it registers a brain, resamples it
in the space of each template, and saves the transforms. Its registration is that of smriprep if
smriprep is installed, and one with the same fields otherwise; both are replaced before anything
runs. In a host workflow of smriprep, only the last line of `build` is needed.

It needs niworkflows (``pip install niworkflows``). Without an image, the MNI152 template is
deformed to make one.
"""

import argparse
from pathlib import Path

from nipype import DataSink, Node, Workflow
from nipype.interfaces import ants
from nipype.interfaces.utility import IdentityInterface
from niworkflows.engine.splicer import splice_workflow
from niworkflows.interfaces.norm import SpatialNormalization

from nipype_quicksilver.interfaces import ApplyTransforms
from nipype_quicksilver.interfaces.preprocessing import SelectTemplate
from nipype_quicksilver.workflows import init_template_registration_wf

TAG = "anat.register-template"
OUTPUTS = ["anat2std_xfm", "std2anat_xfm", "template", "template_spec"]


def init_ants_wf(templates: list[str], omp_nthreads: int) -> Workflow:
    """Return the registration by ANTs: smriprep's, or one with the same fields."""
    try:
        from smriprep.workflows.fit.registration import init_register_template_wf
    except ImportError:
        return _like_smriprep(templates, omp_nthreads)
    # The workflow of smriprep accepts names of TemplateFlow only; it is replaced anyway.
    names = ["MNI152NLin2009cAsym"]
    return init_register_template_wf(sloppy=False, omp_nthreads=omp_nthreads, templates=names)


def _like_smriprep(templates: list[str], omp_nthreads: int) -> Workflow:
    workflow = Workflow(name="register_template_wf")
    workflow._tag = TAG
    inputs = ["lesion_mask", "moving_image", "moving_mask", "template"]
    inputnode = Node(IdentityInterface(inputs), name="inputnode")
    inputnode.iterables = [("template", templates)]
    truncate = Node(
        ants.ImageMath(operation="TruncateImageIntensity", op2="0.01 0.999 256"), name="trunc_mov"
    )
    registration = Node(
        SpatialNormalization(float=True, flavor="precise"),
        name="registration",
        n_procs=omp_nthreads,
    )
    poutputnode = Node(IdentityInterface(OUTPUTS), name="poutputnode")
    outputnode = Node(IdentityInterface(OUTPUTS), name="outputnode")
    workflow.connect([
        (inputnode, truncate, [("moving_image", "op1")]),
        (inputnode, registration, [
            ("moving_mask", "moving_mask"),
            ("lesion_mask", "lesion_mask"),
            ("template", "template"),
        ]),
        (truncate, registration, [("output_image", "moving_image")]),
        (inputnode, poutputnode, [("template", "template")]),
        (registration, poutputnode, [
            ("composite_transform", "anat2std_xfm"),
            ("inverse_composite_transform", "std2anat_xfm"),
        ]),
        (poutputnode, outputnode, [(name, name) for name in OUTPUTS]),
    ])  # fmt: skip
    return workflow


def build(args: argparse.Namespace, image: Path) -> Workflow:
    """Return the host with Quicksilver in it."""
    host = Workflow(name="host_wf", base_dir=str(args.work_dir.absolute()))
    t1w_buffer = Node(IdentityInterface(["t1w_preproc"]), name="t1w_buffer")
    t1w_buffer.inputs.t1w_preproc = str(image.absolute())
    register_template_wf = init_ants_wf(args.templates, args.omp_nthreads)
    select_template = Node(SelectTemplate(), name="select_template")
    resample = Node(ApplyTransforms(interpolation="BSpline"), name="resample")
    folder = str(args.output_dir.absolute())
    sink = Node(DataSink(base_directory=folder, parameterization=False), name="sink")
    host.connect([
        (t1w_buffer, register_template_wf, [("t1w_preproc", "inputnode.moving_image")]),
        # Once for each template, from the parametric output node.
        (register_template_wf, select_template, [("poutputnode.template", "template")]),
        (t1w_buffer, resample, [("t1w_preproc", "input_image")]),
        (select_template, resample, [("template_file", "reference_image")]),
        (register_template_wf, resample, [("poutputnode.anat2std_xfm", "transforms")]),
        (register_template_wf, sink, [
            ("poutputnode.template", "container"),
            ("poutputnode.anat2std_xfm", "@anat2std"),
            ("poutputnode.std2anat_xfm", "@std2anat"),
        ]),
        (resample, sink, [("output_image", "@image")]),
    ])  # fmt: skip
    quicksilver_wf = init_template_registration_wf(
        omp_nthreads=args.omp_nthreads, templates=args.templates
    )
    quicksilver_wf.get_node("register").inputs.method = args.method
    return splice_workflow(host, {TAG: quicksilver_wf})


def make_brain(folder: Path) -> Path:
    """Write a deformed template into a folder; return its file."""
    import nibabel as nib
    import torch

    from nipype_quicksilver.demo.phantom import load_template, make_pair

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "phantom_T1w.nii.gz"
    nib.save(make_pair(load_template(2), 0, torch.device("cpu")).fixed, path)
    return path


def main(argv: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, nargs="?", help="T1-weighted head or brain")
    parser.add_argument("--output-dir", type=Path, required=True, help="a folder for each template")
    parser.add_argument(
        "--templates", nargs="+", default=["MNI152"], help="MNI152, or names of TemplateFlow"
    )
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work"), help="working folder of Nipype"
    )
    parser.add_argument("--method", default="correct", help="method of the registration")
    parser.add_argument("--omp-nthreads", type=int, default=1, help="threads of each node")
    args = parser.parse_args(argv)

    workflow = build(args, args.image or make_brain(args.output_dir / "phantom"))
    workflow.run()
    for path in sorted(args.output_dir.glob("*/*")):
        print(path)


if __name__ == "__main__":
    main()
