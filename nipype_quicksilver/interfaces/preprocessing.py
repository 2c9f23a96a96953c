"""Nodes that prepare a registration: brains, affines, templates."""

from __future__ import annotations

import os
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import (
    CommandInputSpec,
    LightInterface,
    QuicksilverCommand,
    output_name,
    trait_of,
)
from nipype_quicksilver.options import AFFINE_FORMATS, DOF
from nipype_quicksilver.steps import AFFINE_ESTIMATION, BRAIN_EXTRACTION, BRAIN_FILES


def _output_name(source: str, template: str, output: str, argstr: str, desc: str) -> Any:
    """Return the trait of an input that is the name of an output."""
    return File(
        name_source=source,
        name_template=template,
        keep_extension=False,
        output_name=output,
        argstr=argstr,
        desc=desc,
    )


class AffineRegistrationInputSpec(CommandInputSpec):
    """Inputs of `AffineRegistration`."""

    fixed_image = File(
        exists=True, mandatory=True, argstr="--fixed %s", desc="fixed image, a brain"
    )
    moving_image = File(
        exists=True, mandatory=True, argstr="--moving %s", desc="moving image, a brain"
    )
    fixed_image_mask = trait_of(BRAIN_FILES["fixed_mask"])
    moving_image_mask = trait_of(BRAIN_FILES["moving_mask"])
    initial_moving_transform = File(
        exists=True,
        argstr="--initial %s",
        desc="ITK affine to start from, for simpleitk only (default: many rotations)",
    )
    dof = traits.Enum(
        *DOF,
        usedefault=True,
        argstr="--dof %d",
        desc="degrees of freedom; " + "; ".join(f"{n}: {text}" for n, text in sorted(DOF.items())),
    )
    affine = trait_of(AFFINE_ESTIMATION)
    out_transform = _output_name(
        "moving_image",
        "%s_affine.mat",
        "affine_transform",
        "--output %s",
        "name of the transform",
    )
    out_inverse = _output_name(
        "moving_image",
        "%s_inverse_affine.mat",
        "inverse_affine_transform",
        "--output-inverse %s",
        "name of the inverse transform",
    )
    out_image = _output_name(
        "moving_image",
        "%s_aligned.nii.gz",
        "warped_image",
        "--output-image %s",
        "name of the moving image on the fixed grid",
    )
    out_summary = _output_name(
        "moving_image", "%s_affine.json", "summary", "--output-json %s", "name of the summary"
    )


class AffineRegistrationOutputSpec(TraitedSpec):
    """Outputs of `AffineRegistration`."""

    affine_transform = File(exists=True, desc="ITK affine, maps fixed to moving points")
    inverse_affine_transform = File(exists=True, desc="its inverse")
    warped_image = File(exists=True, desc="moving image on the fixed image's grid")
    summary = File(exists=True, desc="similarity, rotation and scales (JSON)")


class AffineRegistration(QuicksilverCommand):
    """Estimate the affine between two brains, of the same or of different contrasts.

    `affine_transform` can be the `initial_moving_transform` of `QuicksilverRegistration`.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> AffineRegistration(fixed_image=fixed, moving_image=moving, dof=9).cmdline
    '...affine --affine simpleitk --dof 9 --fixed /...fixed.nii.gz --moving /...moving.nii.gz
    --num-threads 1 --output-image moving_aligned.nii.gz --output-inverse moving_inverse_affine.mat
    --output-json moving_affine.json --output moving_affine.mat --device cpu'
    """

    _cmd = "affine"
    input_spec = AffineRegistrationInputSpec
    output_spec = AffineRegistrationOutputSpec


class BrainExtractionInputSpec(CommandInputSpec):
    """Inputs of `BrainExtraction`."""

    in_file = File(
        exists=True, mandatory=True, argstr="--input %s", desc="T1-weighted image of a head"
    )
    mask = File(exists=True, argstr="--mask %s", desc="existing mask, to use unchanged")
    brain_extraction = trait_of(BRAIN_EXTRACTION)
    threshold = traits.Range(
        low=0.0,
        high=1.0,
        value=0.5,
        exclude_low=True,
        exclude_high=True,
        usedefault=True,
        argstr="--threshold %g",
        desc="smallest probability of a brain voxel",
    )
    n_dilate = traits.Int(
        0,
        usedefault=True,
        argstr="--n-dilate %d",
        desc="layers of voxels to add to the mask, or to remove if negative",
    )
    out_mask = _output_name(
        "in_file", "%s_brainmask.nii.gz", "out_mask", "--output-mask %s", "name of the mask"
    )
    out_file = _output_name(
        "in_file", "%s_brain.nii.gz", "out_file", "--output %s", "name of the brain"
    )
    out_summary = _output_name(
        "in_file", "%s_brain.json", "summary", "--output-json %s", "name of the summary"
    )


class BrainExtractionOutputSpec(TraitedSpec):
    """Outputs of `BrainExtraction`."""

    out_file = File(exists=True, desc="the image, zero outside the brain")
    out_mask = File(exists=True, desc="brain mask on the image's grid")
    summary = File(exists=True, desc="how the brain was extracted, and its volume (JSON)")


