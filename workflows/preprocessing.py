"""From heads to aligned brains: brain extraction and affine registration, by any engine."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.interfaces import AffineRegistration, BrainExtraction, ConvertAffine
from nipype_quicksilver.interfaces.engines import GreedyAffine, SynthStrip
from nipype_quicksilver.workflows.engines import AFFINES, BRAIN_EXTRACTIONS, check_engine


def init_brain_extraction_wf(
    *,
    omp_nthreads: int,
    engine: str = "deepbet",
    use_gpu: bool = False,
    brain_template: str | None = None,
    brain_probability_mask: str | None = None,
    name: str = "brain_extraction_wf",
) -> Workflow:
    """Build a workflow that finds the brain in an image of a head.

    Workflow Graph
        ::

            inputnode -> extract (-> mask) -> outputnode

    Parameters
    ----------
    omp_nthreads : int
        Threads of each node that can use several.
    engine : {'deepbet', 'bet', 'synthstrip', 'ants', 'afni'}
        What finds the brain: deepbet comes with this package; the others are FSL's BET,
        FreeSurfer's SynthStrip, ANTs' brain extraction and AFNI's 3dSkullStrip.
    use_gpu : bool
        Run deepbet on a GPU.
    brain_template, brain_probability_mask : str, optional
        For ANTs: a template with skull, and the probability of brain in it.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Raises
    ------
    InputError
        If the engine is unknown or not installed.

    Inputs
    ------
    in_file
        T1-weighted image of a head.
    in_mask
        A mask that there is already: used as it is; optional, for deepbet only.

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
    check_engine(engine, BRAIN_EXTRACTIONS)
    workflow = Workflow(name=name)
    workflow.__desc__ = (
        f"Brains were extracted with *{engine}* (*nipype-quicksilver* {__version__}).\n"
    )
    inputnode = Node(
        IdentityInterface(fields=["in_file", "in_mask"], mandatory_inputs=False), name="inputnode"
    )
    outputnode = Node(IdentityInterface(fields=["out_file", "out_mask"]), name="outputnode")
    if engine == "deepbet":
        extract = Node(
            BrainExtraction(use_gpu=use_gpu),
            n_procs=1 if use_gpu else omp_nthreads,
            mem_gb=2.0,
            name="extract",
        )
        workflow.connect([
            (inputnode, extract, [("in_file", "in_file"), ("in_mask", "mask")]),
            (extract, outputnode, [("out_file", "out_file"), ("out_mask", "out_mask")]),
        ])  # fmt: skip
        return workflow
    build = {"bet": _bet, "synthstrip": _synthstrip, "ants": _ants_extraction, "afni": _afni}
    options = (brain_template, brain_probability_mask) if engine == "ants" else ()
    build[engine](workflow, inputnode, outputnode, omp_nthreads, *options)
    return workflow


def _bet(workflow, inputnode, outputnode, omp_nthreads):
    from nipype.interfaces.fsl import BET

    extract = Node(BET(mask=True, robust=True), mem_gb=1.0, name="extract")
    # A compressed NIfTI whatever FSLOUTPUTTYPE says.
    extract.inputs.output_type = "NIFTI_GZ"
    workflow.connect([
        (inputnode, extract, [("in_file", "in_file")]),
        (extract, outputnode, [("out_file", "out_file"), ("mask_file", "out_mask")]),
    ])  # fmt: skip


def _synthstrip(workflow, inputnode, outputnode, omp_nthreads):
    extract = Node(SynthStrip(), n_procs=omp_nthreads, mem_gb=8.0, name="extract")
    workflow.connect([
        (inputnode, extract, [("in_file", "in_file")]),
        (extract, outputnode, [("out_file", "out_file"), ("out_mask", "out_mask")]),
    ])  # fmt: skip


def _ants_extraction(workflow, inputnode, outputnode, omp_nthreads, template, probability):
    from nipype.interfaces.ants import BrainExtraction as ANTsBrainExtraction

    from nipype_quicksilver.errors import InputError

    if template is None or probability is None:
        raise InputError(
            "engine 'ants' needs a template with skull: give brain_template and "
            "brain_probability_mask"
        )
    extract = Node(
        ANTsBrainExtraction(
            dimension=3, brain_template=template, brain_probability_mask=probability
        ),
        n_procs=omp_nthreads,
        mem_gb=4.0,
        name="extract",
    )
    workflow.connect([
        (inputnode, extract, [("in_file", "anatomical_image")]),
        (extract, outputnode, [
            ("BrainExtractionBrain", "out_file"),
            ("BrainExtractionMask", "out_mask"),
        ]),
    ])  # fmt: skip


