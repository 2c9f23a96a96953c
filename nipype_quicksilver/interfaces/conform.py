"""Nodes that resample images onto the working grid and normalise their intensities."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from nipype_quicksilver.errors import naming
from nipype_quicksilver.interfaces.base import (
    LightInputSpec,
    LightInterface,
    itk_threads,
    output_name,
)

if TYPE_CHECKING:
    import numpy as np
    from nibabel.nifti1 import Nifti1Image

    from nipype_quicksilver.spatial.grids import Grid


class ConformToGridInputSpec(LightInputSpec):
    """Inputs of `ConformToGrid`."""

    in_file = File(exists=True, mandatory=True, desc="image, on its native grid")
    mask = File(
        exists=True,
        desc="its brain mask, on any grid in the same world space (default: nonzero voxels)",
    )
    lesion_mask = File(
        exists=True, desc="lesion mask, on any grid too; the lesion is filled in the output"
    )
    reference_image = File(
        exists=True,
        xor=["include_image"],
        desc="image on the working grid (default: a new grid is made)",
    )
    affine = InputMultiPath(
        File(exists=True),
        requires=["reference_image"],
        desc="ITK affines that map points of the working grid to points of the image; the first "
        "one is applied first",
    )
    include_image = File(
        exists=True,
        xor=["reference_image"],
        desc="another image, such as the moving image, whose brain a new grid encloses as well",
    )
    include_mask = File(exists=True, requires=["include_image"], desc="brain mask of that image")
    include_affine = File(
        exists=True,
        requires=["include_image"],
        desc="ITK affine that maps points of the image to points of that image",
    )


class ConformToGridOutputSpec(TraitedSpec):
    """Outputs of `ConformToGrid`."""

    out_file = File(exists=True, desc="image on the working grid, its lesion filled")
    out_mask = File(exists=True, desc="brain mask on the working grid")
    out_lesion_mask = File(
        exists=True, desc="lesion mask on the working grid, if it covers a voxel there"
    )
    native_mask = File(exists=True, desc="brain mask on the grid of the image")
    out_affine = File(
        exists=True, desc="ITK affine that maps points of the working grid to points of the image"
    )


class ConformToGrid(LightInterface):
    """Resample an image and its masks onto the working grid, each once.

    Without `reference_image`, a new grid is made: 1 mm, RAS, around the brain, and around the brain
    of `include_image` if it is set. Brains smaller than any human one, such as those of animals,
    are enlarged to the size of a newborn's on it, and `out_affine` reduces them again. With
    `reference_image`, the image is resampled onto the grid of that image, through `affine` if it is
    set.

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

    def _run_interface(self, runtime: Any) -> Any:
        import numpy as np

        from nipype_quicksilver.spatial import brains, conforming, images, resampling, transforms

        inputs, outputs = self.inputs, self._names()
        image = images.read_image(inputs.in_file)
        mask = _read(images.read_mask, inputs.mask)
        lesion_mask = _read(images.read_mask, inputs.lesion_mask)
        matrix = _matrix(*(inputs.affine if isdefined(inputs.affine) else []))
        with itk_threads(inputs.num_threads):
            brain = brains.native_brain(image, mask)
            grid, to_image = self._grid(image, mask, brain)
            matrix = matrix @ to_image
            inside = conforming.conform_mask(mask or brain, grid, matrix)
            lesion = conforming.conform_lesion(lesion_mask, image, grid, matrix)
            data = resampling.conform(image, grid, matrix)
        if isdefined(inputs.reference_image):
            conforming.check_enclosed(brain, grid, matrix)
        data = conforming.fill_lesion(data, inside, lesion, image)
        images.write_image(outputs["out_file"], data, grid.affine)
        images.write_image(outputs["out_mask"], inside, grid.affine)
        if lesion is not None and lesion.any():
            images.write_image(outputs["out_lesion_mask"], lesion, grid.affine)
        data = np.asanyarray(brain.dataobj)
        images.write_image(outputs["native_mask"], data, image.affine, like=image)
        transforms.write_affine(outputs["out_affine"], matrix)
        return runtime

    def _grid(
        self, image: Nifti1Image, mask: Nifti1Image | None, brain: Nifti1Image
    ) -> tuple[Grid, np.ndarray]:
        """Return the working grid, and the matrix from its world to that of the image."""
        import numpy as np

        from nipype_quicksilver.spatial import brains, conforming, grids, images
        from nipype_quicksilver.spatial.magnification import magnification, magnified, scaling

        inputs = self.inputs
        if isdefined(inputs.reference_image):
            return grids.Grid.from_file(inputs.reference_image), np.eye(4)
        factor = magnification(image, mask)
        larger, to_image = magnified(brain, factor), scaling(1 / factor)
        if not isdefined(inputs.include_image):
            return grids.working_grid(larger), to_image
        other = images.read_image(inputs.include_image)
        other_brain = brains.native_brain(other, _read(images.read_mask, inputs.include_mask))
        matrix = _matrix(*([inputs.include_affine] if isdefined(inputs.include_affine) else []))
        grids.check_overlap(brain, other_brain, matrix)
        grid = conforming.joint_grid(
            larger, magnified(other_brain, factor), scaling(factor) @ matrix @ to_image
        )
        return grid, to_image

    def _names(self) -> dict[str, str]:
        """Return the paths of all outputs."""
        names = {
            "out_file": "_conformed",
            "out_mask": "_conformed_mask",
            "out_lesion_mask": "_conformed_lesion",
            "native_mask": "_mask",
        }
        outputs = {name: output_name(self.inputs.in_file, end) for name, end in names.items()}
        return {**outputs, "out_affine": output_name(self.inputs.in_file, "_conformed", ".mat")}

    def _list_outputs(self) -> dict[str, str]:
        outputs = self._names()
        if not os.path.exists(outputs["out_lesion_mask"]):
            del outputs["out_lesion_mask"]
        return outputs


