"""ANTs' brain extraction, for any file names."""

from __future__ import annotations

import os
import shlex
from typing import Any

from nipype.interfaces.ants import BrainExtraction
from nipype.interfaces.base import isdefined
from nipype.interfaces.base.traits_extension import BasePath
from nipype.utils.filemanip import split_filename


class AntsBrainExtraction(BrainExtraction):
    """Extract a brain with ``antsBrainExtraction.sh``.

    The script splits file names at spaces: it gets links to the files, with names of its own.

    Examples
    --------
    >>> image = getfixture("tmp_path") / "a head.nii.gz"
    >>> image.touch()
    >>> AntsBrainExtraction(
    ...     anatomical_image=image, brain_template=image, brain_probability_mask=image
    ... ).cmdline
    'antsBrainExtraction.sh -a anatomical_image.nii.gz -m brain_probability_mask.nii.gz
    -e brain_template.nii.gz -d 3 -s nii.gz -o highres001_'
    """

    def _format_arg(self, name: str, spec: Any, value: Any) -> Any:
        if spec.is_trait_type(BasePath):
            return spec.argstr % shlex.quote(_linked(name, value))
        return super()._format_arg(name, spec, value)

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        for name, trait in self.inputs.items():
            file = getattr(self.inputs, name)
            if trait.is_trait_type(BasePath) and isdefined(file):
                link = os.path.join(runtime.cwd, _linked(name, file))
                if os.path.lexists(link):
                    os.unlink(link)
                os.symlink(os.path.abspath(file), link)
        return super()._run_interface(runtime, correct_return_codes)


def _linked(name: str, file: str) -> str:
    """Return the name of the link to the file of an input."""
    return name + split_filename(file)[2]
