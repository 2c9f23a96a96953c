"""Nodes for what comes before a registration."""

from nipype.interfaces.base import File, TraitedSpec, traits

from nipype_quicksilver.interfaces.base import CommandInputSpec, QuicksilverCommand

DOF = (12, 6, 7, 9)  # the default first


def _named_after(source, template, output, argstr, desc):
    """Return an input that is the name of an output."""
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
        exists=True, mandatory=True, argstr="--fixed %s", desc="brain that stays where it is"
    )
    moving_image = File(
        exists=True, mandatory=True, argstr="--moving %s", desc="brain that is aligned"
    )
    fixed_image_mask = File(
        exists=True, argstr="--fixed-mask %s", desc="brain of the fixed image; else what is not 0"
    )
    moving_image_mask = File(
        exists=True, argstr="--moving-mask %s", desc="brain of the moving image; else what is not 0"
    )
    initial_moving_transform = File(
        exists=True,
        argstr="--initial %s",
        desc="ITK affine to start from; many rotations are tried otherwise",
    )
    dof = traits.Enum(
        *DOF,
        usedefault=True,
        argstr="--dof %d",
        desc="6: rigid; 7: and one scale; 9: and a scale along each axis; 12: affine",
    )
    out_transform = _named_after(
        "moving_image",
        "%s_affine.mat",
        "affine_transform",
        "--output %s",
        "name of the transform",
    )
    out_inverse = _named_after(
        "moving_image",
        "%s_inverse_affine.mat",
        "inverse_affine_transform",
        "--output-inverse %s",
        "name of the inverse transform",
    )
    out_image = _named_after(
        "moving_image",
        "%s_aligned.nii.gz",
        "warped_image",
        "--output-image %s",
        "name of the moving image on the fixed grid",
    )
    out_summary = _named_after(
        "moving_image", "%s_affine.json", "summary", "--output-json %s", "name of the summary"
    )


class AffineRegistrationOutputSpec(TraitedSpec):
    """Outputs of `AffineRegistration`."""

    affine_transform = File(exists=True, desc="ITK affine, maps fixed to moving points")
    inverse_affine_transform = File(exists=True, desc="its inverse")
    warped_image = File(exists=True, desc="moving image on the fixed image's grid")
    summary = File(exists=True, desc="similarity, rotation and scales (JSON)")


class AffineRegistration(QuicksilverCommand):
    """Find the affine between two brains, of the same or of different contrasts.

    The output is what `QuicksilverRegistration` takes as `initial_moving_transform`.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> AffineRegistration(fixed_image=fixed, moving_image=moving, dof=9).cmdline
    '...affine --dof 9 --fixed /...fixed.nii.gz --moving /...moving.nii.gz --num-threads 1
    --output-image moving_aligned.nii.gz --output-inverse moving_inverse_affine.mat
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
    mask = File(exists=True, argstr="--mask %s", desc="a mask that there is: used as it is")
    threshold = traits.Range(
        low=0.0,
        high=1.0,
        value=0.5,
        exclude_low=True,
        exclude_high=True,
        usedefault=True,
        argstr="--threshold %g",
        desc="probability from which a voxel is brain",
    )
    n_dilate = traits.Int(
        0,
        usedefault=True,
        argstr="--n-dilate %d",
        desc="layers of voxels to add to the mask, or to take away if negative",
    )
    out_mask = _named_after(
        "in_file", "%s_brainmask.nii.gz", "out_mask", "--output-mask %s", "name of the mask"
    )
    out_file = _named_after(
        "in_file", "%s_brain.nii.gz", "out_file", "--output %s", "name of the brain"
    )
    out_summary = _named_after(
        "in_file", "%s_brain.json", "summary", "--output-json %s", "name of the summary"
    )


class BrainExtractionOutputSpec(TraitedSpec):
    """Outputs of `BrainExtraction`."""

    out_file = File(exists=True, desc="the image, zero outside the brain")
    out_mask = File(exists=True, desc="brain mask on the image's grid")
    summary = File(exists=True, desc="how the brain was found, and its volume (JSON)")


class BrainExtraction(QuicksilverCommand):
    """Find the brain in an image of a head; leave a brain without skull alone.

    Examples
    --------
    >>> head = getfixture("tmp_path") / "head.nii.gz"
    >>> head.touch()
    >>> BrainExtraction(in_file=head, n_dilate=1).cmdline
    '...extract-brain --input /...head.nii.gz --n-dilate 1 --num-threads 1
    --output head_brain.nii.gz --output-mask head_brainmask.nii.gz
    --output-json head_brain.json --threshold 0.5 --device cpu'
    """

    _cmd = "extract-brain"
    input_spec = BrainExtractionInputSpec
    output_spec = BrainExtractionOutputSpec
