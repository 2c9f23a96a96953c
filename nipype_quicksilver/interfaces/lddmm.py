"""Nodes of the LDDMM engine: predict or optimise an initial momentum, and shoot one."""

from __future__ import annotations

import os
from typing import Any

from nipype.interfaces.base import Directory, File, TraitedSpec, isdefined

from nipype_quicksilver.interfaces.base import (
    CommandInputSpec,
    QuicksilverCommand,
    SeededInputSpec,
    hash_with_files,
    spec_of,
    trait_of,
)
from nipype_quicksilver.options import OPTIONS, ROLES
from nipype_quicksilver.steps import BRAIN_FILES, CORRECTIONS, SCHEDULE

_MasksInputSpec: Any = spec_of(
    "_MasksInputSpec",
    (SeededInputSpec,),
    BRAIN_FILES.values(),
)
_NetworksInputSpec: Any = spec_of(
    "_NetworksInputSpec",
    (CommandInputSpec,),
    (*(OPTIONS[f"{role}_network"] for role in ROLES), OPTIONS["samples"]),
)


class ConformedPairInputSpec(_MasksInputSpec):
    """Inputs of the nodes that estimate the momentum of a pair on the working grid."""

    fixed_image = File(
        exists=True,
        mandatory=True,
        argstr="--fixed %s",
        desc="fixed image on the working grid, normalised",
    )
    moving_image = File(
        exists=True,
        mandatory=True,
        argstr="--moving %s",
        desc="moving image on the same grid, normalised",
    )
    out_momentum = File(
        name_source="moving_image",
        name_template="%s_momentum.nii.gz",
        keep_extension=False,
        output_name="momentum",
        argstr="--output %s",
        desc="name of the momentum",
    )
    out_summary = File(
        name_source="moving_image",
        name_template="%s_momentum.json",
        keep_extension=False,
        output_name="summary",
        argstr="--output-json %s",
        desc="name of the summary",
    )


class NetworksInputSpec(_NetworksInputSpec):
    """Inputs of the nodes that predict."""

    def get_hashval(self, hash_method: str | None = None) -> Any:
        """Return the values and the digest of all inputs, with the cards next to the networks."""
        cards = {}
        for name in (f"{role}_network" for role in ROLES):
            network = getattr(self, name)
            card = os.path.splitext(network)[0] + ".json" if isdefined(network) else ""
            if os.path.isfile(card):
                cards[f"{name}_card"] = card
        return hash_with_files(self, super().get_hashval(hash_method), cards, hash_method)


class OptimizeMomentumInputSpec(ConformedPairInputSpec):
    """Inputs of `OptimizeMomentum`."""

    initial_momentum = File(
        exists=True, argstr="--initial-momentum %s", desc="momentum to start from, to refine it"
    )
    schedule = trait_of(SCHEDULE)
    similarity = trait_of(OPTIONS["similarity"])
    iterations = trait_of(OPTIONS["iterations"])


class OptimizeMomentumOutputSpec(TraitedSpec):
    """Outputs of `OptimizeMomentum`."""

    momentum = File(exists=True, desc="initial momentum, with its kernel and grids")
    summary = File(exists=True, desc="parameters, similarity and stages (JSON)")


class OptimizeMomentum(QuicksilverCommand):
    """Optimise the initial momentum that warps one image onto another (LDDMM shooting).

    Both images are on one working grid, as `ConformToGrid` and `NormalizeIntensity` make them;
    masks may be on any grid in the same world space.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> node = OptimizeMomentum(fixed_image=fixed, moving_image=moving)
    >>> node.inputs.iterations = [20, 10]
    >>> node.inputs.num_threads = 4
    >>> node.cmdline
    '...optimize --fixed /...fixed.nii.gz --iterations 20x10 --moving /...moving.nii.gz
    --num-threads 4 --output moving_momentum.nii.gz --output-json moving_momentum.json
    --seed 0 --schedule full --device cpu'
    """

    _cmd = "optimize"
    input_spec = OptimizeMomentumInputSpec
    output_spec = OptimizeMomentumOutputSpec


