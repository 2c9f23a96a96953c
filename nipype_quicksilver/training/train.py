"""`train`: from files to a checkpoint, by way of a folder from which it can go on at any time."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import versions
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.intensity import PERCENTILE
from nipype_quicksilver.training import momentum_dataset, reading
from nipype_quicksilver.training.curve import draw_curve
from nipype_quicksilver.training.data import (
    Data,
    Inputs,
    check_data,
    digests_of,
    find_inputs,
)
from nipype_quicksilver.training.folder import (
    CURVE,
    LOG,
    VALIDATION,
    Run,
    read_table,
)
from nipype_quicksilver.training.loop import Loop, Progress, Task
from nipype_quicksilver.training.recipes import Plan
from nipype_quicksilver.training.tissue_shares import TissueTable, read_tissue_table

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nipype_quicksilver.networks.card import Card
    from nipype_quicksilver.networks.unet import ForceUNet
    from nipype_quicksilver.training.distributed import Processes


_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What a training ended with.

    Attributes
    ----------
    checkpoint : Path
    card : Card
    iteration : int
        After which it ended.
    validation : dict
        Of the weights that were kept: ``before`` any deformation and ``after``; may be empty.
    """

    checkpoint: Path
    card: Card
    iteration: int
    validation: dict[str, Any]


def train(
    output_dir: PathLike,
    data: Data,
    plan: Plan,
    *,
    role: str = "prediction",
    before: Sequence[PathLike] = (),
    start: PathLike | None = None,
    name: str | None = None,
    licence: str = "not stated",
    half: bool = False,
    save_every: int = 100,
    processes: Processes,
    progress: Progress | None = None,
) -> Trained:
    """Train a network, or go on with a training that was interrupted.

    Parameters
    ----------
    output_dir : path-like
        Folder of the training; one that holds an unfinished training with the same inputs and
        recipe is gone on with, to the bit.
    data : Data
    plan : Plan
        The recipe.
    role : {'prediction', 'correction'}
    before : sequence of path-like
        Checkpoints that a correction network corrects, in their order.
    start : path-like, optional
        Checkpoint of a network with the same weights, from which the training begins.
    name : str, optional
        Of the checkpoint, ``NAME.safetensors``; the role unless given.
    licence : str
        Of the weights, for the card.
    half : bool
        Store the weights as float16.
    save_every : int
        Iterations between two states.
    processes : Processes
        This one and its device, see `networks.processes.joined`.
    progress : callable, optional
        Called after each iteration, by the first process.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        If an input cannot be used, the folder holds another training, the disk is full or the
        memory of the device does not suffice; what was reached stays.
    QuicksilverError
        If the training diverges.
    """
    check_data(data, plan, role, before)
    inputs = find_inputs(data)
    facts = {
        "format": "quicksilver-training",
        "version": 1,
        "versions": versions(),
        "command": shlex.join(sys.argv),
        "role": role,
        "recipe": plan.as_json(),
        "before": digests_of(before),
        "start": digests_of([] if start is None else [start]),
        "inputs": inputs.digests(),
        "processes": processes.ranks,
        "device": processes.device.type,
    }
    run = Run(output_dir, facts, writes=processes.first)
    task = _task(plan, data, inputs, role, before, start, processes)
    run.start()  # nothing is left behind by inputs that cannot be used
    loop = Loop(run, task, plan, processes, save_every, progress)
    loop.go()
    return _finish(run, task, loop, plan, facts, name or role, licence, half, processes)


def _task(
    plan: Plan,
    data: Data,
    inputs: Inputs,
    role: str,
    before: Sequence[PathLike],
    start: PathLike | None,
    processes: Processes,
) -> Task:
    import torch

    from nipype_quicksilver.networks.checkpoint import build_network

    torch.manual_seed(plan.training.seed)
    network = build_network(plan.architecture, dict(plan.parameters))
    if start is not None:
        _begin_with(network, start)
    network.to(processes.device)
    if plan.architecture == "patch":
        return _momentum_task(network, plan, data, role, processes)
    return _end_to_end_task(network, plan, inputs, before, processes)


def _begin_with(network: nn.Module, path: PathLike) -> None:
    """Give a network the weights of a checkpoint."""
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    known, _ = load_checkpoint(path)
    try:
        network.load_state_dict(known.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"{path}: has other weights than the network of the recipe; give a recipe with the "
            "same widths and scales"
        ) from error


def _end_to_end_task(
    network: Any, plan: Plan, inputs: Inputs, before: Sequence[PathLike], processes: Processes
) -> Task:
    from nipype_quicksilver.training.end_to_end import Losses, Recipe, Training
    from nipype_quicksilver.training.synthesis import Tissues
    from nipype_quicksilver.training.validation import Judges, mean_of, validate

    recipe = plan.training
    assert isinstance(recipe, Recipe)
    table = read_tissue_table(inputs.tissues)
    earlier = [_load_before(path, recipe).to(processes.device) for path in before]
    brains, judging = _read_brains(inputs, table, plan)
    scans, judging_scans = reading.read_scans(
        inputs.images, inputs.image_labels, table, plan.grid, recipe.factor
    )
    tissues = Tissues(table.tissues, table.t1w, table.t2w, table.scored)
    training = Training(
        network, brains, tissues, recipe, earlier, scans, processes.rank, processes.ranks
    )
    training.runner = processes.distribute(network)
    judges = Judges(judging, judging_scans, tissues, plan.validation, plan.pairs)

    def judge(trial: nn.Module, identity: bool) -> dict[str, float]:
        networks: list[ForceUNet] = [*earlier, trial]  # type: ignore[list-item]
        rows = validate(
            networks,
            judges,
            recipe,
            identity=identity,
            rank=processes.rank,
            ranks=processes.ranks,
        )
        return mean_of([row for part in processes.gather(rows) for row in part])

    return Task(
        trainer=training,
        judge=judge if len(judges) else None,
        model={
            "spacing": 1.0,
            "velocity_factor": network.velocity,
            "kernel": recipe.kernel.as_dict(),
            "steps": recipe.steps,
        },
        columns=tuple(item.name for item in dataclasses.fields(Losses)),
        before=[_named(item) for item in digests_of(before)],
    )


