"""Nodes that compare methods: measures of each pair, and tables and figures of all pairs."""

import json
import os
from dataclasses import replace
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiObject,
    TraitedSpec,
    isdefined,
    traits,
)

from nipype_quicksilver.interfaces.base import LightInputSpec, LightInterface, itk_threads
from nipype_quicksilver.interfaces.lddmm import PredictMomentum


class MeasureRegistrationInputSpec(LightInputSpec):
    """Inputs of `MeasureRegistration`."""

    transforms = InputMultiObject(
        File(exists=True),
        mandatory=True,
        desc="transforms that warp the moving image, in the order of antsApplyTransforms",
    )
    reference_transforms = InputMultiObject(
        File(exists=True), desc="transforms of the reference, to measure the distance from its map"
    )
    fixed_mask = File(exists=True, mandatory=True, desc="fixed brain, on the fixed image's grid")
    fixed_labels = File(exists=True, mandatory=True, desc="labels of the fixed image")
    moving_labels = File(exists=True, mandatory=True, desc="labels of the moving image")
    summary = File(exists=True, desc="summary of the registration (JSON), for its seconds")
    out_file = File(
        "measures.json", usedefault=True, hash_files=False, desc="name of the output (JSON)"
    )


class MeasureRegistrationOutputSpec(TraitedSpec):
    """Outputs of `MeasureRegistration`."""

    out_file = File(exists=True, desc="overlap, folds, histograms, seconds (JSON)")


class MeasureRegistration(LightInterface):
    """Measure the overlap of labels, the Jacobian, and the distance to a reference registration.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial import transforms
    >>> folder = getfixture("tmp_path")
    >>> labels = np.zeros((8, 8, 8), np.uint8)
    >>> labels[2:6, 2:6, 2:6] = 1
    >>> nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labels.nii")
    >>> shift = np.eye(4)
    >>> shift[0, 3] = 1
    >>> node = MeasureRegistration(out_file=folder / "measures.json")
    >>> node.inputs.transforms = [transforms.write_affine(folder / "shift.mat", shift)]
    >>> node.inputs.fixed_mask = folder / "labels.nii"
    >>> node.inputs.fixed_labels = node.inputs.moving_labels = folder / "labels.nii"
    >>> _read(node.run().outputs.out_file)["overlap"]["mean"]["target_overlap"]
    0.75
    """

    input_spec = MeasureRegistrationInputSpec
    output_spec = MeasureRegistrationOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.evaluation.measures import measure
        from nipype_quicksilver.spatial import images
        from nipype_quicksilver.spatial.applying import join_transforms
        from nipype_quicksilver.spatial.files import write_json
        from nipype_quicksilver.spatial.records import as_json

        inputs = self.inputs
        reference = None
        if isdefined(inputs.reference_transforms):
            reference = join_transforms(inputs.reference_transforms)
        with itk_threads(inputs.num_threads):
            measures = measure(
                join_transforms(inputs.transforms),
                fixed_labels=images.read_labels(inputs.fixed_labels, what="fixed labels"),
                moving_labels=images.read_labels(inputs.moving_labels, what="moving labels"),
                mask=images.read_mask(inputs.fixed_mask),
                reference=reference,
            )
        if isdefined(inputs.summary):
            summary = _read(inputs.summary)
            measures = replace(
                measures,
                seconds=summary["seconds"]["total"],
                cpu_seconds=sum(summary["cpu_seconds"].values()),
            )
        write_json(self._list_outputs()["out_file"], as_json(measures))
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        return {"out_file": os.path.abspath(self.inputs.out_file)}


class TimePredictionInputSpec(BaseInterfaceInputSpec):
    """Inputs of `TimePrediction`."""

    fixed_image = File(exists=True, mandatory=True, desc="fixed image, on the working grid")
    moving_image = File(exists=True, mandatory=True, desc="moving image, on the same grid")
    prediction_network = File(exists=True, desc="checkpoint (default: that of the package)")
    threads = traits.List(
        traits.Range(low=1), mandatory=True, minlen=1, desc="numbers of threads, on the CPU"
    )
    runs = traits.Range(
        low=1, value=3, usedefault=True, desc="number of runs with each number of threads"
    )
    use_gpu = traits.Bool(False, usedefault=True, desc="measure a GPU as well")
    after = traits.Any(desc="outputs of nodes that have to run before")
    out_file = File(
        "times.json", usedefault=True, hash_files=False, desc="name of the output (JSON)"
    )


