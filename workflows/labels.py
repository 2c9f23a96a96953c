"""Labels from several atlases to one target."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import MapNode, Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.interfaces import (
    ApplyTransforms,
    FuseLabels,
    LabelVolumes,
    QuicksilverRegistration,
)
from nipype_quicksilver.options import FUSIONS
from nipype_quicksilver.workflows.description import described_workflow

_CITATIONS = {"staple": " [@staple]"}


def init_label_propagation_wf(
    *,
    omp_nthreads: int,
    fusion: str = "weighted",
    use_gpu: bool = False,
    name: str = "label_propagation_wf",
) -> Workflow:
    """Build a workflow that labels an image from several labelled atlases.

    All atlases are registered to the target, in parallel nodes; their labels are warped and fused
    into one map.

    Workflow Graph
        ::

            inputnode -> register (one per atlas) -> warp_labels (one per atlas) -> fuse -> volumes

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    fusion : {'weighted', 'staple', 'majority'}
        Method of fusion, see `FuseLabels`.
    use_gpu : bool
        Register on a GPU.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Raises
    ------
    InputError
        If the fusion is unknown.

    Inputs
    ------
    target_image
        Image to label.
    target_mask
        Its brain mask; default: the brain is extracted.
    atlas_images, atlas_labels
        Images of the atlases and their label maps, in the same order.
    label_table
        Names of the labels: BIDS `dseg.tsv`, or a FreeSurfer look-up table; optional.

    Outputs
    -------
    fused_labels
        Label map on the target's grid.
    volumes
        Volume of each label (TSV).
    label_table
        Names of the labels (BIDS `dseg.tsv`), if there is an input table.
    warped_labels, warped_images
        Of each atlas, on the target's grid.
    composite_transforms
        Of each atlas: maps target to atlas points.

    Examples
    --------
    >>> wf = init_label_propagation_wf(omp_nthreads=2, fusion="staple")
    >>> wf.inputs.inputnode.atlas_images = ["atlas-01_T1w.nii.gz", "atlas-02_T1w.nii.gz"]
    """
    if fusion not in FUSIONS:
        raise InputError(f"fusion '{fusion}' is unknown; give {', '.join(FUSIONS)}")
    workflow = described_workflow(
        name,
        "Labelled atlases were registered to the image by geodesic shooting [@quicksilver] with "
        f"*nipype-quicksilver* {__version__}, and their labels were fused by "
        f"{FUSIONS[fusion]}{_CITATIONS.get(fusion, '')}.\n",
    )
    inputs = ["target_image", "target_mask", "atlas_images", "atlas_labels", "label_table"]
    inputnode = Node(IdentityInterface(fields=inputs, mandatory_inputs=False), name="inputnode")
    outputs = ["fused_labels", "volumes", "label_table", "warped_labels", "warped_images"]
    outputnode = Node(
        IdentityInterface(fields=[*outputs, "composite_transforms"]), name="outputnode"
    )
    register = MapNode(
        QuicksilverRegistration(use_gpu=use_gpu),
        iterfield=["moving_image"],
        n_procs=1 if use_gpu else omp_nthreads,
        mem_gb=4.0,
        name="register",
    )
    warp_labels = MapNode(
        ApplyTransforms(interpolation="GenericLabel"),
        iterfield=["input_image", "transforms"],
        n_procs=omp_nthreads,
        mem_gb=1.0,
        name="warp_labels",
    )
    fuse = Node(FuseLabels(method=fusion), mem_gb=2.0, name="fuse")
    volumes = Node(LabelVolumes(), mem_gb=0.5, name="volumes")
    workflow.connect([
        (inputnode, register, [
            ("target_image", "fixed_image"),
            ("target_mask", "fixed_image_mask"),
            ("atlas_images", "moving_image"),
        ]),
        (inputnode, warp_labels, [
            ("target_image", "reference_image"),
            ("atlas_labels", "input_image"),
        ]),
        (register, warp_labels, [("composite_transform", "transforms")]),
        (warp_labels, fuse, [("output_image", "in_labels")]),
        (inputnode, fuse, [("target_image", "target_image")]),
        (register, fuse, [("warped_image", "in_images")]),
        (fuse, volumes, [("out_file", "in_labels")]),
        (inputnode, volumes, [("label_table", "label_table")]),
        (fuse, outputnode, [("out_file", "fused_labels")]),
        (volumes, outputnode, [("out_file", "volumes"), ("out_table", "label_table")]),
        (warp_labels, outputnode, [("output_image", "warped_labels")]),
        (register, outputnode, [
            ("warped_image", "warped_images"),
            ("composite_transform", "composite_transforms"),
        ]),
    ])  # fmt: skip
    return workflow
