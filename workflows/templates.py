"""Registration to template spaces, to replace smriprep's workflow of that name."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import JoinNode, Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.interfaces import QuicksilverRegistration
from nipype_quicksilver.interfaces.preprocessing import SelectTemplate
from nipype_quicksilver.methods import method_that
from nipype_quicksilver.preprocessing.templates import of_templateflow, parse_name
from nipype_quicksilver.workflows.description import described_workflow

#: Name of this step in smriprep, for niworkflows' `splice_workflow`.
TAG = "anat.register-template"


def init_template_registration_wf(
    *,
    omp_nthreads: int,
    templates: list[str],
    sloppy: bool = False,
    image_type: str = "T1w",
    use_gpu: bool = False,
    name: str = "register_template_wf",
) -> Workflow:
    """Build a workflow that registers an image to one template or several.

    It has the inputs and outputs of smriprep's workflow for this step, and replaces it by
    niworkflows' splicer: ``splice_workflow(host, {"anat.register-template": this})``.

    Workflow Graph
        ::

            inputnode (one run per template) -> select_template -> register -> poutputnode
            poutputnode -> outputnode (a list of all runs)

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    templates : list of str
        ``MNI152``, files, or names in TemplateFlow with specifications after colons.
    sloppy : bool
        Use templates of resolution 2 and predictions without correction, for tests of a pipeline.
    image_type : {'T1w', 'T2w'}
        Contrast of the moving image; brains of other contrasts than T1w need masks. Where there is
        no T2w template, the T1w template is used.
    use_gpu : bool
        Register on a GPU.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `inputnode`, `poutputnode` (one value per template, for nodes that run per template)
        and `outputnode` (lists).

    Inputs
    ------
    moving_image
        Image to register.
    moving_mask
        Its brain mask; default: the brain is extracted.
    lesion_mask
        Mask of regions without counterpart in a template; optional.
    template
        Template name; iterates over `templates`.

    Outputs
    -------
    anat2std_xfm
        Composite transform that warps the image to the template (maps template to image points).
    std2anat_xfm
        Its inverse.
    template
        Name of the template, with cohort.
    template_spec
        Specifications in the name.

    Examples
    --------
    >>> wf = init_template_registration_wf(omp_nthreads=1, templates=["MNI152"])
    >>> wf.get_node("inputnode").iterables
    [('template', ['MNI152'])]
    """
    workflow = described_workflow(name, _describe(templates))
    workflow._tag = TAG
    fields = ["lesion_mask", "moving_image", "moving_mask", "template"]
    inputnode = Node(IdentityInterface(fields=fields, mandatory_inputs=False), name="inputnode")
    inputnode.iterables = [("template", templates)]
    outputs = ["anat2std_xfm", "std2anat_xfm", "template", "template_spec"]
    poutputnode = Node(IdentityInterface(fields=outputs), name="poutputnode")
    outputnode = JoinNode(
        IdentityInterface(fields=outputs), name="outputnode", joinsource="inputnode"
    )
    select_template = Node(
        SelectTemplate(image_type=image_type, resolution=1 + sloppy),
        mem_gb=0.5,
        name="select_template",
    )
    register = Node(
        QuicksilverRegistration(use_gpu=use_gpu),
        n_procs=1 if use_gpu else omp_nthreads,
        mem_gb=4.0,
        name="register",
    )
    if sloppy:
        register.inputs.method = method_that(predicts=True)
    workflow.connect([
        (inputnode, select_template, [("template", "template")]),
        (inputnode, register, [
            ("moving_image", "moving_image"),
            ("moving_mask", "moving_image_mask"),
            ("lesion_mask", "moving_lesion_mask"),
        ]),
        (select_template, register, [
            ("template_file", "fixed_image"),
            ("template_mask", "fixed_image_mask"),
        ]),
        (select_template, poutputnode, [
            ("template", "template"),
            ("template_spec", "template_spec"),
        ]),
        (register, poutputnode, [
            ("composite_transform", "anat2std_xfm"),
            ("inverse_composite_transform", "std2anat_xfm"),
        ]),
        (poutputnode, outputnode, [(field, field) for field in outputs]),
    ])  # fmt: skip
    return workflow


def _describe(templates: list[str]) -> str:
    """Return the paragraph on methods, with citations of TemplateFlow that hosts know."""
    if not templates:
        return ""
    cited = ", ".join(_cited(name) if of_templateflow(name) else name for name in templates)
    return (
        f"Volume-based spatial normalization to {cited} was performed by geodesic shooting in the "
        "framework of large deformation diffeomorphic metric mapping [@quicksilver], with "
        f"*nipype-quicksilver* {__version__}.\n"
    )


def _cited(name: str) -> str:
    """Return a template of TemplateFlow with the keys by which smriprep cites it."""
    identifier, _ = parse_name(name)
    return f"{name} of *TemplateFlow* [@templateflow; @{identifier.lower()}]"
