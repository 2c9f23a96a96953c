"""The node that registers a pair of images in one step."""

import os

from nipype.interfaces.base import Directory, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import QuicksilverCommand, SeededInputSpec
from nipype_quicksilver.interfaces.lddmm import SIMILARITIES, NetworksInputSpec
from nipype_quicksilver.interfaces.transforms import INTERPOLATIONS
from nipype_quicksilver.options import DEFAULT_METHOD, METHODS

_OF_IMAGES = [name for name in INTERPOLATIONS if not name.endswith("Label")]

# Outputs and their files in the folder of the outputs.
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


class QuicksilverRegistrationInputSpec(SeededInputSpec, NetworksInputSpec):
    """Inputs of `QuicksilverRegistration`."""

    fixed_image = File(
        exists=True, mandatory=True, argstr="--fixed %s", desc="image that stays where it is"
    )
    moving_image = File(
        exists=True, mandatory=True, argstr="--moving %s", desc="image that is warped"
    )
    fixed_image_mask = File(
        exists=True, argstr="--fixed-mask %s", desc="brain of the fixed image; found otherwise"
    )
    moving_image_mask = File(
        exists=True, argstr="--moving-mask %s", desc="brain of the moving image; found otherwise"
    )
    fixed_lesion_mask = File(
        exists=True,
        argstr="--fixed-lesion-mask %s",
        desc="what has no counterpart in the moving image",
    )
    moving_lesion_mask = File(
        exists=True,
        argstr="--moving-lesion-mask %s",
        desc="what has no counterpart in the fixed image",
    )
    fixed_labels = File(
        exists=True,
        argstr="--fixed-labels %s",
        requires=["moving_labels"],
        desc="labels of the fixed image, to measure the overlap",
    )
    moving_labels = File(
        exists=True, argstr="--moving-labels %s", desc="labels of the moving image, to warp"
    )
    initial_moving_transform = File(
        exists=True,
        argstr="--affine %s",
        xor=["affine"],
        desc="ITK affine that maps fixed to moving points, as ANTs and ITK write it",
    )
    affine = traits.Enum(
        "simpleitk",
        "none",
        argstr="--affine %s",
        xor=["initial_moving_transform"],
        desc="find an affine first (default), or leave the alignment to the headers",
    )
    template = traits.Either(
        traits.Enum("auto", "MNI152", "none"),
        File(exists=True),
        argstr="--template %s",
        desc="template on whose grid the images are compared; none: in the world of the fixed "
        "image; auto (default): MNI152 where an affine is found and the brains fit it",
    )
    brain_extraction = traits.Enum(
        "deepbet",
        "none",
        usedefault=True,
        argstr="--brain-extraction %s",
        desc="how brains without mask are found; images without skull are left alone",
    )
    method = traits.Enum(
        DEFAULT_METHOD,
        METHODS,
        usedefault=True,
        argstr="--method %s",
        desc="where the momentum comes from: networks that predict and correct it, which may be "
        "refined, or optimisation only",
    )
    corrections = traits.Range(
        low=1,
        argstr="--corrections %d",
        desc="times that the prediction is corrected, for correct and refine; once otherwise",
    )
    uncertainty_components = traits.Bool(
        argstr="--uncertainty-components",
        requires=["n_samples"],
        desc="also give the variances of the displacement along x, y and z",
    )
    similarity = traits.Enum(
        *SIMILARITIES,
        argstr="--similarity %s",
        desc="how images are compared, for refine and optimize; by local correlation otherwise",
    )
    iterations = traits.List(
        traits.Range(low=0),
        minlen=1,
        argstr="--iterations %s",
        desc="iterations of each stage, coarse to fine",
    )
    interpolation = traits.Enum(
        *_OF_IMAGES,
        usedefault=True,
        argstr="--interpolation %s",
        desc="of the warped images; labels are warped as such",
    )
    output_dir = Directory(
        "registration", usedefault=True, argstr="--output-dir %s", desc="folder of the outputs"
    )


class QuicksilverRegistrationOutputSpec(TraitedSpec):
    """Outputs of `QuicksilverRegistration`."""

    composite_transform = File(exists=True, desc="maps fixed to moving points; warps the moving")
    inverse_composite_transform = File(
        exists=True, desc="maps moving to fixed points; warps the fixed image"
    )
    warped_image = File(exists=True, desc="moving image on the fixed image's grid")
    inverse_warped_image = File(exists=True, desc="fixed image on the moving image's grid")
    forward_transforms = traits.List(
        File(exists=True), desc="transforms that warp the moving image: the composite"
    )
    reverse_forward_transforms = traits.List(
        File(exists=True), desc="the same in the order of antsApplyTransforms"
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
        desc="how far off the displacement may be, mm, on the fixed grid; with n_samples",
    )
    uncertainty_components = File(
        exists=True, desc="its variances along x, y and z, mm^2; where they are asked for"
    )
    summary = File(exists=True, desc="measures of the registration (JSON)")


class QuicksilverRegistration(QuicksilverCommand):
    """Register a moving image to a fixed image.

    Inputs and outputs are named, and transforms ordered, as those of
    `nipype.interfaces.ants.Registration`. The composites hold the initial transform too.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> node = QuicksilverRegistration(fixed_image=fixed, moving_image=moving, random_seed=1)
    >>> node.cmdline
    '...register --brain-extraction deepbet --fixed /...fixed.nii.gz --interpolation Linear
    --method correct --moving /...moving.nii.gz --num-threads 1 --output-dir registration --seed 1
    --device cpu'
    """

    _cmd = "register"
    input_spec = QuicksilverRegistrationInputSpec
    output_spec = QuicksilverRegistrationOutputSpec

    def _list_outputs(self):
        folder = os.path.abspath(self.inputs.output_dir)
        outputs = {name: os.path.join(folder, file) for name, file in _FILES.items()}
        for name, given in (
            ("warped_labels", self.inputs.moving_labels),
            ("uncertainty", self.inputs.n_samples),
            ("uncertainty_components", self.inputs.uncertainty_components),
        ):
            if isdefined(given) and given:
                outputs[name] = os.path.join(folder, f"{name}.nii.gz")
        forward = [outputs["composite_transform"]]
        reverse = [outputs["inverse_composite_transform"]]
        # A composite is never inverted: the inverse is the other file.
        return {
            **outputs,
            "forward_transforms": forward,
            "forward_invert_flags": [False],
            "reverse_forward_transforms": forward,
            "reverse_forward_invert_flags": [False],
            "reverse_transforms": reverse,
            "reverse_invert_flags": [False],
        }
