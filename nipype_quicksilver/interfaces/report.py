"""The node that writes the report of a registration."""

import os
from typing import Any

from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import LightInputSpec, LightInterface, itk_threads


class RegistrationReportInputSpec(LightInputSpec):
    """Inputs of `RegistrationReport`."""

    summary = File(
        exists=True,
        mandatory=True,
        desc="summary of QuicksilverRegistration, next to its other outputs",
    )
    fixed_image = File(exists=True, desc="fixed image, if it is not at the path in the summary")
    moving_image = File(exists=True, desc="moving image, if it is not at the path in the summary")
    brain_extraction = traits.Str(
        desc="tool that extracted the brains whose masks were used, for the paragraph on methods"
    )
    affine = traits.Str(
        desc="tool that estimated the affine that was used, for the paragraph on methods"
    )
    show_paths = traits.Bool(
        False, usedefault=True, desc="show the paths of files, and not only their names"
    )
    out_file = File(
        "report.html", usedefault=True, hash_files=False, desc="name of the output (HTML)"
    )


class RegistrationReportOutputSpec(TraitedSpec):
    """Outputs of `RegistrationReport`."""

    out_file = File(exists=True, desc="the page, with embedded pictures")


class RegistrationReport(LightInterface):
    """Write the report of a `QuicksilverRegistration`.

    Examples
    --------
    >>> from nipype import Node, Workflow
    >>> from nipype_quicksilver.interfaces import QuicksilverRegistration
    >>> register = Node(QuicksilverRegistration(), name="register")
    >>> report = Node(RegistrationReport(), name="report")
    >>> Workflow(name="wf").connect([(register, report, [("summary", "summary")])])
    """

    input_spec = RegistrationReportInputSpec
    output_spec = RegistrationReportOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.reports import write_registration_report

        inputs = self.inputs
        options = {
            "fixed": inputs.fixed_image,
            "moving": inputs.moving_image,
            "brain_extraction": inputs.brain_extraction,
            "affine": inputs.affine,
            "show_paths": inputs.show_paths,
        }
        with itk_threads(inputs.num_threads):
            write_registration_report(
                os.path.dirname(os.path.abspath(inputs.summary)),
                self._list_outputs()["out_file"],
                **{name: value for name, value in options.items() if isdefined(value)},
            )
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        return {"out_file": os.path.abspath(self.inputs.out_file)}