def _read(reader: Callable[[str], Nifti1Image], path: Any) -> Nifti1Image | None:
    """Return the image of an input; None if the input is not set."""
    return reader(path) if isdefined(path) else None


def _matrix(*paths: str) -> np.ndarray:
    """Return the product of affines; the first one is applied first."""
    import numpy as np

    from nipype_quicksilver.spatial import transforms

    matrix = np.eye(4)
    for path in paths:
        matrix = transforms.read_affine(path) @ matrix
    return matrix


class NormalizeIntensityInputSpec(BaseInterfaceInputSpec):
    """Inputs of `NormalizeIntensity`."""

    in_file = File(exists=True, mandatory=True, desc="image")
    mask = File(exists=True, desc="brain mask on the same grid (default: nonzero voxels)")
    percentile = traits.Range(
        low=50.0,
        high=100.0,
        value=99.5,
        usedefault=True,
        desc="percentile inside the mask that is scaled to 1",
    )
    equalize = traits.Bool(
        False, usedefault=True, desc="also equalise the histogram inside the mask"
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

    def _run_interface(self, runtime: Any) -> Any:
        import numpy as np

        from nipype_quicksilver.spatial import grids, images, intensity

        image = images.read_image(self.inputs.in_file)
        mask = _read(images.read_mask, self.inputs.mask)
        if mask is not None:
            grids.check_same_grid(image, mask)
        with naming(self.inputs.in_file):
            normalized = intensity.normalize(
                np.asanyarray(image.dataobj),
                None if mask is None else np.asanyarray(mask.dataobj),
                percentile=self.inputs.percentile,
                equalize=self.inputs.equalize,
            )
        images.write_image(self._list_outputs()["out_file"], normalized, image.affine, like=image)
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        return {"out_file": output_name(self.inputs.in_file, "_normalized")}