def _read_brains(
    inputs: Inputs, table: TissueTable, plan: Plan
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    files = inputs.labels
    if files.all:
        _logger.info("reading %d label maps", len(files.all))
    factor = getattr(plan.training, "factor", 1)
    return reading.read_brains(files, table, plan.grid, factor)


def _load_before(path: PathLike, recipe: Any) -> ForceUNet:
    from nipype_quicksilver.networks.checkpoint import load_checkpoint
    from nipype_quicksilver.networks.unet import ForceUNet

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
            f"{path}: looks at a finer grid than the recipe trains on; give a smaller factor"
        )
    return network.requires_grad_(False)


def _momentum_task(network: Any, plan: Plan, data: Data, role: str, processes: Processes) -> Task:
    from nipype_quicksilver.training.on_momenta import (
        MomentumTraining,
        PatchRecipe,
        RegressionLosses,
    )

    recipe = plan.training
    assert isinstance(recipe, PatchRecipe) and data.momenta is not None
    dataset = _read_momenta(data.momenta, role, network.patch_size)
    training = MomentumTraining(network, dataset.examples, recipe, processes.rank, processes.ranks)
    if not training.windows:
        raise InputError(f"{data.momenta}: its images show nothing; build it of brains")
    training.runner = processes.distribute(network)
    judge = None
    if data.validation_momenta is not None:
        judging = _read_momenta(data.validation_momenta, role, network.patch_size)
        model = ("kernel", "steps", "velocity_factor", "spacing", "before")
        if any(getattr(judging, key) != getattr(dataset, key) for key in model):
            raise InputError(
                f"{data.validation_momenta}: is of another model than {data.momenta}; build both "
                "in the same way"
            )
        measured = MomentumTraining(network, judging.examples, recipe)

        def judge(trial: nn.Module, identity: bool) -> dict[str, float]:
            mine = measured.zero_error() if identity else measured.error(trial)
            # All processes see the same; rounding may differ between devices.
            return {"loss": processes.gather(mine)[0]}

    return Task(
        trainer=training,
        judge=judge,
        model={
            key: getattr(dataset, key) for key in ("spacing", "velocity_factor", "kernel", "steps")
        },
        columns=tuple(item.name for item in dataclasses.fields(RegressionLosses)),
        before=[] if dataset.before is None else [dataset.before],
    )


def _read_momenta(folder: PathLike, role: str, side: int) -> momentum_dataset.MomentumDataset:
    dataset = momentum_dataset.read_momentum_dataset(folder)
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


def _finish(
    run: Run,
    task: Task,
    loop: Loop,
    plan: Plan,
    facts: dict[str, Any],
    name: str,
    licence: str,
    half: bool,
    processes: Processes,
) -> Trained:
    """Write the checkpoint and the curve."""
    import torch

    from nipype_quicksilver.networks.card import Card
    from nipype_quicksilver.networks.checkpoint import save_checkpoint

    judged = loop.best["weights"] is not None
    network = copy.deepcopy(loop.trainer.network)
    network.load_state_dict(loop.best["weights"] if judged else loop.trainer.average)
    validation = {}
    if judged:
        validation = {
            "iteration": loop.best["iteration"],
            "before": _numbers(loop.identity),
            "after": _numbers(loop.best["numbers"]),
        }
    card = Card(
        architecture=plan.architecture,
        parameters=plan.parameters,
        role=facts["role"],
        percentile=PERCENTILE,
        equalize=False,
        like_contrast=plan.architecture == "force-unet",
        training={
            "inputs": [_named(item) for item in facts["inputs"]],
            "before": task.before,
            "start": [_named(item) for item in facts["start"]],
            "recipe": facts["recipe"],
            "iterations": loop.trainer.iteration,
            "seconds": round(loop.seconds, 1),
            "processes": facts["processes"],
            "device": facts["device"],
            "versions": facts["versions"],
        },
        validation=validation,
        licence=licence,
        **task.model,
    )
    checkpoint = run.path(f"{name}.safetensors")
    if processes.first:
        dtype = torch.float16 if half else None
        card = save_checkpoint(checkpoint, network, card, dtype=dtype)
        draw_curve(run.path(CURVE), read_table(run.path(LOG)), read_table(run.path(VALIDATION)))
    return Trained(checkpoint, card, loop.trainer.iteration, validation)


def _numbers(numbers: dict[str, float]) -> dict[str, float]:
    """Return what JSON can hold."""
    return {name: round(value, 6) for name, value in numbers.items() if math.isfinite(value)}


def _named(item: dict[str, str]) -> dict[str, str]:
    """Return a file by its name alone: a card goes where paths mean nothing."""
    return {**item, "file": Path(item["file"]).name}
