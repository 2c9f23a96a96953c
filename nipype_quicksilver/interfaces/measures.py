"""Nodes that measure a registration."""

import json
import os
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.errors import naming
from nipype_quicksilver.interfaces.base import (
    LightInputSpec,
    LightInterface,
    itk_threads,
    output_name,
)


class LabelOverlapInputSpec(BaseInterfaceInputSpec):
    """Inputs of `LabelOverlap`."""

    fixed_labels = File(exists=True, mandatory=True, desc="labels of the fixed image")
    warped_labels = File(
        exists=True, mandatory=True, desc="labels of the moving image, on the same grid"
    )
    labels = traits.List(traits.Int(), minlen=1, desc="labels to compare (default: all but 0)")
    out_file = File(
        "overlap.json", usedefault=True, hash_files=False, desc="name of the output (JSON)"
    )


class LabelOverlapOutputSpec(TraitedSpec):
    """Outputs of `LabelOverlap`."""

    out_file = File(exists=True, desc="all values, also of each label (JSON)")
    dice = traits.Float(desc="mean Dice coefficient over labels")
    jaccard = traits.Float(desc="mean Jaccard coefficient over labels")
    target_overlap = traits.Float(
        desc="mean fraction of a fixed label that the warped label covers"
    )


class LabelOverlap(LightInterface):
    """Compare warped labels with those of the fixed image.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> fixed, warped = np.zeros((2, 4, 4, 4), np.uint8)
    >>> fixed[1:3, 1, 1], warped[2:4, 1, 1] = 5, 5
    >>> nib.save(nib.Nifti1Image(fixed, np.eye(4)), folder / "fixed.nii")
    >>> nib.save(nib.Nifti1Image(warped, np.eye(4)), folder / "warped.nii")
    >>> node = LabelOverlap(out_file=folder / "overlap.json")
    >>> node.inputs.fixed_labels = folder / "fixed.nii"
    >>> node.inputs.warped_labels = folder / "warped.nii"
    >>> node.run().outputs.dice
    0.5
    """

    input_spec = LabelOverlapInputSpec
    output_spec = LabelOverlapOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.spatial import images, measures
        from nipype_quicksilver.spatial.files import write_json
        from nipype_quicksilver.spatial.records import as_json

        overlap = measures.label_overlap(
            images.read_labels(self.inputs.fixed_labels, what="fixed labels"),
            images.read_labels(self.inputs.warped_labels, what="warped labels"),
            self.inputs.labels if isdefined(self.inputs.labels) else None,
        )
        write_json(os.path.abspath(self.inputs.out_file), as_json(overlap))
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        out_file = os.path.abspath(self.inputs.out_file)
        return {"out_file": out_file, **_numbers(_read_json(out_file).get("mean", {}))}


class JacobianSummaryInputSpec(LightInputSpec):
    """Inputs of `JacobianSummary`."""

    displacement = File(exists=True, mandatory=True, desc="displacement field (5-D NIfTI)")
    mask = File(exists=True, desc="voxels to measure (default: all); resampled to the field's grid")
    out_file = File(
        "jacobian.json", usedefault=True, hash_files=False, desc="name of the output (JSON)"
    )


class JacobianSummaryOutputSpec(TraitedSpec):
    """Outputs of `JacobianSummary`."""

    log_jacobian = File(
        exists=True, desc="log of the Jacobian determinant, on the field's grid; NaN in folds"
    )
    out_file = File(exists=True, desc="all values, also of the log-Jacobian (JSON)")
    voxels = traits.Int(desc="number of voxels that were measured")
    folded = traits.Int(
        desc="number of voxels where any of eight one-sided determinants is not positive"
    )
    folded_percent = traits.Float(desc="the same number in per cent of the voxels")
    minimum = traits.Float(desc="smallest of the eight determinants over the voxels")


class JacobianSummary(LightInterface):
    """Count the folds of a displacement field and summarise its volume changes.

    Examples
    --------
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> from nipype_quicksilver.spatial.grids import Grid
    >>> folder = getfixture("tmp_path")
    >>> getfixture("monkeypatch").chdir(folder)
    >>> grid = Grid((4, 4, 4), np.eye(4))
    >>> field = 0.1 * grid.coordinates()
    >>> node = JacobianSummary()
    >>> node.inputs.displacement = transforms.write_displacement(folder / "u.nii", field, grid)
    >>> outputs = node.run().outputs
    >>> outputs.folded, round(outputs.minimum, 3)
    (0, 1.331)
    """

    input_spec = JacobianSummaryInputSpec
    output_spec = JacobianSummaryOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.spatial import images, jacobians, resampling, transforms
        from nipype_quicksilver.spatial.files import write_json
        from nipype_quicksilver.spatial.records import as_json

        field, grid = transforms.read_displacement(self.inputs.displacement)
        inside = None
        if isdefined(self.inputs.mask):
            mask = images.read_mask(self.inputs.mask)
            with itk_threads(self.inputs.num_threads):
                inside = resampling.resample(mask, grid, interpolation="NearestNeighbor")
        logs = jacobians.log_jacobian(field, grid)
        with naming(self.inputs.mask if inside is not None else self.inputs.displacement):
            summary = jacobians.jacobian_summary(field, grid, inside, logs)
        outputs = self._list_outputs()
        write_json(outputs["out_file"], as_json(summary))
        images.write_image(outputs["log_jacobian"], logs, grid.affine)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        out_file = os.path.abspath(self.inputs.out_file)
        return {
            "out_file": out_file,
            "log_jacobian": os.path.abspath("log_jacobian.nii.gz"),
            **_numbers(_read_json(out_file)),
        }


