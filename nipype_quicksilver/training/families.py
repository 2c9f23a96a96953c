"""The two families of networks: trained end to end, or on momenta as in the 2017 paper."""

from __future__ import annotations

import logging

from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.checkpoint import load_checkpoint
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.unet import ForceUNet
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.training import reading
from nipype_quicksilver.training.data import Inputs
from nipype_quicksilver.training.digests import FileDigest
from nipype_quicksilver.training.distributed import Processes
from nipype_quicksilver.training.end_to_end import EndToEndRecipe, EndToEndTrainer
from nipype_quicksilver.training.model import LddmmModel
from nipype_quicksilver.training.momentum_dataset import MomentumDataset, read_momentum_dataset
from nipype_quicksilver.training.on_momenta import MomentumTrainer, PatchRecipe
from nipype_quicksilver.training.plan import Family, Job, Plan
from nipype_quicksilver.training.synthesis import GEODESIC_FACTOR
from nipype_quicksilver.training.tissue_fractions import LARGEST_FACTOR
from nipype_quicksilver.training.tissues import read_tissue_table
from nipype_quicksilver.training.trainer import Task
from nipype_quicksilver.training.validation import ValidationPairs, mean_over_pairs, validate

_logger = logging.getLogger(__name__)


class EndToEnd(Family):
    """Networks that are trained on label maps and images, through the shooting."""

    architecture = "force-unet"
    recipe = EndToEndRecipe
    positive = ("iterations", "learning_rate", "warm_up", "steps", "factor")
    match_contrast = True

    def check_plan(self, plan: Plan) -> None:
        """Refuse grids that the network cannot be applied to."""
        recipe = _end_to_end(plan)
        factor = recipe.factor
        if factor > LARGEST_FACTOR:
            raise ValueError(f"training.factor is more than {LARGEST_FACTOR}")
        if plan.parameters.get("image", 2) % factor:
            raise ValueError("architecture.parameters.image is not a multiple of training.factor")
        coarsest = max(plan.parameters.get("velocity", 4), *plan.parameters.get("scales", (1,)))
        coarsest = max(factor, coarsest)
        if any(n % coarsest for n in plan.grid):
            raise ValueError("the sides of grid are not multiples of the coarsest factor")
        if any(n % (factor * GEODESIC_FACTOR) for n in plan.grid):
            raise ValueError(f"the sides of grid are not multiples of {factor * GEODESIC_FACTOR}")
        crop = recipe.crop * factor
        if crop < 0 or crop > min(plan.grid) or crop % coarsest:
            raise ValueError("training.crop is not a box of whole coarse voxels inside the grid")

    def check_job(self, job: Job) -> None:
        """Refuse momenta, and a correction network without the networks before it."""
        if job.data.momenta is not None:
            raise InputError(
                f"{job.data.momenta}: momenta are for patch networks; give a recipe with that "
                "architecture"
            )
        if (job.role == "correction") != bool(job.before):
            raise InputError(
                "a correction network needs the networks before it, a prediction network none; "
                "give the checkpoint of the prediction network and the role 'correction'"
            )

    def task(self, job: Job, inputs: Inputs, network: nn.Module, processes: Processes) -> Task:
        """Read label maps and images, and return the trainer."""
        plan, recipe = job.plan, _end_to_end(job.plan)
        assert isinstance(network, ForceUNet)
        table = read_tissue_table(inputs.tissues)
        before = [_load_before(path, recipe).to(processes.device) for path in job.before]
        if inputs.labels.all:
            _logger.info("reading %d label maps", len(inputs.labels.all))
        brains = reading.read_brains(inputs.labels, table, plan.grid, recipe.factor)
        scans = reading.read_scans(
            inputs.images, inputs.image_labels, table, plan.grid, recipe.factor
        )
        trainer = EndToEndTrainer(
            network, brains[0], table, recipe, before, scans[0], processes.rank, processes.ranks
        )
        trainer.runner = processes.distribute(network)
        pairs = ValidationPairs(brains[1], scans[1], table, plan.validation, plan.pairs)

        def measure(trial: nn.Module, identity: bool) -> dict[str, float]:
            assert isinstance(trial, ForceUNet)
            rows = validate(
                [*before, trial],
                pairs,
                recipe,
                identity=identity,
                rank=processes.rank,
                ranks=processes.ranks,
            )
            return mean_over_pairs([row for part in processes.gather(rows) for row in part])

        return Task(
            trainer=trainer,
            validate=measure if len(pairs) else None,
            model=LddmmModel(recipe.kernel.as_dict(), recipe.steps, network.velocity, spacing=1.0),
            before=[FileDigest.of(path).without_folder() for path in job.before],
        )