class TimePredictionOutputSpec(TraitedSpec):
    """Outputs of `TimePrediction`."""

    out_file = File(exists=True, desc="device, threads and seconds of each run (JSON)")


class TimePrediction(LightInterface):
    """Time predictions with several numbers of threads, one after the other."""

    input_spec = TimePredictionInputSpec
    output_spec = TimePredictionOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        files = {"fixed_image": inputs.fixed_image, "moving_image": inputs.moving_image}
        if isdefined(inputs.prediction_network):
            files["prediction_network"] = inputs.prediction_network
        devices = [{"num_threads": number} for number in inputs.threads]
        if inputs.use_gpu:
            devices.append({"use_gpu": True})
        times = []
        for device in devices:
            for _ in range(inputs.runs):
                predict = PredictMomentum(corrections=0, **files, **device)
                summary = _read(predict.run(cwd=runtime.cwd).outputs.summary)
                times.append(
                    {
                        "device": summary["parameters"]["device"],
                        "threads": summary["parameters"]["threads"]["torch"],
                        "seconds": summary["seconds"]["predict"],
                    }
                )
        with open(self._list_outputs()["out_file"], "w", encoding="utf-8") as file:
            json.dump({"times": times}, file)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        return {"out_file": os.path.abspath(self.inputs.out_file)}


class SummarizeEvaluationInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SummarizeEvaluation`."""

    methods = traits.List(traits.Str(), mandatory=True, minlen=1, desc="names of the methods")
    pairs = traits.List(traits.Str(), mandatory=True, minlen=1, desc="names of the pairs")
    label_sets = traits.List(traits.Str(), mandatory=True, desc="label set of each pair")
    measures = InputMultiObject(
        File(exists=True),
        mandatory=True,
        desc="measures of the first method on all pairs, then of the second method, ...",
    )
    prediction_times = File(exists=True, desc="from `TimePrediction`")
    output_dir = Directory(
        "evaluation", usedefault=True, desc="folder of the outputs, created if needed"
    )


class SummarizeEvaluationOutputSpec(TraitedSpec):
    """Outputs of `SummarizeEvaluation`."""

    output_dir = Directory(exists=True, desc="folder of tables and figures")
    summary = File(exists=True, desc="summary of each method in each label set (JSON)")


class SummarizeEvaluation(LightInterface):
    """Write tables and figures that compare methods on pairs.

    The folder holds ``measures.tsv``, ``labels.tsv``, ``jacobians.tsv``, ``summary.tsv`` and
    ``summary.json``; ``errors.tsv`` if one method is the reference; ``times.tsv`` with the
    times of predictions; and the figures ``overlap``, ``jacobians`` and ``times`` (PNG, SVG).
    """

    input_spec = SummarizeEvaluationInputSpec
    output_spec = SummarizeEvaluationOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.evaluation.measures import Measures
        from nipype_quicksilver.evaluation.report import write_report
        from nipype_quicksilver.evaluation.tables import Measured
        from nipype_quicksilver.spatial.records import from_json

        inputs = self.inputs
        files = iter(inputs.measures)
        measured = []
        for method in inputs.methods:
            for pair, label_set in zip(inputs.pairs, inputs.label_sets, strict=True):
                file = next(files)
                measures = from_json(
                    Measures, _read(file), file, "run the node that wrote it again"
                )
                measured.append(Measured(pair, label_set, method, measures))
        timed = inputs.prediction_times
        times = _read(timed)["times"] if isdefined(timed) else []
        write_report(self._list_outputs()["output_dir"], measured, times)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        folder = os.path.abspath(self.inputs.output_dir)
        return {"output_dir": folder, "summary": os.path.join(folder, "summary.json")}


def _read(path: str) -> dict[str, Any]:
    from nipype_quicksilver.spatial.records import read_json

    content: dict[str, Any] = read_json(path, "result of a node", "run the node again")
    return content