class UncertaintyOnImageInputSpec(LightInputSpec):
    """Inputs of `UncertaintyOnImage`."""

    in_file = File(
        exists=True,
        mandatory=True,
        desc="uncertainty on the working grid, mm, or the variances of its components, mm^2 (4-D)",
    )
    affine = File(
        exists=True,
        mandatory=True,
        desc="ITK affine that maps points of the working grid to points of the image",
    )
    reference_image = File(exists=True, mandatory=True, desc="the image")


class UncertaintyOnImageOutputSpec(TraitedSpec):
    """Outputs of `UncertaintyOnImage`."""

    out_file = File(exists=True, desc="the uncertainty on the image's grid, in mm or mm^2 there")


class UncertaintyOnImage(LightInterface):
    """Resample an uncertainty from the working grid to the grid of an image.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> folder = getfixture("tmp_path")
    >>> getfixture("monkeypatch").chdir(folder)
    >>> nib.save(nib.Nifti1Image(np.full((8, 8, 8), 4.0, np.float32), np.eye(4)), folder / "u.nii")
    >>> fine = np.diag([0.5, 0.5, 0.5, 1])
    >>> nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.uint8), fine), folder / "t2w.nii")
    >>> half = transforms.write_affine(folder / "half.mat", fine)
    >>> node = UncertaintyOnImage(in_file=folder / "u.nii", affine=half)
    >>> node.inputs.reference_image = folder / "t2w.nii"
    >>> float(nib.load(node.run().outputs.out_file).get_fdata()[4, 4, 4])
    2.0
    """

    input_spec = UncertaintyOnImageInputSpec
    output_spec = UncertaintyOnImageOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.registration.warping import uncertainty_on_image
        from nipype_quicksilver.spatial import images, transforms
        from nipype_quicksilver.spatial.grids import Grid

        shape, like = images.read_header(self.inputs.reference_image)
        with itk_threads(self.inputs.num_threads):
            data = uncertainty_on_image(
                images.read_series(self.inputs.in_file),
                transforms.read_affine(self.inputs.affine),
                Grid(shape, like.affine),
            )
        images.write_image(self._list_outputs()["out_file"], data, like.affine, like=like)
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        return {"out_file": output_name(self.inputs.in_file, "_resampled")}


class TransformDistanceInputSpec(LightInputSpec):
    """Inputs of `TransformDistance`."""

    first_transform = File(
        exists=True, mandatory=True, desc="affine, composite or displacement field"
    )
    second_transform = File(
        exists=True, mandatory=True, desc="another transform between the same images"
    )
    mask = File(
        exists=True,
        mandatory=True,
        desc="voxels to map, such as a brain mask of the fixed image",
    )
    out_file = File(
        "distance.json", usedefault=True, hash_files=False, desc="name of the output (JSON)"
    )


class TransformDistanceOutputSpec(TraitedSpec):
    """Outputs of `TransformDistance`; millimetres."""

    out_file = File(exists=True, desc="all values (JSON)")
    voxels = traits.Int(desc="number of voxels that were measured")
    mean = traits.Float(desc="mean distance between the two points to which a voxel is mapped")
    p99 = traits.Float(desc="99th percentile of the distance")
    max = traits.Float(desc="largest distance")


class TransformDistance(LightInterface):
    """Measure the distance between two transforms over the voxels of a mask.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> folder = getfixture("tmp_path")
    >>> nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), folder / "mask.nii")
    >>> shift = np.eye(4)
    >>> shift[0, 3] = 2
    >>> node = TransformDistance(mask=folder / "mask.nii", out_file=folder / "distance.json")
    >>> node.inputs.first_transform = transforms.write_affine(folder / "nothing.mat", np.eye(4))
    >>> node.inputs.second_transform = transforms.write_affine(folder / "shift.mat", shift)
    >>> node.run().outputs.mean
    2.0
    """

    input_spec = TransformDistanceInputSpec
    output_spec = TransformDistanceOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.spatial import images, measures, transforms
        from nipype_quicksilver.spatial.files import write_json
        from nipype_quicksilver.spatial.records import as_json

        with itk_threads(self.inputs.num_threads):
            distance = measures.transform_distance(
                transforms.read_transform(self.inputs.first_transform),
                transforms.read_transform(self.inputs.second_transform),
                images.read_mask(self.inputs.mask),
            )
        write_json(os.path.abspath(self.inputs.out_file), as_json(distance))
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        out_file = os.path.abspath(self.inputs.out_file)
        return {"out_file": out_file, **_numbers(_read_json(out_file))}


def _read_json(path: str) -> dict[str, Any]:
    """Return the content of an output; empty before the node has run."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Return the numbers among the values."""
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}
