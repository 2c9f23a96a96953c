"""The node that saves a registration of a cohort as BIDS derivatives."""

import os
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.cohort.derivatives import Place, save
from nipype_quicksilver.cohort.jobs import CohortOptions, Job
from nipype_quicksilver.interfaces.base import LightInterface


class SaveDerivativesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveDerivatives`."""

    job = traits.Instance(Job, mandatory=True, desc="the registration")
    options = traits.Instance(CohortOptions, mandatory=True, desc="how the image was registered")
    place = traits.Instance(
        Place, mandatory=True, desc="folders of the derivatives and of the images"
    )
    composite_transform = File(
        exists=True, mandatory=True, desc="resamples the image to the fixed image"
    )
    inverse_composite_transform = File(
        exists=True, mandatory=True, desc="resamples the fixed image to the image"
    )
    warped_image = File(exists=True, mandatory=True, desc="image on the grid of the fixed image")
    log_jacobian = File(
        exists=True, mandatory=True, desc="log Jacobian determinant on the grid of the fixed image"
    )
    summary = File(exists=True, mandatory=True, desc="measures (JSON)")
    report = File(exists=True, desc="report on the registration (HTML)")
    warped_labels = File(exists=True, desc="labels on the grid of the fixed image")
    uncertainty = File(exists=True, desc="uncertainty on the grid of the fixed image, mm")
    brain_mask = File(exists=True, desc="brain mask on the image's own grid")


class SaveDerivativesOutputSpec(TraitedSpec):
    """Outputs of `SaveDerivatives`."""

    out_file = File(exists=True, desc="record of the derivatives (JSON)")


class SaveDerivatives(LightInterface):
    """Save a registration of a cohort as BIDS derivatives.

    It runs in every run of its workflow, since derivatives may have been removed.
    """

    input_spec = SaveDerivativesInputSpec
    output_spec = SaveDerivativesOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        names = [*inputs.job.files(), "summary", "report"]
        outputs = {n: getattr(inputs, n) for n in names if isdefined(getattr(inputs, n))}
        save(inputs.job, inputs.options, inputs.place, outputs)
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        job = self.inputs.job
        folder = self.inputs.place.output_dir / job.moving.folder
        return {"out_file": os.fspath(folder / job.record)}
