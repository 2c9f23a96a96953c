"""Registration by external tools, for comparison: greedy, and SyN of ANTs."""

from __future__ import annotations

import json
import os
import shlex
import time
from abc import ABC, abstractmethod
from typing import Any

from nipype.interfaces.base import (
    CommandLine,
    CommandLineInputSpec,
    File,
    TraitedSpec,
    traits,
)
from nipype.utils.filemanip import split_filename

from nipype_quicksilver.evaluation.peers import (
    GREEDY_WARP,
    SYN_WARP,
    greedy_arguments,
    syn_arguments,
)
from nipype_quicksilver.tools import PEERS, ExternalTool

_SUMMARY = "summary.json"


def _cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


class PeerInputSpec(CommandLineInputSpec):
    """Inputs of a peer."""

    fixed_image = File(exists=True, mandatory=True, desc="fixed brain")
    moving_image = File(exists=True, mandatory=True, desc="moving brain")
    initial_moving_transform = File(
        exists=True, mandatory=True, desc="ITK affine that maps fixed to moving points"
    )
    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, desc="number of threads"
    )


class PeerOutputSpec(TraitedSpec):
    """Outputs of a peer."""

    reverse_forward_transforms = traits.List(
        File(exists=True),
        desc="transforms that warp the moving image, in the order of antsApplyTransforms",
    )
    summary = File(exists=True, desc="seconds (JSON)")


class _Peer(CommandLine, ABC):
    """An external tool that writes a displacement field, which is composed with the affine.

    The images are linked into the working folder under names that every tool can parse.
    """

    input_spec = PeerInputSpec
    output_spec = PeerOutputSpec
    tool: ExternalTool
    warp: str
    affine: str

    @property
    def cmd(self) -> str:
        """Command that starts the program, or the Python package that replaces it."""
        return shlex.join(self.tool.command() or (self.tool.program,))

    @property
    def cmdline(self) -> str:
        """Command with its arguments."""
        return f"{self.cmd} {shlex.join(self._arguments())}"

    @abstractmethod
    def _arguments(self) -> list[str]:
        """Return the arguments of the program."""

    def _image(self, side: str) -> str:
        """Return the name of an image in the working folder."""
        return side + split_filename(getattr(self.inputs, f"{side}_image"))[2]

    @abstractmethod
    def _write_affine(self, path: str) -> None:
        """Write the affine as the program reads it."""

    def _run_interface(self, runtime: Any) -> Any:
        for side in ("fixed", "moving"):
            link = os.path.join(runtime.cwd, self._image(side))
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(os.path.abspath(getattr(self.inputs, f"{side}_image")), link)
        self._write_affine(os.path.join(runtime.cwd, self.affine))
        start, cpu = time.perf_counter(), _cpu_seconds()
        runtime = super()._run_interface(runtime)
        seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
        if runtime.returncode != 0:
            self.raise_exception(runtime)
        # With the keys of the summary of a registration by this package.
        with open(os.path.join(runtime.cwd, _SUMMARY), "w", encoding="utf-8") as file:
            json.dump({"seconds": {"total": seconds}, "cpu_seconds": {"register": cpu}}, file)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        return {
            "reverse_forward_transforms": [
                os.path.abspath(self.warp),
                self.inputs.initial_moving_transform,
            ],
            "summary": os.path.abspath(_SUMMARY),
        }


class GreedyRegistration(_Peer):
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
    '...-d 3 -m NCC 2x2x2 -n 100x50x10 -i fixed.nii moving.nii -it affine.txt -o warp.nii.gz
    -threads 1'
    """

    _cmd = "greedy"
    tool = PEERS["greedy"]
    warp = GREEDY_WARP
    affine = "affine.txt"

    def _arguments(self) -> list[str]:
        images = (self._image("fixed"), self._image("moving"))
        return greedy_arguments(*images, self.affine, self.inputs.num_threads)

    def _write_affine(self, path: str) -> None:
        import numpy as np

        from nipype_quicksilver.spatial.transforms import read_affine

        np.savetxt(path, read_affine(self.inputs.initial_moving_transform))


class SynRegistration(_Peer):
    """Register two brains with ANTs' SyN, from an affine.

    Examples
    --------
    >>> files = [getfixture("tmp_path") / name for name in ("fixed.nii", "moving.nii", "a.mat")]
    >>> [file.touch() for file in files]
    [None, None, None]
    >>> node = SynRegistration()
    >>> node.inputs.fixed_image, node.inputs.moving_image = files[:2]
    >>> node.inputs.initial_moving_transform = files[2]
    >>> "--metric 'CC[fixed.nii,moving.nii,1,4]'" in node.cmdline
    True
    """

    _cmd = "antsRegistration"
    tool = PEERS["SyN"]
    warp = SYN_WARP
    affine = "affine.mat"

    def _arguments(self) -> list[str]:
        return syn_arguments(self._image("fixed"), self._image("moving"), self.affine)

    def _write_affine(self, path: str) -> None:
        from nipype_quicksilver.spatial.transforms import read_affine, write_affine

        write_affine(path, read_affine(self.inputs.initial_moving_transform))

    def _run_interface(self, runtime: Any) -> Any:
        runtime.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(self.inputs.num_threads)
        return super()._run_interface(runtime)
