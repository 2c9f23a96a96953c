"""The node that shows a registration on a page for the browser."""

import os

from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import LightInputSpec, LightInterface, itk_threads


class RegistrationReportInputSpec(LightInputSpec):
    """Inputs of `RegistrationReport`."""

    summary = File(
        exists=True,
        mandatory=True,
        desc="summary of QuicksilverRegistration, beside its other outputs",
    )
    fixed_image = File(
        exists=True, desc="image that stays where it is, if not where the summary says"
    )
    moving_image = File(exists=True, desc="image that was warped, if not where the summary says")
    brain_extraction = traits.Str(desc="engine that found the masks which were given, for the text")
    affine = traits.Str(desc="engine that found the affine which was given, for the text")
    out_file = File(
        "report.html", usedefault=True, hash_files=False, desc="name of the output (HTML)"
    )


class RegistrationReportOutputSpec(TraitedSpec):
    """Outputs of `RegistrationReport`."""

    out_file = File(exists=True, desc="the page, which holds its pictures in itself")


class RegistrationReport(LightInterface):
    """Write the report of a registration, to be connected to `QuicksilverRegistration`.

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

    def _run_interface(self, runtime):
        from nipype_quicksilver.reports import write_registration_report

        inputs = self.inputs
        given = {
            "fixed": inputs.fixed_image,
            "moving": inputs.moving_image,
            "brain_extraction": inputs.brain_extraction,
            "affine": inputs.affine,
        }
        with itk_threads(inputs.num_threads):
            write_registration_report(
                os.path.dirname(os.path.abspath(inputs.summary)),
                self._list_outputs()["out_file"],
                **{name: value for name, value in given.items() if isdefined(value)},
            )
        return runtime

    def _list_outputs(self):
        return {"out_file": os.path.abspath(self.inputs.out_file)}
