"""Commands of other programs that have no interface in Nipype."""

import os

from nipype.interfaces.base import CommandLine, CommandLineInputSpec, File, TraitedSpec, traits

from nipype_quicksilver.interfaces.preprocessing import named_after


class GreedyAffineInputSpec(CommandLineInputSpec):
    """Inputs of `GreedyAffine`."""

    fixed_image = File(exists=True, mandatory=True, argstr="-i %s", position=0, desc="fixed image")
    moving_image = File(exists=True, mandatory=True, argstr="%s", position=1, desc="moving image")
    fixed_mask = File(exists=True, argstr="-gm %s", desc="mask in fixed space")
    moving_mask = File(exists=True, argstr="-mm %s", desc="mask in moving space")
    dof = traits.Enum(12, 6, 7, usedefault=True, argstr="-dof %d", desc="degrees of freedom")
    out_file = File(
        "greedy_affine.txt", usedefault=True, hash_files=False, argstr="-o %s", desc="matrix"
    )
    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, argstr="-threads %d", desc="threads"
    )


class GreedyAffineOutputSpec(TraitedSpec):
    """Outputs of `GreedyAffine`."""

    out_file = File(exists=True, desc="matrix in world coordinates, fixed to moving points")


class GreedyAffine(CommandLine):
    """Align two brains with greedy.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> GreedyAffine(fixed_image=fixed, moving_image=moving).cmdline
    'greedy -d 3 -a -m NCC 4x4x4 -n 100x50x10 -ia-image-centers -i /...fixed.nii.gz
    /...moving.nii.gz -dof 12 -threads 1 -o greedy_affine.txt'
    """

    _cmd = "greedy -d 3 -a -m NCC 4x4x4 -n 100x50x10 -ia-image-centers"
    input_spec = GreedyAffineInputSpec
    output_spec = GreedyAffineOutputSpec

    def _list_outputs(self):
        return {"out_file": os.path.abspath(self.inputs.out_file)}


class SynthStripInputSpec(CommandLineInputSpec):
    """Inputs of `SynthStrip`."""

    in_file = File(exists=True, mandatory=True, argstr="-i %s", desc="image of a head")
    out_file = named_after("in_file", "%s_brain.nii.gz", "out_file", "-o %s", "name of the brain")
    out_mask = named_after(
        "in_file", "%s_brainmask.nii.gz", "out_mask", "-m %s", "name of the mask"
    )
    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, argstr="-t %d", desc="threads"
    )


class SynthStripOutputSpec(TraitedSpec):
    """Outputs of `SynthStrip`."""

    out_file = File(exists=True, desc="the image, zero outside the brain")
    out_mask = File(exists=True, desc="brain mask")


class SynthStrip(CommandLine):
    """Find a brain with FreeSurfer's SynthStrip.

    Examples
    --------
    >>> head = getfixture("tmp_path") / "head.nii.gz"
    >>> head.touch()
    >>> SynthStrip(in_file=head).cmdline
    'mri_synthstrip -i /...head.nii.gz -t 1 -o head_brain.nii.gz -m head_brainmask.nii.gz'
    """

    _cmd = "mri_synthstrip"
    input_spec = SynthStripInputSpec
    output_spec = SynthStripOutputSpec
