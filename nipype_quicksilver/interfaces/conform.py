"""Nodes that bring images to the working grid and its intensities."""

from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import (
    LightInputSpec,
    LightInterface,
    itk_threads,
    output_name,
)


class ConformToGridInputSpec(LightInputSpec):
    """Inputs of `ConformToGrid`."""

    in_file = File(exists=True, mandatory=True, desc="image, on its native grid")
    mask = File(exists=True, desc="its brain mask, on any grid in the same world space")
    reference_image = File(
        exists=True, desc="image on the working grid; a new one is laid around the brain otherwise"
    )
    lesion_mask = File(exists=True, desc="a second mask in the world space of the image")
    affine = File(
        exists=True,
        requires=["reference_image"],
        desc="ITK affine that maps points of the working grid to points of the image",
    )


class ConformToGridOutputSpec(TraitedSpec):
    """Outputs of `ConformToGrid`."""

    out_file = File(exists=True, desc="image on the working grid")
    out_mask = File(exists=True, desc="mask on the working grid; what is not 0 if none was given")
    out_lesion_mask = File(exists=True, desc="lesion mask on the working grid")
    out_affine = File(exists=True, desc="the affine; the identity if none was given")


class ConformToGrid(LightInterface):
    """Bring an image and its masks to the working grid, in one resampling from its native grid.

    Without `reference_image` the grid is made: 1 mm, RAS, around the brain. With it, the image
    comes to the grid of that image, through an affine if there is one.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> getfixture("monkeypatch").chdir(folder)
    >>> data = np.zeros((8, 8, 8), np.int16)
    >>> data[2:6, 2:6, 2:6] = 100
    >>> nib.save(nib.Nifti1Image(data, np.diag([-3.0, 3.0, 3.0, 1.0])), folder / "t1w.nii")
    >>> outputs = ConformToGrid(in_file=folder / "t1w.nii").run().outputs
    >>> nib.load(outputs.out_file).shape
    (32, 32, 32)
    >>> "".join(nib.aff2axcodes(nib.load(outputs.out_mask).affine))
    'RAS'
    """

    input_spec = ConformToGridInputSpec
    output_spec = ConformToGridOutputSpec

    def _run_interface(self, runtime):
        import numpy as np

        from nipype_quicksilver.spatial import grids, images, intensity, resampling, transforms

        inputs, outputs = self.inputs, self._list_outputs()
        image = images.read_image(inputs.in_file)
        mask = images.read_mask(inputs.mask) if isdefined(inputs.mask) else None
        matrix = transforms.read_affine(inputs.affine) if isdefined(inputs.affine) else np.eye(4)
        if isdefined(inputs.reference_image):
            grid = grids.Grid.from_file(inputs.reference_image)
        else:
            grid = grids.working_grid(mask or image)
        with itk_threads(inputs.num_threads):
            data = resampling.conform(image, grid, matrix)
            inside = intensity.foreground(data) if mask is None else _on_grid(mask, grid, matrix)
            images.write_image(outputs["out_file"], data, grid.affine)
            images.write_image(outputs["out_mask"], inside, grid.affine)
            if isdefined(inputs.lesion_mask):
                lesion = _on_grid(images.read_mask(inputs.lesion_mask), grid, matrix)
                images.write_image(outputs["out_lesion_mask"], lesion, grid.affine)
        transforms.write_affine(outputs["out_affine"], matrix)
        return runtime

    def _list_outputs(self):
        postfixes = {"out_file": "_conformed", "out_mask": "_conformed_mask"}
        if isdefined(self.inputs.lesion_mask):
            postfixes["out_lesion_mask"] = "_conformed_lesion"
        outputs = {
            name: output_name(self.inputs.in_file, postfix) for name, postfix in postfixes.items()
        }
        outputs["out_affine"] = output_name(self.inputs.in_file, "_conformed", ".mat")
        return outputs


class NormalizeIntensityInputSpec(LightInputSpec):
    """Inputs of `NormalizeIntensity`."""

    in_file = File(exists=True, mandatory=True, desc="image")
    mask = File(exists=True, desc="brain mask on the same grid; what is not 0 otherwise")
    percentile = traits.Range(
        low=50.0,
        high=100.0,
        value=99.5,
        usedefault=True,
        desc="percentile inside the mask that becomes 1",
    )
    equalize = traits.Bool(
        False, usedefault=True, desc="equalise the histogram inside the mask as well"
    )


class NormalizeIntensityOutputSpec(TraitedSpec):
    """Outputs of `NormalizeIntensity`."""

    out_file = File(exists=True, desc="image from 0 to 1.5; 0 outside the mask")


class NormalizeIntensity(LightInterface):
    """Scale an image so that its robust maximum inside a mask is 1.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> getfixture("monkeypatch").chdir(folder)
    >>> data = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    >>> nib.save(nib.Nifti1Image(data, np.eye(4)), folder / "t1w.nii")
    >>> outputs = NormalizeIntensity(in_file=folder / "t1w.nii", percentile=50).run().outputs
    >>> nib.load(outputs.out_file).get_fdata().ravel()[[0, 16, 32, 63]]
    array([0. , 0.5, 1. , 1.5])
    """

    input_spec = NormalizeIntensityInputSpec
    output_spec = NormalizeIntensityOutputSpec

    def _run_interface(self, runtime):
        import numpy as np

        from nipype_quicksilver.spatial import images, intensity

        image = images.read_image(self.inputs.in_file)
        mask = None
        if isdefined(self.inputs.mask):
            inside = images.read_mask(self.inputs.mask)
            images.check_same_grid(image, inside)
            mask = np.asanyarray(inside.dataobj)
        normalized = intensity.normalize(
            np.asanyarray(image.dataobj),
            mask,
            percentile=self.inputs.percentile,
            equalize=self.inputs.equalize,
        )
        images.write_image(self._list_outputs()["out_file"], normalized, image.affine, like=image)
        return runtime

    def _list_outputs(self):
        return {"out_file": output_name(self.inputs.in_file, "_normalized")}


def _on_grid(mask, grid, matrix):
    """Return a mask on a grid."""
    from nipype_quicksilver.spatial import resampling, transforms

    to_mask = transforms.affine_transform(matrix)
    return resampling.resample(mask, grid, to_mask, interpolation="NearestNeighbor")