def _afni(workflow, inputnode, outputnode, omp_nthreads):
    from nipype.interfaces.afni import Calc, SkullStrip

    # 3dSkullStrip changes intensities: only where it finds brain is of use.
    extract = Node(SkullStrip(outputtype="NIFTI_GZ"), mem_gb=2.0, name="extract")
    mask = Node(
        Calc(expr="step(a)", outputtype="NIFTI_GZ", args="-datum byte"), mem_gb=0.5, name="mask"
    )
    brain = Node(Calc(expr="a*step(b)", outputtype="NIFTI_GZ"), mem_gb=0.5, name="brain")
    workflow.connect([
        (inputnode, extract, [("in_file", "in_file")]),
        (extract, mask, [("out_file", "in_file_a")]),
        (inputnode, brain, [("in_file", "in_file_a")]),
        (extract, brain, [("out_file", "in_file_b")]),
        (brain, outputnode, [("out_file", "out_file")]),
        (mask, outputnode, [("out_file", "out_mask")]),
    ])  # fmt: skip


def init_affine_wf(
    *,
    omp_nthreads: int,
    engine: str = "simpleitk",
    dof: int = 12,
    name: str = "affine_wf",
) -> Workflow:
    """Build a workflow that aligns a moving brain to a fixed brain.

    Workflow Graph
        ::

            inputnode -> align (-> convert) -> outputnode

    Parameters
    ----------
    omp_nthreads : int
        Threads of each node that can use several.
    engine : {'simpleitk', 'greedy', 'ants', 'reg_aladin', 'flirt'}
        What finds the affine: simpleitk comes with this package; the others are greedy, ANTs,
        NiftyReg and FSL's FLIRT. Their affines are converted to ITK's.
    dof : {12, 6, 7, 9}
        Degrees of freedom; not all engines know all of them.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Raises
    ------
    InputError
        If the engine is unknown or not installed, or has no such degrees of freedom.

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
    check_engine(engine, AFFINES)
    _check_dof(engine, dof)
    workflow = Workflow(name=name)
    workflow.__desc__ = (
        f"Brains were aligned by an affine of {dof} degrees of freedom with *{engine}* "
        f"(*nipype-quicksilver* {__version__}).\n"
    )
    inputs = ["fixed_image", "moving_image", "fixed_image_mask", "moving_image_mask"]
    outputs = ["affine_transform", "inverse_affine_transform"]
    inputnode = Node(IdentityInterface(fields=inputs, mandatory_inputs=False), name="inputnode")
    outputnode = Node(IdentityInterface(fields=outputs), name="outputnode")
    if engine == "simpleitk":
        align = Node(
            AffineRegistration(dof=dof), n_procs=min(omp_nthreads, 2), mem_gb=1.0, name="align"
        )
        workflow.connect([
            (inputnode, align, [(field, field) for field in inputs]),
            (align, outputnode, [(field, field) for field in outputs]),
        ])  # fmt: skip
        return workflow
    build = {"greedy": _greedy, "ants": _ants, "reg_aladin": _aladin, "flirt": _flirt}
    align, names, output, in_format = build[engine](omp_nthreads, dof)
    convert = Node(ConvertAffine(in_format=in_format), mem_gb=0.2, name="convert")
    workflow.connect([
        (inputnode, align, list(names.items())),
        (align, convert, [output]),
        (inputnode, convert, [
            ("fixed_image", "fixed_image"),
            ("moving_image", "moving_image"),
        ]),
        (convert, outputnode, [(field, field) for field in outputs]),
    ])  # fmt: skip
    return workflow


_DOF_OF = {"greedy": (6, 7, 12), "ants": (6, 7, 12), "reg_aladin": (6, 12)}


def _check_dof(engine: str, dof: int) -> None:
    from nipype_quicksilver.errors import InputError

    known = _DOF_OF.get(engine, (6, 7, 9, 12))
    if dof not in known:
        raise InputError(f"engine '{engine}' has no {dof} degrees of freedom; give one of {known}")


# Each builder gives the node, its names of the inputs, where its affine goes, and the format.


def _greedy(omp_nthreads, dof):
    align = Node(GreedyAffine(dof=dof), n_procs=omp_nthreads, mem_gb=2.0, name="align")
    names = {"fixed_image": "fixed_image", "moving_image": "moving_image"}
    names |= {"fixed_image_mask": "fixed_mask", "moving_image_mask": "moving_mask"}
    return align, names, ("out_file", "in_file"), "ras"


def _ants(omp_nthreads, dof):
    from nipype.interfaces.ants import Registration

    align = Node(
        Registration(
            dimension=3,
            transforms=[{6: "Rigid", 7: "Similarity", 12: "Affine"}[dof]],
            transform_parameters=[(0.1,)],
            metric=["MI"],
            metric_weight=[1],
            radius_or_number_of_bins=[32],
            sampling_strategy=["Regular"],
            sampling_percentage=[0.25],
            number_of_iterations=[[1000, 500, 250]],
            shrink_factors=[[8, 4, 2]],
            smoothing_sigmas=[[3, 2, 1]],
            sigma_units=["vox"],
            convergence_threshold=[1e-6],
            convergence_window_size=[10],
            initial_moving_transform_com=1,
            collapse_output_transforms=True,
            write_composite_transform=False,
            float=True,
        ),
        n_procs=omp_nthreads,
        mem_gb=2.0,
        name="align",
    )
    masks = {"fixed_image_mask": "fixed_image_masks", "moving_image_mask": "moving_image_masks"}
    names = {"fixed_image": "fixed_image", "moving_image": "moving_image"}
    return align, {**names, **masks}, (("forward_transforms", _first), "in_file"), "itk"


def _first(items):
    """Return the first of a list."""
    return items[0]


def _aladin(omp_nthreads, dof):
    from nipype.interfaces.niftyreg import RegAladin

    align = Node(
        RegAladin(rig_only_flag=dof == 6, omp_core_val=omp_nthreads),
        n_procs=omp_nthreads,
        mem_gb=2.0,
        name="align",
    )
    names = {"fixed_image": "ref_file", "moving_image": "flo_file"}
    names |= {"fixed_image_mask": "rmask_file", "moving_image_mask": "fmask_file"}
    return align, names, ("aff_file", "in_file"), "ras"


def _flirt(omp_nthreads, dof):
    from nipype.interfaces.fsl import FLIRT

    align = Node(
        FLIRT(dof=dof, cost="corratio", searchr_x=[-60, 60], searchr_y=[-60, 60]),
        mem_gb=1.0,
        name="align",
    )
    align.inputs.searchr_z = [-60, 60]
    align.inputs.output_type = "NIFTI_GZ"
    names = {"fixed_image": "reference", "moving_image": "in_file"}
    masks = {"fixed_image_mask": "ref_weight", "moving_image_mask": "in_weight"}
    return align, {**names, **masks}, ("out_matrix_file", "in_file"), "fsl"


def init_preprocessing_wf(
    *,
    omp_nthreads: int,
    brain_extraction: str = "deepbet",
    affine: str = "simpleitk",
    dof: int = 12,
    use_gpu: bool = False,
    name: str = "preprocessing_wf",
) -> Workflow:
    """Build a workflow that finds the brain in a head and aligns it to another brain.

    Workflow Graph
        ::

            inputnode -> brain_extraction_wf -> affine_wf -> outputnode

    Parameters
    ----------
    omp_nthreads : int
        Threads of each node that can use several.
    brain_extraction : str
        Engine of :func:`init_brain_extraction_wf`.
    affine : str
        Engine of :func:`init_affine_wf`.
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
        Its brain; optional, for deepbet only.
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
    workflow = Workflow(name=name)
    fields = ["in_file", "in_mask", "fixed_image", "fixed_image_mask"]
    inputnode = Node(IdentityInterface(fields=fields, mandatory_inputs=False), name="inputnode")
    outputs = ["out_file", "out_mask", "affine_transform", "inverse_affine_transform"]
    outputnode = Node(IdentityInterface(fields=outputs), name="outputnode")
    extraction_wf = init_brain_extraction_wf(
        omp_nthreads=omp_nthreads, engine=brain_extraction, use_gpu=use_gpu
    )
    affine_wf = init_affine_wf(omp_nthreads=omp_nthreads, engine=affine, dof=dof)
    workflow.__desc__ = extraction_wf.__desc__ + affine_wf.__desc__
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