class BrainExtraction(QuicksilverCommand):
    """Extract the brain from an image of a head; an image without skull is not changed.

    Examples
    --------
    >>> head = getfixture("tmp_path") / "head.nii.gz"
    >>> head.touch()
    >>> BrainExtraction(in_file=head, n_dilate=1).cmdline
    '...extract-brain --brain-extraction deepbet --input /...head.nii.gz --n-dilate 1
    --num-threads 1 --output head_brain.nii.gz --output-mask head_brainmask.nii.gz
    --output-json head_brain.json --threshold 0.5 --device cpu'
    """

    _cmd = "extract-brain"
    input_spec = BrainExtractionInputSpec
    output_spec = BrainExtractionOutputSpec


class ConvertAffineInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ConvertAffine`."""

    in_file = File(exists=True, mandatory=True, desc="affine in the format of another program")
    in_format = traits.Enum(
        *AFFINE_FORMATS,
        usedefault=True,
        desc="ras: world coordinates (greedy, NiftyReg); fsl: FLIRT; itk: ITK",
    )
    fixed_image = File(exists=True, desc="fixed (reference) image; for 'fsl'")
    moving_image = File(exists=True, desc="moving (input) image; for 'fsl'")


class ConvertAffineOutputSpec(TraitedSpec):
    """Outputs of `ConvertAffine`."""

    affine_transform = File(exists=True, desc="ITK affine, maps fixed to moving points")
    inverse_affine_transform = File(exists=True, desc="its inverse")


class ConvertAffine(LightInterface):
    """Convert an affine of another program to ITK's format.

    Examples
    --------
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> folder = getfixture("tmp_path")
    >>> getfixture("monkeypatch").chdir(folder)
    >>> matrix = np.eye(4)
    >>> matrix[:3, 3] = 1, 2, 3
    >>> np.savetxt(folder / "greedy.txt", matrix)
    >>> outputs = ConvertAffine(in_file=folder / "greedy.txt").run().outputs
    >>> transforms.read_affine(outputs.affine_transform)[:3, 3]
    array([1., 2., 3.])
    """

    input_spec = ConvertAffineInputSpec
    output_spec = ConvertAffineOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import numpy as np

        from nipype_quicksilver.spatial import transforms

        outputs, matrix = self._list_outputs(), self._matrix()
        transforms.write_affine(outputs["affine_transform"], matrix)
        transforms.write_affine(outputs["inverse_affine_transform"], np.linalg.inv(matrix))
        return runtime

    def _matrix(self) -> Any:
        """Return the matrix, fixed to moving points, RAS mm."""
        from nipype_quicksilver.spatial.interchange import read_matrix

        inputs = self.inputs
        images = (
            image if isdefined(image) else None
            for image in (inputs.fixed_image, inputs.moving_image)
        )
        return read_matrix(inputs.in_file, inputs.in_format, *images)

    def _list_outputs(self) -> dict[str, Any]:
        names = {"affine_transform": "_affine", "inverse_affine_transform": "_inverse_affine"}
        return {n: output_name(self.inputs.in_file, end, ".mat") for n, end in names.items()}


class SelectTemplateInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SelectTemplate`."""

    template = traits.Str(
        mandatory=True,
        desc="MNI152, the path of an image, or a name in TemplateFlow such as "
        "MNI152NLin2009cAsym or MNIPediatricAsym:cohort-4",
    )
    image_type = traits.Enum("T1w", "T2w", usedefault=True, desc="contrast; for TemplateFlow")
    resolution = traits.Enum(
        1,
        2,
        usedefault=True,
        desc="index of the resolution in TemplateFlow; mostly the voxel size in mm",
    )


class SelectTemplateOutputSpec(TraitedSpec):
    """Outputs of `SelectTemplate`."""

    template_file = File(exists=True, desc="image of the template")
    template_mask = File(exists=True, desc="its brain mask, if there is one")
    template = traits.Str(desc="name, with cohort")
    template_spec = traits.Dict(desc="specifications in the name, such as the resolution")


class SelectTemplate(LightInterface):
    """Select the file of a template by its name.

    Examples
    --------
    >>> getfixture("monkeypatch").chdir(getfixture("tmp_path"))
    >>> outputs = SelectTemplate(template="MNI152").run().outputs
    >>> outputs.template, outputs.template_spec
    ('MNI152', {})
    """

    input_spec = SelectTemplateInputSpec
    output_spec = SelectTemplateOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        self._list_outputs()  # fetches the template
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        from nipype_quicksilver.preprocessing.templates import find_template

        template = find_template(
            self.inputs.template,
            os.getcwd(),
            suffix=self.inputs.image_type,
            resolution=self.inputs.resolution,
        )
        outputs = {
            "template_file": str(template.image),
            "template": template.name,
            "template_spec": template.spec,
        }
        if template.mask is not None:
            outputs["template_mask"] = str(template.mask)
        return outputs
