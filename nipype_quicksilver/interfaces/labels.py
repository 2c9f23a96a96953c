"""Nodes for label maps of several atlases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    TraitedSpec,
    isdefined,
    traits,
)

from nipype_quicksilver.interfaces.base import LightInterface
from nipype_quicksilver.options import FUSIONS

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image


class FuseLabelsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `FuseLabels`."""

    in_labels = InputMultiObject(
        File(exists=True), mandatory=True, desc="label maps of the atlases, on one grid"
    )
    method = traits.Enum(
        *FUSIONS,
        usedefault=True,
        desc="; ".join(f"{name}: {text}" for name, text in FUSIONS.items()),
    )
    target_image = File(exists=True, desc="image to label; for 'weighted'")
    in_images = InputMultiObject(
        File(exists=True), desc="image of each atlas on the same grid; for 'weighted'"
    )
    out_file = File(
        "fused_dseg.nii.gz", usedefault=True, hash_files=False, desc="name of the output"
    )


class FuseLabelsOutputSpec(TraitedSpec):
    """Outputs of `FuseLabels`."""

    out_file = File(exists=True, desc="one label map")


class FuseLabels(LightInterface):
    """Fuse label maps on one grid into one.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> for number, label in enumerate((7, 9, 9)):
    ...     data = np.full((4, 4, 4), label, np.uint8)
    ...     nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"{number}.nii")
    >>> node = FuseLabels(method="majority", out_file=folder / "fused.nii.gz")
    >>> node.inputs.in_labels = sorted(folder.glob("?.nii"))
    >>> int(nib.load(node.run().outputs.out_file).dataobj[0, 0, 0])
    9
    """

    input_spec = FuseLabelsInputSpec
    output_spec = FuseLabelsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import numpy as np

        from nipype_quicksilver.spatial import fusion, images

        inputs = self.inputs
        target: Nifti1Image | None = None
        atlases: list[Nifti1Image] = []
        if inputs.method == "weighted" and isdefined(inputs.target_image):
            target = images.read_image(inputs.target_image)
            files = inputs.in_images if isdefined(inputs.in_images) else []
            atlases = [images.read_image(file) for file in files]
        labels = [images.read_labels(file) for file in inputs.in_labels]
        fused = fusion.fuse_labels(labels, method=inputs.method, target=target, images=atlases)
        images.write_image(
            self._list_outputs()["out_file"], np.asanyarray(fused.dataobj), fused.affine, like=fused
        )
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        return {"out_file": os.path.abspath(self.inputs.out_file)}


class LabelVolumesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `LabelVolumes`."""

    in_labels = File(exists=True, mandatory=True, desc="label map")
    label_table = File(
        exists=True, desc="names of the labels: BIDS dseg.tsv, or a FreeSurfer look-up table"
    )
    out_file = File(
        "volumes.tsv", usedefault=True, hash_files=False, desc="name of the output (TSV)"
    )


class LabelVolumesOutputSpec(TraitedSpec):
    """Outputs of `LabelVolumes`."""

    out_file = File(exists=True, desc="index, name, voxels and volume_mm3 of each label (TSV)")
    out_table = File(exists=True, desc="names of the labels as BIDS dseg.tsv, if a table is given")


class LabelVolumes(LightInterface):
    """Measure the volume of each label.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> folder = getfixture("tmp_path")
    >>> nib.save(nib.Nifti1Image(np.full((4, 4, 4), 9, np.uint8), np.eye(4)), folder / "l.nii")
    >>> node = LabelVolumes(in_labels=folder / "l.nii", out_file=folder / "volumes.tsv")
    >>> print(open(node.run().outputs.out_file).read().splitlines()[1].expandtabs(4))
    9   n/a 64  64.000
    """

    input_spec = LabelVolumesInputSpec
    output_spec = LabelVolumesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.spatial import fusion, images

        outputs = self._list_outputs()
        names: dict[int, str] = {}
        if isdefined(self.inputs.label_table):
            names = fusion.read_label_names(self.inputs.label_table)
            fusion.write_label_table(outputs["out_table"], names)
        fusion.write_volumes(outputs["out_file"], images.read_labels(self.inputs.in_labels), names)
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        outputs = {"out_file": os.path.abspath(self.inputs.out_file)}
        if isdefined(self.inputs.label_table):
            outputs["out_table"] = os.path.abspath("dseg.tsv")
        return outputs
