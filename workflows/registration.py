"""Registration of a pair of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.declarations import documents
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.interfaces import (
    AffineRegistration,
    ConformToGrid,
    NormalizeIntensity,
    OptimizeMomentum,
    PredictMomentum,
    ShootGeodesic,
)
from nipype_quicksilver.interfaces.preprocessing import SelectTemplate
from nipype_quicksilver.methods import METHODS
from nipype_quicksilver.options import (
    AUTO,
    DEFORMABLE,
    NONE,
    OPTIONS,
    WORKFLOW_OPTIONS,
    RegistrationOptions,
    completed,
)
from nipype_quicksilver.workflows.deprecation import renamed
from nipype_quicksilver.workflows.description import described_workflow
from nipype_quicksilver.workflows.finishing import (
    connect_checks,
    connect_images,
    connect_labels,
    connect_transforms,
    connect_uncertainty,
)

_INPUTS = [
    "fixed_image",
    "moving_image",
    "fixed_image_mask",
    "moving_image_mask",
    "fixed_lesion_mask",
    "moving_lesion_mask",
    "initial_moving_transform",
]
_OUTPUTS = [
    "composite_transform",
    "inverse_composite_transform",
    "warped_image",
    "inverse_warped_image",
    "displacement",
    "inverse_displacement",
    "momentum",
    "log_jacobian",
    "jacobian_summary",
    "warnings",
]
_INPUTS_OF_LABELS = ["fixed_labels", "moving_labels"]
_OUTPUTS_OF_LABELS = ["warped_labels", "label_overlap"]

_DESCRIPTION = f"""\
The moving image was registered to the fixed image by geodesic shooting in the framework of large
deformation diffeomorphic metric mapping [@quicksilver], with *nipype-quicksilver* {__version__}.
"""


@documents(WORKFLOW_OPTIONS)
def init_quicksilver_wf(
    *,
    omp_nthreads: int,
    use_gpu: bool = False,
    labels: bool = False,
    name: str = "quicksilver_wf",
    n_samples: int | None = None,
    **options: Unpack[RegistrationOptions],
) -> Workflow:
    """Build a workflow that registers a moving image to a fixed image.

    It does the same as the command `quicksilver register` and the node `QuicksilverRegistration` do
    with brains, in steps that Nipype can cache and distribute. Its inputs are brains, and the
    affine between them: `init_preprocessing_wf` extracts and aligns them. Folds are repaired on the
    working grid; `jacobian_summary` counts those that only the fixed image's own grid shows.

    Workflow Graph
        ::

            inputnode -> conform_fixed -> normalize_fixed ----+
                |             |                               |
                +------> conform_moving -> normalize_moving --+-> MOMENTUM -> shoot --+
                                                                                      |
            compose_forward -> warp_moving, warp_labels -> label_overlap  <-----------+
            compose_inverse -> warp_fixed                                 <-----------+
            compose_forward -> jacobian_summary -> check

        MOMENTUM is `predict`, `optimize`, or `predict` -> `optimize`, depending on the method.
        With samples, predict -> warp_uncertainty. With a template,
        select_template -> template_grid, align_template -> conform_fixed, conform_moving. Without a
        deformation, there is no MOMENTUM and no `shoot`: the composites are
        `initial_moving_transform`, which `init_preprocessing_wf` estimates with 6 (rigid), 7
        (similarity) or 12 degrees of freedom (affine).

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    use_gpu : bool
        Compute momentum and geodesic on a GPU. Since Nipype counts `n_procs` GPU slots for such
        a node, it gets one thread.
    labels : bool
        Warp the labels of the moving image, and compare them with those of the fixed image.
    name : str
        Name of the workflow.
    n_samples : int, optional
        Earlier name of `samples`; deprecated since version 0.2.
    {options}

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Inputs
    ------
    fixed_image
        Fixed image: a brain, or a head with a mask.
    moving_image
        Moving image, to be warped.
    fixed_image_mask, moving_image_mask
        Brain masks, in the world spaces of the images; default: nonzero voxels.
    fixed_lesion_mask, moving_lesion_mask
        Masks of regions without counterpart in the other image; optional.
    initial_moving_transform
        ITK affine that maps fixed to moving points; default: the headers align the images.
    fixed_labels, moving_labels
        Label maps; with `labels` only.

    Outputs
    -------
    composite_transform
        ITK composite that maps fixed to moving points: it warps the moving image.
    inverse_composite_transform
        Its inverse, which warps the fixed image.
    warped_image
        Moving image on the fixed image's grid, resampled once.
    inverse_warped_image
        Fixed image on the moving image's grid.
    displacement, inverse_displacement
        The composites as displacement fields, on the grids of the fixed and the moving image.
    momentum
        Initial momentum, with its kernel and grids; with transform deformable only.
    log_jacobian
        Log of the Jacobian determinant of `displacement`, NaN in folds.
    jacobian_summary
        Folds and volume changes of `displacement` in the fixed brain (JSON).
    warnings
        What the checks of masks, affine and result found, one message each.
    warped_labels
        `moving_labels` on the fixed image's grid; with `labels` only.
    label_overlap
        Overlap of `warped_labels` with `fixed_labels` (JSON); with `labels` only.
    uncertainty
        Estimated error of the displacement, mm, from the spread of the samples and the difference
        that remains between the images, on the fixed image's grid; with `samples` only.
    uncertainty_components
        Its variances along x, y and z, mm^2; with `uncertainty_components` only.

    Raises
    ------
    InputError
        If the value of an option is not allowed, or the workflow or the method does not use the
        option.

    Examples
    --------
    >>> wf = init_quicksilver_wf(omp_nthreads=2, labels=True)
    >>> wf.get_node("predict").n_procs, wf.get_node("predict").inputs.num_threads
    (2, 2)
    >>> wf.inputs.inputnode.fixed_image = "sub-01_T1w.nii.gz"
    """
    samples = renamed("n_samples", n_samples, "samples", options.get("samples"))
    chosen = _chosen({**options, "samples": samples})
    workflow = described_workflow(name, _DESCRIPTION)
    inputnode = Node(
        IdentityInterface(
            fields=_INPUTS + (_INPUTS_OF_LABELS if labels else []), mandatory_inputs=False
        ),
        name="inputnode",
    )
    deforms = chosen["transform"] == DEFORMABLE
    outputs = [name for name in _OUTPUTS if deforms or name != "momentum"]
    outputs += _OUTPUTS_OF_LABELS if labels else []
    uncertainties = ["uncertainty"] if chosen["samples"] else []
    uncertainties += ["uncertainty_components"] if chosen["uncertainty_components"] else []
    outputnode = Node(IdentityInterface(fields=outputs + uncertainties), name="outputnode")
    _connect_preparation(workflow, inputnode, omp_nthreads, chosen["template"])
    if deforms:
        _connect_normalization(workflow)
        source = _connect_engine(workflow, chosen, 1 if use_gpu else omp_nthreads, use_gpu)
        workflow.connect(source, "momentum", outputnode, "momentum")
    connect_transforms(workflow, inputnode, omp_nthreads)
    connect_images(workflow, inputnode, outputnode, omp_nthreads, chosen["interpolation"])
    connect_checks(workflow, inputnode, outputnode, chosen["transform"])
    if labels:
        connect_labels(workflow, inputnode, outputnode, omp_nthreads)
    for uncertainty in uncertainties:
        connect_uncertainty(workflow, inputnode, outputnode, omp_nthreads, uncertainty)
    return workflow


def _chosen(options: RegistrationOptions) -> RegistrationOptions:
    """Check and complete the options; raise an error for those that the workflow does not use."""
    for name, option in OPTIONS.items():
        if name in options and name not in WORKFLOW_OPTIONS:
            raise InputError(f"{option.title}: init_quicksilver_wf {option.without['workflow']}")
    chosen = completed(options, WORKFLOW_OPTIONS)
    if str(chosen["template"]) == AUTO:
        raise InputError("template 'auto' is for heads; give a template, or none")
    return chosen


def _connect_preparation(
    workflow: Workflow, inputnode: Node, omp_nthreads: int, template: str | Path | None
) -> None:
    """Resample both images to the working grid."""
    conform_fixed = Node(ConformToGrid(), n_procs=omp_nthreads, mem_gb=0.8, name="conform_fixed")
    conform_moving = Node(ConformToGrid(), n_procs=omp_nthreads, mem_gb=0.8, name="conform_moving")
    for side, conform in (("fixed", conform_fixed), ("moving", conform_moving)):
        workflow.connect([
            (inputnode, conform, [
                (f"{side}_image", "in_file"),
                (f"{side}_image_mask", "mask"),
                (f"{side}_lesion_mask", "lesion_mask"),
            ]),
        ])  # fmt: skip
    # Points of the working grid are mapped to fixed points, then to moving points.
    merge_affines = Node(Merge(2), run_without_submitting=True, name="merge_affines")
    workflow.connect([
        (conform_fixed, merge_affines, [("out_affine", "in1")]),
        (inputnode, merge_affines, [("initial_moving_transform", "in2")]),
        (merge_affines, conform_moving, [("out", "affine")]),
    ])  # fmt: skip
    if str(template) != NONE:
        _connect_template(workflow, inputnode, omp_nthreads, str(template))
        return
    workflow.connect([
        (inputnode, conform_fixed, [
            ("moving_image", "include_image"),
            ("moving_image_mask", "include_mask"),
            ("initial_moving_transform", "include_affine"),
        ]),
        (conform_fixed, conform_moving, [("out_file", "reference_image")]),
    ])  # fmt: skip


def _connect_template(
    workflow: Workflow, inputnode: Node, omp_nthreads: int, template: str
) -> None:
    """Resample both images to the grid of a template, the moving image through the fixed one."""
    select_template = Node(SelectTemplate(template=template), mem_gb=0.5, name="select_template")
    template_grid = Node(ConformToGrid(), n_procs=omp_nthreads, mem_gb=0.8, name="template_grid")
    align_template = Node(
        AffineRegistration(), n_procs=min(omp_nthreads, 2), mem_gb=1.0, name="align_template"
    )
    merge_template = Node(Merge(2), run_without_submitting=True, name="merge_template")
    workflow.connect([
        (select_template, template_grid, [
            ("template_file", "in_file"),
            ("template_mask", "mask"),
        ]),
        (select_template, align_template, [
            ("template_file", "fixed_image"),
            ("template_mask", "fixed_image_mask"),
        ]),
        (inputnode, align_template, [
            ("fixed_image", "moving_image"),
            ("fixed_image_mask", "moving_image_mask"),
        ]),
        # Points of the working grid are mapped to points of the template, then to fixed points.
        (template_grid, merge_template, [("out_affine", "in1")]),
        (align_template, merge_template, [("affine_transform", "in2")]),
        (merge_template, workflow.get_node("conform_fixed"), [("out", "affine")]),
    ])  # fmt: skip
    for side in ("fixed", "moving"):
        conform = workflow.get_node(f"conform_{side}")
        workflow.connect(template_grid, "out_file", conform, "reference_image")


def _connect_normalization(workflow: Workflow) -> None:
    """Normalise the intensities of both images in their brains."""
    for side in ("fixed", "moving"):
        normalize = Node(NormalizeIntensity(), mem_gb=0.4, name=f"normalize_{side}")
        conformed = [("out_file", "in_file"), ("out_mask", "mask")]
        workflow.connect([(workflow.get_node(f"conform_{side}"), normalize, conformed)])


def _connect_engine(
    workflow: Workflow, options: RegistrationOptions, n_procs: int, use_gpu: bool
) -> Node:
    """Estimate the momentum and shoot it; return the node with the final momentum."""
    source, method = None, METHODS[options["method"]]
    if method.predicts:
        predict = PredictMomentum(use_gpu=use_gpu, **_predicting(options))
        source = Node(predict, n_procs=n_procs, mem_gb=3.0, name="predict")
        _connect_pair(workflow, source)
    if method.optimizes:
        optimize = OptimizeMomentum(
            use_gpu=use_gpu, schedule=method.schedule, random_seed=options["seed"]
        )
        if options["similarity"] is not None:
            optimize.inputs.similarity = options["similarity"]
        if options["iterations"] is not None:
            optimize.inputs.iterations = list(options["iterations"])
        predicted, source = source, Node(optimize, n_procs=n_procs, mem_gb=3.0, name="optimize")
        _connect_pair(workflow, source)
        if predicted is not None:
            workflow.connect(predicted, "momentum", source, "initial_momentum")
    shoot = Node(ShootGeodesic(use_gpu=use_gpu), n_procs=n_procs, mem_gb=1.0, name="shoot")
    workflow.connect(source, "momentum", shoot, "momentum")
    return source


def _predicting(options: RegistrationOptions) -> dict[str, Any]:
    """Return the inputs of the node that predicts."""
    corrects = METHODS[options["method"]].corrects
    inputs = {
        "prediction_network": options["prediction_network"],
        "correction_network": options["correction_network"],
        "n_samples": options["samples"],
        "corrections": options["corrections"] if corrects else 0,
        "random_seed": options["seed"],
    }
    if options["uncertainty_components"]:
        inputs["out_uncertainty_components"] = "uncertainty_components.nii.gz"
    return {name: value for name, value in inputs.items() if value is not None}


def _connect_pair(workflow: Workflow, node: Node) -> None:
    """Connect the conformed images and their masks with a node."""
    for side in ("fixed", "moving"):
        workflow.connect([
            (workflow.get_node(f"normalize_{side}"), node, [("out_file", f"{side}_image")]),
            (workflow.get_node(f"conform_{side}"), node, [
                ("out_mask", f"{side}_image_mask"),
                ("out_lesion_mask", f"{side}_lesion_mask"),
            ]),
        ])  # fmt: skip
