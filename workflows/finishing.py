"""Steps after the momentum: transforms, warped images, labels, uncertainty, measures."""

from __future__ import annotations

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from nipype_quicksilver.interfaces import (
    ApplyTransforms,
    CheckRegistration,
    ComposeTransforms,
    JacobianSummary,
    LabelOverlap,
    UncertaintyOnImage,
)


def connect_transforms(workflow: Workflow, inputnode: Node, omp_nthreads: int) -> None:
    """Compose the displacement fields with the affines, in both directions."""
    conform_fixed, conform_moving = (workflow.get_node(f"conform_{s}") for s in ("fixed", "moving"))
    shoot = workflow.get_node("shoot")
    # ANTs' order: fixed points are mapped to the working grid, by the field, to moving points.
    # Without a deformation, there is no field.
    number = 2 if shoot is None else 3
    merge_forward = Node(Merge(number), run_without_submitting=True, name="merge_forward")
    merge_inverse = Node(Merge(number), run_without_submitting=True, name="merge_inverse")
    last, flags = f"in{number}", [True, *[False] * (number - 1)]
    compose_forward = Node(
        ComposeTransforms(invert_transform_flags=flags),
        n_procs=omp_nthreads,
        mem_gb=1.2,
        name="compose_forward",
    )
    compose_inverse = Node(
        ComposeTransforms(out_file="inverse_composite.h5", invert_transform_flags=flags),
        n_procs=omp_nthreads,
        mem_gb=1.2,
        name="compose_inverse",
    )
    workflow.connect([
        (conform_fixed, merge_forward, [("out_affine", "in1")]),
        (conform_moving, merge_forward, [("out_affine", last)]),
        (conform_moving, merge_inverse, [("out_affine", "in1")]),
        (conform_fixed, merge_inverse, [("out_affine", last)]),
        (merge_forward, compose_forward, [("out", "transforms")]),
        (merge_inverse, compose_inverse, [("out", "transforms")]),
        (inputnode, compose_forward, [("fixed_image", "reference_image")]),
        (inputnode, compose_inverse, [("moving_image", "reference_image")]),
    ])  # fmt: skip
    if shoot is not None:
        workflow.connect(shoot, "displacement", merge_forward, "in2")
        workflow.connect(shoot, "inverse_displacement", merge_inverse, "in2")


def connect_images(
    workflow: Workflow, inputnode: Node, outputnode: Node, omp_nthreads: int, interpolation: str
) -> None:
    """Warp the images, measure the map and connect the outputs."""
    forward, inverse = workflow.get_node("compose_forward"), workflow.get_node("compose_inverse")
    warp_moving = Node(
        ApplyTransforms(interpolation=interpolation),
        n_procs=omp_nthreads,
        mem_gb=0.6,
        name="warp_moving",
    )
    warp_fixed = Node(
        ApplyTransforms(interpolation=interpolation),
        n_procs=omp_nthreads,
        mem_gb=0.6,
        name="warp_fixed",
    )
    jacobian_summary = Node(JacobianSummary(), mem_gb=1.5, name="jacobian_summary")
    workflow.connect([
        (inputnode, warp_moving, [
            ("moving_image", "input_image"),
            ("fixed_image", "reference_image"),
        ]),
        (inputnode, warp_fixed, [
            ("fixed_image", "input_image"),
            ("moving_image", "reference_image"),
        ]),
        (forward, warp_moving, [("composite_transform", "transforms")]),
        (inverse, warp_fixed, [("composite_transform", "transforms")]),
        (forward, jacobian_summary, [("displacement", "displacement")]),
        (workflow.get_node("conform_fixed"), jacobian_summary, [("native_mask", "mask")]),
        (warp_moving, outputnode, [("output_image", "warped_image")]),
        (warp_fixed, outputnode, [("output_image", "inverse_warped_image")]),
        (forward, outputnode, [
            ("composite_transform", "composite_transform"),
            ("displacement", "displacement"),
        ]),
        (inverse, outputnode, [
            ("composite_transform", "inverse_composite_transform"),
            ("displacement", "inverse_displacement"),
        ]),
        (jacobian_summary, outputnode, [
            ("log_jacobian", "log_jacobian"),
            ("out_file", "jacobian_summary"),
        ]),
    ])  # fmt: skip


def connect_checks(workflow: Workflow, inputnode: Node, outputnode: Node, transform: str) -> None:
    """Judge the result by the same checks as the command."""
    check = Node(CheckRegistration(transform=transform), mem_gb=1.0, name="check")
    images = [f"{side}_image{part}" for side in ("fixed", "moving") for part in ("", "_mask")]
    workflow.connect([
        (inputnode, check, [(name, name) for name in (*images, "initial_moving_transform")]),
        (workflow.get_node("jacobian_summary"), check, [("out_file", "jacobian_summary")]),
        (check, outputnode, [("warnings", "warnings")]),
    ])  # fmt: skip
    shoot = workflow.get_node("shoot")
    if shoot is not None:
        estimate = workflow.get_node("optimize") or workflow.get_node("predict")
        workflow.connect([
            (estimate, check, [("summary", "momentum_summary")]),
            (shoot, check, [("displacement", "displacement")]),
            (workflow.get_node("conform_fixed"), check, [("out_mask", "mask")]),
        ])  # fmt: skip


def connect_labels(
    workflow: Workflow, inputnode: Node, outputnode: Node, omp_nthreads: int
) -> None:
    """Warp the labels and compare them with the fixed ones."""
    warp_labels = Node(
        ApplyTransforms(interpolation="GenericLabel"),
        n_procs=omp_nthreads,
        mem_gb=0.6,
        name="warp_labels",
    )
    label_overlap = Node(LabelOverlap(), mem_gb=0.4, name="label_overlap")
    workflow.connect([
        (inputnode, warp_labels, [
            ("moving_labels", "input_image"),
            ("fixed_image", "reference_image"),
        ]),
        (workflow.get_node("compose_forward"), warp_labels, [
            ("composite_transform", "transforms"),
        ]),
        (inputnode, label_overlap, [("fixed_labels", "fixed_labels")]),
        (warp_labels, label_overlap, [("output_image", "warped_labels")]),
        (warp_labels, outputnode, [("output_image", "warped_labels")]),
        (label_overlap, outputnode, [("out_file", "label_overlap")]),
    ])  # fmt: skip


def connect_uncertainty(
    workflow: Workflow, inputnode: Node, outputnode: Node, omp_nthreads: int, name: str
) -> None:
    """Resample the uncertainty or its components from the working grid to the fixed grid."""
    warp_uncertainty = Node(
        UncertaintyOnImage(), n_procs=omp_nthreads, mem_gb=0.6, name=f"warp_{name}"
    )
    workflow.connect([
        (workflow.get_node("predict"), warp_uncertainty, [(name, "in_file")]),
        (inputnode, warp_uncertainty, [("fixed_image", "reference_image")]),
        (workflow.get_node("conform_fixed"), warp_uncertainty, [("out_affine", "affine")]),
        (warp_uncertainty, outputnode, [("out_file", name)]),
    ])  # fmt: skip
