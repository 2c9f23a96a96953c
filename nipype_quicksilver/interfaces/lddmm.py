"""Nodes over the engine: predict or optimise an initial momentum, and shoot one."""

import os
from hashlib import md5

from nipype.interfaces.base import Directory, File, TraitedSpec, isdefined, traits

from nipype_quicksilver.interfaces.base import (
    CommandInputSpec,
    QuicksilverCommand,
    SeededInputSpec,
)
from nipype_quicksilver.options import SCHEDULES

SIMILARITIES = ("lncc", "ssd", "mind")


class ConformedPairInputSpec(SeededInputSpec):
    """Inputs of the nodes that find the momentum of a pair on the working grid."""

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
    fixed_image_mask = File(
        exists=True, argstr="--fixed-mask %s", desc="compare the images inside it only"
    )
    moving_image_mask = File(
        exists=True, argstr="--moving-mask %s", desc="the same for the moving image"
    )
    fixed_lesion_mask = File(
        exists=True,
        argstr="--fixed-lesion-mask %s",
        desc="what has no counterpart in the moving image",
    )
    moving_lesion_mask = File(
        exists=True,
        argstr="--moving-lesion-mask %s",
        desc="what has no counterpart in the fixed image",
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


class NetworksInputSpec(CommandInputSpec):
    """Inputs of the nodes that predict."""

    prediction_network = File(
        exists=True,
        argstr="--prediction-network %s",
        desc="checkpoint of the prediction network; that of the package otherwise",
    )
    correction_network = File(
        exists=True,
        argstr="--correction-network %s",
        desc="checkpoint of the correction network; that of the package, or the prediction "
        "network again if another than the package's is given",
    )
    n_samples = traits.Range(
        low=2,
        argstr="--samples %d",
        desc="momenta to draw from a probabilistic network; their mean is taken",
    )

    def get_hashval(self, hash_method=None):
        """Return what Nipype compares; the cards beside the networks are inputs as well."""
        listed, digest = super().get_hashval(hash_method)
        for name in ("prediction_network", "correction_network"):
            network = getattr(self, name)
            card = os.path.splitext(network)[0] + ".json" if isdefined(network) else ""
            if os.path.isfile(card):
                value = self._get_sorteddict(card, hash_method=hash_method)
                listed.append((f"{name}_card", (card, value)))
                digest = md5(f"{digest}{name}{value}".encode()).hexdigest()
        return listed, digest


class OptimizeMomentumInputSpec(ConformedPairInputSpec):
    """Inputs of `OptimizeMomentum`."""

    initial_momentum = File(
        exists=True, argstr="--initial-momentum %s", desc="momentum to start from, to refine it"
    )
    schedule = traits.Enum(
        *SCHEDULES,
        usedefault=True,
        argstr="--schedule %s",
        desc="full: from coarse to fine; refine: a few fine iterations from a predicted momentum",
    )
    similarity = traits.Enum(
        *SIMILARITIES, usedefault=True, argstr="--similarity %s", desc="how images are compared"
    )
    iterations = traits.List(
        traits.Range(low=0),
        minlen=1,
        argstr="--iterations %s",
        desc="iterations of each stage, coarse to fine",
    )


class OptimizeMomentumOutputSpec(TraitedSpec):
    """Outputs of `OptimizeMomentum`."""

    momentum = File(exists=True, desc="initial momentum, with its kernel and grids")
    summary = File(exists=True, desc="how the optimisation went (JSON)")


class OptimizeMomentum(QuicksilverCommand):
    """Find the initial momentum that warps one image onto another (LDDMM shooting).

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
    --seed 0 --schedule full --similarity lncc --device cpu'
    """

    _cmd = "optimize"
    input_spec = OptimizeMomentumInputSpec
    output_spec = OptimizeMomentumOutputSpec


class PredictMomentumInputSpec(ConformedPairInputSpec, NetworksInputSpec):
    """Inputs of `PredictMomentum`."""

    corrections = traits.Range(
        low=0,
        value=1,
        usedefault=True,
        argstr="--corrections %d",
        desc="times that the prediction is corrected; 0 is the prediction alone",
    )
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
        desc="name of the variances; they are not written otherwise",
    )


class PredictMomentumOutputSpec(TraitedSpec):
    """Outputs of `PredictMomentum`."""

    momentum = File(exists=True, desc="initial momentum, with its kernel and grids")
    summary = File(exists=True, desc="networks, parameters and similarity (JSON)")
    uncertainty = File(
        exists=True, desc="how far off the displacement may be, mm; with n_samples only"
    )
    uncertainty_components = File(
        exists=True, desc="its variances along x, y and z, mm^2; where they were named"
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

    def _parse_inputs(self, skip=None):
        # Nipype would make up the name of an output that there is not.
        there_is_none = [] if isdefined(self.inputs.n_samples) else ["out_uncertainty"]
        return super()._parse_inputs([*(skip or []), *there_is_none])

    def _list_outputs(self):
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
    """Follow the geodesic of an initial momentum to its end, in both directions.

    The displacement fields are on the momentum's own grid; between its voxels they are
    interpolated linearly.

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

    def _list_outputs(self):
        folder = os.path.abspath(self.inputs.output_dir)
        names = ("displacement", "inverse_displacement", "log_jacobian")
        outputs = {name: os.path.join(folder, f"{name}.nii.gz") for name in names}
        return {**outputs, "summary": os.path.join(folder, "summary.json")}
