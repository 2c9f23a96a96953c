"""The node that keeps a registration of a cohort as BIDS derivatives."""

import os

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.cohort.derivatives import Place, save
from nipype_quicksilver.cohort.jobs import Job, Settings
from nipype_quicksilver.interfaces.base import LightInterface


class SaveDerivativesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveDerivatives`."""

    job = traits.Instance(Job, mandatory=True, desc="what was registered")
    settings = traits.Instance(Settings, mandatory=True, desc="how it was registered")
    place = traits.Instance(Place, mandatory=True, desc="folders of derivatives and of images")
    composite_transform = File(exists=True, mandatory=True, desc="brings the image to the fixed")
    inverse_composite_transform = File(exists=True, mandatory=True, desc="brings back")
    warped_image = File(exists=True, mandatory=True, desc="image on the fixed grid")
    log_jacobian = File(exists=True, mandatory=True, desc="on the fixed grid")
    summary = File(exists=True, mandatory=True, desc="measures (JSON)")
    report = File(exists=True, desc="page on the registration (HTML)")
    warped_labels = File(exists=True, desc="labels on the fixed grid")
    uncertainty = File(exists=True, desc="on the fixed grid, mm")
    brain_mask = File(exists=True, desc="brain on the image's grid")


class SaveDerivativesOutputSpec(TraitedSpec):
    """Outputs of `SaveDerivatives`."""

    out_file = File(exists=True, desc="record of the derivatives (JSON)")


class SaveDerivatives(LightInterface):
    """Keep a registration of a cohort as BIDS derivatives.

    It runs whenever its workflow does, since derivatives may be gone that once were there.
    """

    input_spec = SaveDerivativesInputSpec
    output_spec = SaveDerivativesOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        names = [*inputs.job.files(), "summary", "report"]
        outputs = {n: getattr(inputs, n) for n in names if isdefined(getattr(inputs, n))}
        save(inputs.job, inputs.settings, inputs.place, outputs)
        return runtime

    def _list_outputs(self):
        job = self.inputs.job
        folder = self.inputs.place.output_dir / job.moving.folder
        return {"out_file": os.fspath(folder / job.record)}