class PredictMomentumInputSpec(ConformedPairInputSpec, NetworksInputSpec):
    """Inputs of `PredictMomentum`."""

    corrections = trait_of(CORRECTIONS)
    out_uncertainty = File(
        name_source="moving_image",
        name_template="%s_uncertainty.nii.gz",
        keep_extension=False,
        output_name="uncertainty",
        argstr="--output-uncertainty %s",
        requires=["n_samples"],
        desc="name of the uncertainty; with n_samples only",
    )
    out_uncertainty_components = File(
        hash_files=False,
        argstr="--output-uncertainty-components %s",
        requires=["n_samples"],
        desc="name of the variances (default: they are not written)",
    )


class PredictMomentumOutputSpec(TraitedSpec):
    """Outputs of `PredictMomentum`."""

    momentum = File(exists=True, desc="initial momentum, with its kernel and grids")
    summary = File(exists=True, desc="networks, parameters and similarity (JSON)")
    uncertainty = File(
        exists=True, desc="standard deviation of the displacement, mm; with n_samples only"
    )
    uncertainty_components = File(
        exists=True, desc="its variances along x, y and z, mm^2; if they have a name"
    )


class PredictMomentum(QuicksilverCommand):
    """Predict the initial momentum that warps one image onto another, by networks.

    Both images are on one working grid, as `ConformToGrid` and `NormalizeIntensity` make them;
    masks may be on any grid in the same world space.

    Examples
    --------
    >>> fixed, moving = (getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving"))
    >>> fixed.touch(), moving.touch()
    (None, None)
    >>> node = PredictMomentum(fixed_image=fixed, moving_image=moving, corrections=2)
    >>> node.cmdline
    '...predict --corrections 2 --fixed /...fixed.nii.gz --moving /...moving.nii.gz
    --num-threads 1 --output moving_momentum.nii.gz --output-json moving_momentum.json
    --seed 0 --device cpu'
    """

    _cmd = "predict"
    input_spec = PredictMomentumInputSpec
    output_spec = PredictMomentumOutputSpec

    def _parse_inputs(self, skip: Any = None) -> Any:
        # Nipype would pass the name of an output that is not written.
        absent = [] if isdefined(self.inputs.n_samples) else ["out_uncertainty"]
        return super()._parse_inputs([*(skip or []), *absent])

    def _list_outputs(self) -> dict[str, Any]:
        outputs = super()._list_outputs()
        if not isdefined(self.inputs.n_samples):
            outputs.pop("uncertainty", None)
        components = self.inputs.out_uncertainty_components
        if isdefined(components):
            outputs["uncertainty_components"] = os.path.abspath(components)
        return outputs


class ShootGeodesicInputSpec(CommandInputSpec):
    """Inputs of `ShootGeodesic`."""

    momentum = File(
        exists=True, mandatory=True, argstr="--momentum %s", desc="initial momentum to shoot"
    )
    output_dir = Directory(
        "geodesic", usedefault=True, argstr="--output-dir %s", desc="folder of the outputs"
    )


class ShootGeodesicOutputSpec(TraitedSpec):
    """Outputs of `ShootGeodesic`."""

    displacement = File(
        exists=True, desc="phi^-1: maps fixed to moving points; warps the moving image"
    )
    inverse_displacement = File(
        exists=True, desc="phi: maps moving to fixed points; warps the fixed image"
    )
    log_jacobian = File(exists=True, desc="log of the Jacobian determinant of phi^-1")
    summary = File(exists=True, desc="energies along the path, folded voxels (JSON)")


class ShootGeodesic(QuicksilverCommand):
    """Compute the displacement fields at the end of the geodesic of an initial momentum.

    They are on the working grid of the momentum, and are interpolated linearly.

    Examples
    --------
    >>> momentum = getfixture("tmp_path") / "momentum.nii.gz"
    >>> momentum.touch()
    >>> ShootGeodesic(momentum=momentum, use_gpu=True).cmdline
    '...shoot --momentum /...momentum.nii.gz --num-threads 1 --output-dir geodesic --device cuda'
    """

    _cmd = "shoot"
    input_spec = ShootGeodesicInputSpec
    output_spec = ShootGeodesicOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        folder = os.path.abspath(self.inputs.output_dir)
        names = ("displacement", "inverse_displacement", "log_jacobian")
        outputs = {name: os.path.join(folder, f"{name}.nii.gz") for name in names}
        return {**outputs, "summary": os.path.join(folder, "summary.json")}
