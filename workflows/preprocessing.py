"""From heads to aligned brains: brain extraction and affine registration."""

from __future__ import annotations

from typing import Any

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.interfaces import AffineRegistration, BrainExtraction, UnifyForms
from nipype_quicksilver.options import DOF, NONE
from nipype_quicksilver.steps import AFFINE_ESTIMATION, BRAIN_EXTRACTION
from nipype_quicksilver.tools import (
    ANTS_BRAIN_EXTRACTION,
    BRAIN_EXTRACTION_TOOLS,
    check_dof,
    check_installed,
    check_tools,
)
from nipype_quicksilver.workflows.deprecation import renamed
from nipype_quicksilver.workflows.description import described_workflow


def init_brain_extraction_wf(
    *,
    omp_nthreads: int,
    brain_extraction: str = BRAIN_EXTRACTION.default,
    use_gpu: bool = False,
    brain_template: str | None = None,
    brain_probability_mask: str | None = None,
    name: str = "brain_extraction_wf",
    engine: str | None = None,
) -> Workflow:
    """Build a workflow that extracts the brain from an image of a head.

    Workflow Graph
        ::

            inputnode -> extract -> outputnode

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    brain_extraction : {'deepbet', 'bet', 'synthstrip', 'afni', 'ants'}
        Tool that extracts the brain: deepbet is installed with this package; the others are FSL
        BET, FreeSurfer's SynthStrip, AFNI 3dSkullStrip and ANTs brain extraction.
    use_gpu : bool
        Run deepbet on a GPU.
    brain_template, brain_probability_mask : str, optional
        For ANTs: a template with skull, and the probability of brain in it.
    name : str
        Name of the workflow.
    engine : str, optional
        Earlier name of `brain_extraction`; deprecated since version 0.2.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Raises
    ------
    InputError
        If the tool is unknown or not installed.

    Inputs
    ------
    in_file
        T1-weighted image of a head.
    in_mask
        Existing mask, to use unchanged; optional, not for ANTs.

    Outputs
    -------
    out_file
        The image, zero outside the brain.
    out_mask
        Brain mask on the image's grid.

    Examples
    --------
    >>> wf = init_brain_extraction_wf(omp_nthreads=1)
    >>> wf.inputs.inputnode.in_file = "sub-01_T1w.nii.gz"
    """
    chosen = renamed("engine", engine, "brain_extraction", brain_extraction)
    workflow = described_workflow(
        name,
        f"Brains were extracted with *{chosen}* (*nipype-quicksilver* {__version__}).\n",
    )
    inputnode = Node(
        IdentityInterface(fields=["in_file", "in_mask"], mandatory_inputs=False), name="inputnode"
    )
    outputnode = Node(IdentityInterface(fields=["out_file", "out_mask"]), name="outputnode")
    if chosen == "ants":
        extract = _ants_extraction(omp_nthreads, brain_template, brain_probability_mask)
        # ANTs may take the form of the header that does not count here.
        unify = Node(UnifyForms(), mem_gb=0.5, name="unify_forms")
        workflow.connect([
            (inputnode, unify, [("in_file", "in_file")]),
            (unify, extract, [("out_file", "anatomical_image")]),
            (extract, outputnode, [
                ("BrainExtractionBrain", "out_file"),
                ("BrainExtractionMask", "out_mask"),
            ]),
        ])  # fmt: skip
        return workflow
    BRAIN_EXTRACTION.check(chosen)
    check_tools(chosen, NONE)
    tool = BRAIN_EXTRACTION_TOOLS.get(chosen)
    extract = Node(
        BrainExtraction(brain_extraction=chosen, use_gpu=use_gpu),
        n_procs=1 if use_gpu else omp_nthreads,
        mem_gb=2.0 if tool is None else tool.mem_gb,
        name="extract",
    )
    workflow.connect([
        (inputnode, extract, [("in_file", "in_file"), ("in_mask", "mask")]),
        (extract, outputnode, [("out_file", "out_file"), ("out_mask", "out_mask")]),
    ])  # fmt: skip
    return workflow


def _ants_extraction(omp_nthreads: int, template: str | None, probability: str | None) -> Any:
    """Return the node of the brain extraction that needs a template with skull."""
    from nipype_quicksilver.interfaces.ants import AntsBrainExtraction

    if template is None or probability is None:
        raise InputError(
            "'ants' needs a template with skull: give brain_template and brain_probability_mask"
        )
    check_installed("ants", {"ants": ANTS_BRAIN_EXTRACTION}, BRAIN_EXTRACTION.default)
    return Node(
        AntsBrainExtraction(
            dimension=3, brain_template=template, brain_probability_mask=probability
        ),
        n_procs=omp_nthreads,
        mem_gb=4.0,
        name="extract",
    )