class OnMomenta(Family):
    """The networks of the 2017 paper, which are trained on optimised momenta."""

    architecture = "patch"
    recipe = PatchRecipe
    positive = ("iterations", "learning_rate", "batch_size")
    match_contrast = False

    def check_plan(self, plan: Plan) -> None:
        """Accept any plan: the grid is that of the momenta."""

    def check_job(self, job: Job) -> None:
        """Refuse data other than momenta."""
        data = job.data
        if data.momenta is None:
            raise InputError(
                "a patch network is trained on momenta; give a data set of 'quicksilver dataset', "
                "or a recipe with another architecture"
            )
        if data.image_labels or data.tissues or job.before:
            raise InputError(
                f"{data.momenta}: a data set of momenta is trained on alone; leave out tissues, "
                "label maps of images, and networks before"
            )

    def task(self, job: Job, inputs: Inputs, network: nn.Module, processes: Processes) -> Task:
        """Read the data sets of momenta, and return the trainer."""
        recipe, folder = job.plan.training, job.data.momenta
        assert isinstance(network, PatchNetwork) and isinstance(recipe, PatchRecipe)
        assert folder is not None
        dataset = _read_momenta(folder, job.role, network.patch_size)
        trainer = MomentumTrainer(
            network, dataset.examples, recipe, processes.rank, processes.ranks
        )
        if not trainer.windows:
            raise InputError(f"{folder}: its images are empty; build it of brains")
        trainer.runner = processes.distribute(network)
        measure = None
        if job.data.validation_momenta is not None:
            validation = _read_momenta(job.data.validation_momenta, job.role, network.patch_size)
            if (validation.model, validation.before) != (dataset.model, dataset.before):
                raise InputError(
                    f"{job.data.validation_momenta}: has another model than {folder}; build both "
                    "in the same way"
                )
            measured = MomentumTrainer(network, validation.examples, recipe, rank=0, ranks=1)

            def measure(trial: nn.Module, identity: bool) -> dict[str, float]:
                error = measured.zero_error() if identity else measured.error(trial)
                # All processes measure the same patches; rounding may differ between devices.
                return {"loss": processes.gather(error)[0]}

        return Task(
            trainer=trainer,
            validate=measure,
            model=dataset.model,
            before=[] if dataset.before is None else [dataset.before],
        )


#: The families of networks by the name of their architecture.
FAMILIES: dict[str, Family] = {family.architecture: family for family in (EndToEnd(), OnMomenta())}


def _end_to_end(plan: Plan) -> EndToEndRecipe:
    assert isinstance(plan.training, EndToEndRecipe)
    return plan.training


def _load_before(path: PathLike, recipe: EndToEndRecipe) -> ForceUNet:
    """Load a network that is to be corrected."""
    network, card = load_checkpoint(path)
    if not isinstance(network, ForceUNet):
        raise InputError(
            f"{path}: is a {card.architecture} network; correct those with a data set of momenta"
        )
    if card.kernel != recipe.kernel.as_dict() or card.steps != recipe.steps:
        raise InputError(
            f"{path}: was trained with another kernel or number of steps than the recipe has; "
            "give a recipe with the same"
        )
    if network.image % recipe.factor:
        raise InputError(
            f"{path}: needs images on a finer grid than the training grid of the recipe; give a "
            "smaller factor"
        )
    return network.requires_grad_(False)


def _read_momenta(folder: PathLike, role: str, side: int) -> MomentumDataset:
    """Read a data set of momenta for networks with patches of `side` voxels."""
    dataset = read_momentum_dataset(folder)
    if dataset.role != role:
        raise InputError(
            f"{folder}: is for a {dataset.role} network, not a {role} network; give that role, or "
            "another data set"
        )
    for example in dataset.examples:
        if min(example.moving.shape[2:]) < side:
            raise InputError(
                f"{folder}: its grid {tuple(example.moving.shape[2:])} is smaller than a patch of "
                f"{side} voxels; give a recipe with smaller patches"
            )
    return dataset
