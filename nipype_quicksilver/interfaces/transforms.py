"""Nodes that compose transforms, and resample images through them."""

from __future__ import annotations

import os
from typing import Any

from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, isdefined, traits
from nipype.utils.filemanip import split_filename

from nipype_quicksilver.interfaces.base import (
    LightInputSpec,
    LightInterface,
    itk_threads,
    output_name,
)
from nipype_quicksilver.options import APPLY_INTERPOLATIONS


class TransformsInputSpec(LightInputSpec):
    """A list of transforms in ANTs' order."""

    transforms = InputMultiObject(
        File(exists=True),
        mandatory=True,
        desc="ITK affines, composites and displacement fields; the last one is applied to an image "
        "first, and the first one is applied to a point first",
    )
    invert_transform_flags = InputMultiObject(
        traits.Bool(), desc="whether to invert each of them (affines only)"
    )

    def flags(self) -> list[bool]:
        """Return `invert_transform_flags` as a list, empty if it is not set."""
        return list(self.invert_transform_flags) if isdefined(self.invert_transform_flags) else []


class ComposeTransformsInputSpec(TransformsInputSpec):
    """Inputs of `ComposeTransforms`."""

    reference_image = File(
        exists=True, desc="image on whose grid a displacement field is written as well"
    )
    out_file = File(
        "composite.h5", usedefault=True, hash_files=False, desc="name of the composite (.h5)"
    )


class ComposeTransformsOutputSpec(TraitedSpec):
    """Outputs of `ComposeTransforms`."""

    composite_transform = File(exists=True, desc="ITK composite of all transforms")
    displacement = File(exists=True, desc="the same as a field, on the grid of reference_image")


class ComposeTransforms(LightInterface):
    """Compose transforms into one file.

    Examples
    --------
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> shift, double = np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0])
    >>> shift[:3, 3] = 1, 0, 0
    >>> folder = getfixture("tmp_path")
    >>> files = [
    ...     transforms.write_affine(folder / "shift.mat", shift),
    ...     transforms.write_affine(folder / "double.mat", double),
    ... ]
    >>> node = ComposeTransforms(transforms=files, out_file=folder / "both.h5")
    >>> both = transforms.read_transform(node.run().outputs.composite_transform)

    The shift is the first transform, and is applied to points first.

    >>> transforms.map_points(both, [[1.0, 1.0, 1.0]])
    array([[4., 2., 2.]])
    """

    input_spec = ComposeTransformsInputSpec
    output_spec = ComposeTransformsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.spatial import transforms
        from nipype_quicksilver.spatial.applying import join_transforms
        from nipype_quicksilver.spatial.grids import Grid

        outputs = self._list_outputs()
        joined = join_transforms(self.inputs.transforms, self.inputs.flags())
        transforms.write_composite(outputs["composite_transform"], joined)
        if "displacement" in outputs:
            grid = Grid.from_file(self.inputs.reference_image)
            with itk_threads(self.inputs.num_threads):
                field = transforms.displacement_on_grid(joined, grid)
            transforms.write_displacement(outputs["displacement"], field, grid)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        composite = os.path.abspath(self.inputs.out_file)
        outputs = {"composite_transform": composite}
        if isdefined(self.inputs.reference_image):
            outputs["displacement"] = output_name(composite, "_displacement")
        return outputs


class ApplyTransformsInputSpec(TransformsInputSpec):
    """Inputs of `ApplyTransforms`."""

    input_image = File(exists=True, mandatory=True, desc="image, label map or 4-D series")
    reference_image = File(
        exists=True, mandatory=True, desc="image onto whose grid the input is resampled"
    )
    interpolation = traits.Enum(
        *APPLY_INTERPOLATIONS,
        usedefault=True,
        desc="labels need GenericLabel or NearestNeighbor, which keep the data type",
    )
    default_value = traits.Float(0.0, usedefault=True, desc="value outside the input")
    output_image = File(
        hash_files=False, desc="name of the output (default: that of the input with '_trans')"
    )


class ApplyTransformsOutputSpec(TraitedSpec):
    """Outputs of `ApplyTransforms`."""

    output_image = File(exists=True, desc="the input on the grid of the reference")


class ApplyTransforms(LightInterface):
    """Resample an image once, through any number of transforms.

    Inputs and outputs are named as those of `nipype.interfaces.ants.ApplyTransforms`.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> folder = getfixture("tmp_path")
    >>> image, shift = np.zeros((4, 4, 4), np.int16), np.eye(4)
    >>> image[2, 1, 1], shift[0, 3] = 7, 1
    >>> nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "labels.nii")
    >>> node = ApplyTransforms(interpolation="GenericLabel")
    >>> node.inputs.input_image = node.inputs.reference_image = folder / "labels.nii"
    >>> node.inputs.transforms = [transforms.write_affine(folder / "shift.mat", shift)]
    >>> node.inputs.output_image = folder / "shifted.nii"
    >>> np.argwhere(nib.load(node.run().outputs.output_image).get_fdata() == 7)
    array([[1, 1, 1]])
    """

    input_spec = ApplyTransformsInputSpec
    output_spec = ApplyTransformsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.spatial.applying import apply_to_image, join_transforms

        inputs = self.inputs
        with itk_threads(inputs.num_threads):
            apply_to_image(
                inputs.input_image,
                inputs.reference_image,
                self._list_outputs()["output_image"],
                join_transforms(inputs.transforms, inputs.flags()),
                interpolation=inputs.interpolation,
                default_value=inputs.default_value,
            )
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        if isdefined(self.inputs.output_image):
            return {"output_image": os.path.abspath(self.inputs.output_image)}
        suffix = split_filename(self.inputs.input_image)[2]
        # Named as by ANTs; images are written as NIfTI only.
        suffix = suffix if suffix in (".nii", ".nii.gz") else ".nii.gz"
        return {"output_image": output_name(self.inputs.input_image, "_trans", suffix)}