def init_affine_wf(
    *,
    omp_nthreads: int,
    affine: str = AFFINE_ESTIMATION.default,
    dof: int = next(iter(DOF)),
    name: str = "affine_wf",
    engine: str | None = None,
) -> Workflow:
    """Build a workflow that aligns a moving brain to a fixed brain.

    Workflow Graph
        ::

            inputnode -> align -> outputnode

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    affine : {'simpleitk', 'greedy', 'ants', 'reg_aladin', 'flirt'}
        Tool that estimates the affine: simpleitk is installed with this package; the others are
        greedy, ANTs, NiftyReg and FSL FLIRT. Their affines are converted to ITK's format.
    dof : {12, 6, 7, 9}
        Degrees of freedom; not all tools support all of them.
    name : str
        Name of the workflow.
    engine : str, optional
        Earlier name of `affine`; deprecated since version 0.2.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Raises
    ------
    InputError
        If the tool is unknown or not installed, or does not support the degrees of freedom.

    Inputs
    ------
    fixed_image, moving_image
        Brains without skull, or with masks.
    fixed_image_mask, moving_image_mask
        Brain masks; optional.

    Outputs
    -------
    affine_transform
        ITK affine that maps fixed to moving points.
    inverse_affine_transform
        Its inverse.

    Examples
    --------
    >>> wf = init_affine_wf(omp_nthreads=2, dof=9)
    >>> wf.get_node("align").inputs.dof
    9
    """
    chosen = renamed("engine", engine, "affine", affine)
    AFFINE_ESTIMATION.check(chosen)
    check_tools(NONE, chosen)
    check_dof(chosen, dof)
    workflow = described_workflow(
        name,
        f"Brains were aligned by an affine of {dof} degrees of freedom with *{chosen}* "
        f"(*nipype-quicksilver* {__version__}).\n",
    )
    inputs = ["fixed_image", "moving_image", "fixed_image_mask", "moving_image_mask"]
    outputs = ["affine_transform", "inverse_affine_transform"]
    inputnode = Node(IdentityInterface(fields=inputs, mandatory_inputs=False), name="inputnode")
    outputnode = Node(IdentityInterface(fields=outputs), name="outputnode")
    # The registration by SimpleITK uses two threads.
    n_procs = min(omp_nthreads, 2) if chosen == AFFINE_ESTIMATION.default else omp_nthreads
    align = Node(
        AffineRegistration(affine=chosen, dof=dof), n_procs=n_procs, mem_gb=2.0, name="align"
    )
    workflow.connect([
        (inputnode, align, [(field, field) for field in inputs]),
        (align, outputnode, [(field, field) for field in outputs]),
    ])  # fmt: skip
    return workflow


def init_preprocessing_wf(
    *,
    omp_nthreads: int,
    brain_extraction: str = BRAIN_EXTRACTION.default,
    affine: str = AFFINE_ESTIMATION.default,
    dof: int = next(iter(DOF)),
    use_gpu: bool = False,
    name: str = "preprocessing_wf",
) -> Workflow:
    """Build a workflow that extracts the brain from a head and aligns it to another brain.

    Workflow Graph
        ::

            inputnode -> brain_extraction_wf -> affine_wf -> outputnode

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    brain_extraction : str
        As for :func:`init_brain_extraction_wf`.
    affine : str
        As for :func:`init_affine_wf`.
    dof : {12, 6, 7, 9}
        Degrees of freedom of the affine.
    use_gpu : bool
        Run deepbet on a GPU.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Inputs
    ------
    in_file
        T1-weighted image of a head.
    in_mask
        Its brain mask; optional.
    fixed_image
        Brain to align to, such as a template without skull.
    fixed_image_mask
        Its mask; optional.

    Outputs
    -------
    out_file, out_mask
        Brain and mask on the image's grid.
    affine_transform
        ITK affine that maps fixed points to points of the image: `initial_moving_transform` of a
        registration to the fixed image.
    inverse_affine_transform
        Its inverse.

    Examples
    --------
    >>> wf = init_preprocessing_wf(omp_nthreads=1)
    >>> wf.inputs.inputnode.in_file = "sub-01_T1w.nii.gz"
    """
    workflow = described_workflow(name, "")  # its parts have theirs
    fields = ["in_file", "in_mask", "fixed_image", "fixed_image_mask"]
    inputnode = Node(IdentityInterface(fields=fields, mandatory_inputs=False), name="inputnode")
    outputs = ["out_file", "out_mask", "affine_transform", "inverse_affine_transform"]
    outputnode = Node(IdentityInterface(fields=outputs), name="outputnode")
    extraction_wf = init_brain_extraction_wf(
        omp_nthreads=omp_nthreads, brain_extraction=brain_extraction, use_gpu=use_gpu
    )
    affine_wf = init_affine_wf(omp_nthreads=omp_nthreads, affine=affine, dof=dof)
    workflow.connect([
        (inputnode, extraction_wf, [
            ("in_file", "inputnode.in_file"),
            ("in_mask", "inputnode.in_mask"),
        ]),
        (inputnode, affine_wf, [
            ("fixed_image", "inputnode.fixed_image"),
            ("fixed_image_mask", "inputnode.fixed_image_mask"),
        ]),
        (extraction_wf, affine_wf, [("outputnode.out_file", "inputnode.moving_image")]),
        (extraction_wf, outputnode, [
            ("outputnode.out_file", "out_file"),
            ("outputnode.out_mask", "out_mask"),
        ]),
        (affine_wf, outputnode, [
            ("outputnode.affine_transform", "affine_transform"),
            ("outputnode.inverse_affine_transform", "inverse_affine_transform"),
        ]),
    ])  # fmt: skip
    return workflow
