"""The node that judges a registration."""

from __future__ import annotations

import json
import os
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import LightInterface
from nipype_quicksilver.options import TRANSFORMS


class CheckRegistrationInputSpec(BaseInterfaceInputSpec):
    """Inputs of `CheckRegistration`."""

    fixed_image = File(exists=True, mandatory=True, desc="fixed image")
    moving_image = File(exists=True, mandatory=True, desc="moving image")
    fixed_image_mask = File(exists=True, desc="its brain mask (default: what is not background)")
    moving_image_mask = File(exists=True, desc="its brain mask (default: what is not background)")
    initial_moving_transform = File(
        exists=True, desc="ITK affine from fixed to moving points (default: the headers align them)"
    )
    momentum_summary = File(
        exists=True, desc="summary of PredictMomentum or OptimizeMomentum (JSON)"
    )
    displacement = File(exists=True, desc="displacement of ShootGeodesic, on the working grid")
    mask = File(exists=True, desc="mask of the fixed brain on the working grid")
    jacobian_summary = File(
        exists=True, mandatory=True, desc="output of JacobianSummary for the whole map (JSON)"
    )
    transform = traits.Enum(
        *list(TRANSFORMS)[::-1], usedefault=True, desc="transform between the images"
    )
    out_file = File(
        "checks.json", usedefault=True, hash_files=False, desc="name of the output (JSON)"
    )


class CheckRegistrationOutputSpec(TraitedSpec):
    """Outputs of `CheckRegistration`."""

    out_file = File(exists=True, desc="the warnings (JSON)")
    warnings = traits.List(
        traits.Str(), desc="one message for each finding; empty if there is none"
    )


class CheckRegistration(LightInterface):
    """Judge a registration whose steps are nodes, by the checks of `quicksilver register`.

    Examples
    --------
    >>> import numpy as np
    >>> from nipype_quicksilver.spatial.files import write_json
    >>> from nipype_quicksilver.spatial.grids import Grid
    >>> from nipype_quicksilver.spatial.images import write_image
    >>> from nipype_quicksilver.spatial.jacobians import jacobian_summary
    >>> from nipype_quicksilver.spatial.records import as_json
    >>> folder = getfixture("tmp_path")
    >>> getfixture("monkeypatch").chdir(folder)
    >>> grid = Grid((40, 40, 40), np.eye(4))
    >>> noise = np.random.default_rng(0).uniform(1, 2, grid.shape).astype(np.float32)
    >>> noise[:8] = 0
    >>> image = write_image(folder / "noise.nii", noise, grid.affine)
    >>> summary = jacobian_summary(np.zeros((*grid.shape, 3)), grid)
    >>> jacobian = write_json(folder / "jacobian.json", as_json(summary))
    >>> node = CheckRegistration(fixed_image=image, moving_image=image)
    >>> node.inputs.jacobian_summary = folder / "jacobian.json"
    >>> print(node.run().outputs.warnings[1])
    /...noise.nii: the brain has no more contrast than noise or a phantom; check that the image
    shows a head
    """

    input_spec = CheckRegistrationInputSpec
    output_spec = CheckRegistrationOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from nipype_quicksilver.registration.checking import judge_files, judge_mask
        from nipype_quicksilver.spatial.files import write_json

        inputs, found = self.inputs, list[str]()
        for side in ("fixed", "moving"):
            found += judge_mask(getattr(inputs, f"{side}_image"), self._file(f"{side}_image_mask"))
        judgement = judge_files(
            transform=inputs.transform,
            jacobian=inputs.jacobian_summary,
            affine=self._file("initial_moving_transform"),
            momentum=self._file("momentum_summary"),
            displacement=self._file("displacement"),
            mask=self._file("mask"),
        )
        name = os.path.basename(inputs.moving_image)
        found += [f"{name}: {text}" for text in judgement]
        write_json(os.path.abspath(inputs.out_file), {"warnings": found})
        return runtime

    def _file(self, name: str) -> str | None:
        """Return an input; None if it is not defined."""
        value = getattr(self.inputs, name)
        return value if isdefined(value) else None

    def _list_outputs(self) -> dict[str, Any]:
        out_file, warnings = os.path.abspath(self.inputs.out_file), []
        if os.path.exists(out_file):
            with open(out_file, encoding="utf-8") as file:
                warnings = json.load(file)["warnings"]
        return {"out_file": out_file, "warnings": warnings}
