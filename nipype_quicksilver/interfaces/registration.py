"""The node that registers a pair of images in one step."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from nipype.interfaces.base import Directory, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import QuicksilverCommand, spec_of, trait_of
from nipype_quicksilver.interfaces.lddmm import NetworksInputSpec
from nipype_quicksilver.options import COHORT_OPTIONS, OPTIONS, SCAN_FILES

# Files of outputs, in the folder of the outputs.
_FILES = {
    "composite_transform": "composite.h5",
    "inverse_composite_transform": "inverse_composite.h5",
    "warped_image": "warped.nii.gz",
    "inverse_warped_image": "inverse_warped.nii.gz",
    "displacement": "displacement.nii.gz",
    "inverse_displacement": "inverse_displacement.nii.gz",
    "log_jacobian": "log_jacobian.nii.gz",
    "momentum": "momentum.nii.gz",
    "summary": "summary.json",
}

_DeclaredInputSpec: Any = spec_of(
    "_DeclaredInputSpec", (NetworksInputSpec,), (*OPTIONS.values(), *SCAN_FILES.values())
)


class QuicksilverRegistrationInputSpec(_DeclaredInputSpec):
    """Inputs of `QuicksilverRegistration`: images, and all options of a registration."""

    fixed_image = File(exists=True, mandatory=True, argstr="--fixed %s", desc="fixed image")
    moving_image = File(
        exists=True, mandatory=True, argstr="--moving %s", desc="moving image, to be warped"
    )
    # As in nipype.interfaces.ants, the file of an affine has a trait of its own.
    affine = trait_of(
        replace(COHORT_OPTIONS["affine"], default=None), xor=["initial_moving_transform"]
    )
    initial_moving_transform = File(
        exists=True,
        argstr="--affine %s",
        xor=["affine"],
        desc="ITK affine that maps fixed to moving points, as ANTs and ITK write it",
    )
    output_dir = Directory(
        "registration", usedefault=True, argstr="--output-dir %s", desc="folder of the outputs"
    )


class QuicksilverRegistrationOutputSpec(TraitedSpec):
    """Outputs of `QuicksilverRegistration`."""

    composite_transform = File(
        exists=True, desc="maps fixed to moving points; warps the moving image"
    )
    inverse_composite_transform = File(
        exists=True, desc="maps moving to fixed points; warps the fixed image"
    )
    warped_image = File(exists=True, desc="moving image on the fixed image's grid")
    inverse_warped_image = File(exists=True, desc="fixed image on the moving image's grid")
    forward_transforms = traits.List(
        File(exists=True), desc="transforms that warp the moving image: the composite"
    )
    reverse_forward_transforms = traits.List(
        File(exists=True), desc="the same transforms in the order of antsApplyTransforms"
    )
    reverse_transforms = traits.List(
        File(exists=True),
        desc="transforms that warp the fixed image, in the order of antsApplyTransforms: the "
        "inverse composite",
    )
    forward_invert_flags = traits.List(traits.Bool(), desc="flags of forward_transforms")
    reverse_forward_invert_flags = traits.List(
        traits.Bool(), desc="flags of reverse_forward_transforms"
    )
    reverse_invert_flags = traits.List(traits.Bool(), desc="flags of reverse_transforms")
    displacement = File(exists=True, desc="composite_transform as a field on the fixed grid")
    inverse_displacement = File(
        exists=True, desc="inverse_composite_transform as a field on the moving grid"
    )
    log_jacobian = File(exists=True, desc="log of the Jacobian determinant of the displacement")
    momentum = File(exists=True, desc="initial momentum, with its kernel and grids")
    warped_labels = File(exists=True, desc="moving_labels on the fixed image's grid")
    uncertainty = File(
        exists=True,
        desc="standard deviation of the displacement, mm, on the fixed grid; with n_samples",
    )
    uncertainty_components = File(
        exists=True, desc="its variances along x, y and z, mm^2; with uncertainty_components"
    )
    summary = File(exists=True, desc="measures of the registration (JSON)")
    warnings = traits.List(
        traits.Str(), desc="what the checks of masks, affine and result found; empty if nothing"
    )


class QuicksilverRegistration(QuicksilverCommand):
    """Register a moving image to a fixed image.

    Inputs and outputs are named, and transforms ordered, as those of
    `nipype.interfaces.ants.Registration`. The composites include the initial transform.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> node = QuicksilverRegistration(fixed_image=fixed, moving_image=moving, random_seed=1)
    >>> node.cmdline
    '...register --brain-extraction deepbet --fixed /...fixed.nii.gz --interpolation Linear
    --method correct --moving /...moving.nii.gz --num-threads 1 --output-dir registration --seed 1
    --transform deformable --device cpu'
    """

    _cmd = "register"
    input_spec = QuicksilverRegistrationInputSpec
    output_spec = QuicksilverRegistrationOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        folder = os.path.abspath(self.inputs.output_dir)
        outputs = {name: os.path.join(folder, file) for name, file in _FILES.items()}
        for name, option in (
            ("warped_labels", self.inputs.moving_labels),
            ("uncertainty", self.inputs.n_samples),
            ("uncertainty_components", self.inputs.uncertainty_components),
        ):
            if isdefined(option) and option:
                outputs[name] = os.path.join(folder, f"{name}.nii.gz")
        forward = [outputs["composite_transform"]]
        reverse = [outputs["inverse_composite_transform"]]
        # A composite is never inverted: the inverse is the other file.
        return {
            **outputs,
            "warnings": _warnings(outputs["summary"]),
            "forward_transforms": forward,
            "forward_invert_flags": [False],
            "reverse_forward_transforms": forward,
            "reverse_forward_invert_flags": [False],
            "reverse_transforms": reverse,
            "reverse_invert_flags": [False],
        }


def _warnings(summary: str) -> list[str]:
    """Return the warnings in a summary; empty before the node has run."""
    if not os.path.exists(summary):
        return []
    with open(summary, encoding="utf-8") as file:
        content: dict[str, list[str]] = json.load(file)
    return content.get("warnings", [])
