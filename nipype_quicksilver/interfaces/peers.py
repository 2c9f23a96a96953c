"""Registration by the peers that methods are compared with: greedy, and ANTs' SyN."""

import json
import os
import shlex
import time

from nipype.interfaces import ants as nipype_ants
from nipype.interfaces.ants.registration import RegistrationOutputSpec
from nipype.interfaces.base import (
    CommandLine,
    CommandLineInputSpec,
    File,
    TraitedSpec,
    traits,
)

from nipype_quicksilver.evaluation import ants, greedy

_SUMMARY = "summary.json"


def _cpu_seconds():
    """Return what the processes that this one has started, and that ended, have used."""
    times = os.times()
    return times.children_user + times.children_system


class TimedCommand:
    """A mixin: what the command took goes into ``summary.json``, as `quicksilver` tells it."""

    def _run_interface(self, runtime):
        start, cpu = time.perf_counter(), _cpu_seconds()
        runtime = super()._run_interface(runtime)
        seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
        if runtime.returncode != 0:
            self.raise_exception(runtime)
        with open(os.path.join(runtime.cwd, _SUMMARY), "w", encoding="utf-8") as file:
            json.dump({"seconds": {"total": seconds}, "cpu_seconds": {"register": cpu}}, file)
        return runtime

    def _list_outputs(self):
        return {**super()._list_outputs(), "summary": os.path.abspath(_SUMMARY)}


class PeerInputSpec(CommandLineInputSpec):
    """Inputs of a peer."""

    fixed_image = File(exists=True, mandatory=True, desc="fixed brain")
    moving_image = File(exists=True, mandatory=True, desc="moving brain")
    initial_moving_transform = File(
        exists=True, mandatory=True, desc="ITK affine that maps fixed to moving points"
    )
    out_warp = File("warp.nii.gz", usedefault=True, hash_files=False, desc="name of the field")
    num_threads = traits.Range(low=1, value=1, usedefault=True, nohash=True, desc="threads")


class PeerOutputSpec(TraitedSpec):
    """Outputs of a peer."""

    reverse_forward_transforms = traits.List(
        File(exists=True),
        desc="transforms that warp the moving image, in the order of antsApplyTransforms",
    )
    summary = File(exists=True, desc="seconds (JSON)")


class _Peer(CommandLine):
    """A command that writes a displacement field, to be followed by the affine."""

    input_spec = PeerInputSpec
    output_spec = PeerOutputSpec

    def _list_outputs(self):
        transforms = [os.path.abspath(self.inputs.out_warp), self.inputs.initial_moving_transform]
        return {"reverse_forward_transforms": transforms}


class GreedyInputSpec(PeerInputSpec):
    """Inputs of `GreedyRegistration`."""

    fixed_image = File(exists=True, mandatory=True, argstr="-i %s", position=0, desc="fixed brain")
    moving_image = File(exists=True, mandatory=True, argstr="%s", position=1, desc="moving brain")
    initial_moving_transform = File(
        exists=True,
        mandatory=True,
        argstr="-it %s",
        desc="ITK affine that maps fixed to moving points",
    )
    out_warp = File(
        "warp.nii.gz", usedefault=True, hash_files=False, argstr="-o %s", desc="name of the field"
    )
    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, argstr="-threads %d", desc="threads"
    )


class GreedyRegistration(TimedCommand, _Peer):
    """Register two brains with greedy, from an affine.

    Examples
    --------
    >>> files = [getfixture("tmp_path") / name for name in ("fixed.nii", "moving.nii", "a.mat")]
    >>> [file.touch() for file in files]
    [None, None, None]
    >>> node = GreedyRegistration()
    >>> node.inputs.fixed_image, node.inputs.moving_image = files[:2]
    >>> node.inputs.initial_moving_transform = files[2]
    >>> node.cmdline
    '...-d 3 -m NCC 2x2x2 -n 100x50x10 -i /...fixed.nii /...moving.nii -it affine.txt -threads 1
    -o warp.nii.gz'
    """

    _cmd = "greedy"
    input_spec = GreedyInputSpec

    @property
    def cmd(self) -> str:
        """The program, or the package that stands in for it."""
        program = greedy.greedy_command() or ("greedy",)
        return shlex.join((*program, "-d", "3", *greedy.METRIC))

    def _format_arg(self, name, trait_spec, value):
        if name == "initial_moving_transform":
            value = "affine.txt"  # in greedy's format
        return super()._format_arg(name, trait_spec, value)

    def _run_interface(self, runtime):
        import numpy as np

        from nipype_quicksilver.spatial.transforms import read_affine

        matrix = read_affine(self.inputs.initial_moving_transform)
        np.savetxt(os.path.join(runtime.cwd, "affine.txt"), matrix)
        return super()._run_interface(runtime)


class AntspyxRegistration(TimedCommand, _Peer):
    """Register two brains with SyN of the package antspyx, from an affine."""

    _cmd = "antspyx"

    @property
    def cmd(self) -> str:
        """Interpreter and module."""
        return shlex.join((*ants.ANTSPYX, "syn"))

    @property
    def cmdline(self) -> str:
        """The command with its files."""
        inputs = self.inputs
        names = ("fixed_image", "moving_image", "initial_moving_transform", "out_warp")
        return f"{self.cmd} {shlex.join(str(getattr(inputs, name)) for name in names)}"

    def _run_interface(self, runtime):
        threads = str(self.inputs.num_threads)
        self.inputs.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = threads
        return super()._run_interface(runtime)


class SynOutputSpec(RegistrationOutputSpec):
    """Outputs of `SynRegistration`."""

    summary = File(exists=True, desc="seconds (JSON)")


class SynRegistration(TimedCommand, nipype_ants.Registration):
    """Register two brains with SyN of the program `antsRegistration`, from an affine.

    Examples
    --------
    >>> node = SynRegistration()
    >>> node.inputs.transforms, node.inputs.number_of_iterations
    (['SyN'], [[100, 70, 50, 20]])
    """

    output_spec = SynOutputSpec

    def __init__(self, **inputs):
        settings = {
            "dimension": 3,
            "transforms": ["SyN"],
            "transform_parameters": [(ants.STEP, ants.FLOW_SIGMA, ants.TOTAL_SIGMA)],
            "metric": ["CC"],
            "metric_weight": [1],
            "radius_or_number_of_bins": [ants.RADIUS],
            "number_of_iterations": [list(ants.ITERATIONS)],
            "shrink_factors": [list(ants.SHRINK_FACTORS)],
            "smoothing_sigmas": [list(ants.SMOOTHING)],
            "sigma_units": ["vox"],
            "convergence_threshold": [1e-6],
            "convergence_window_size": [10],
            "write_composite_transform": True,
            "random_seed": 1,
            "float": True,
        }
        super().__init__(**{**settings, **inputs})
