"""`train`: from files to a checkpoint, through a folder from which it can be resumed."""

from __future__ import annotations

import copy
import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.provenance import versions
from nipype_quicksilver.networks.card import Card
from nipype_quicksilver.networks.checkpoint import build_network, load_checkpoint, save_checkpoint
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.intensity import PERCENTILE
from nipype_quicksilver.training.curve import draw_curve
from nipype_quicksilver.training.data import Data, Inputs, find_inputs
from nipype_quicksilver.training.digests import FileDigest
from nipype_quicksilver.training.distributed import Processes
from nipype_quicksilver.training.folder import (
    CURVE,
    LOG,
    VALIDATION,
    TrainingFolder,
    TrainingRecord,
    read_table,
)
from nipype_quicksilver.training.loop import Loop, Progress
from nipype_quicksilver.training.plan import Job, Plan
from nipype_quicksilver.training.trainer import Task


@dataclass(frozen=True)
class Validation:
    """Numbers of the validation for the weights that were kept.

    Attributes
    ----------
    iteration : int
        Iteration after which it was done.
    before, after : dict
        Numbers without deformation, and of the network.
    """

    iteration: int
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes
    ----------
    checkpoint : Path
    card : Card
    iteration : int
        Number of iterations that were done.
    validation : Validation or None
        None without validation data.
    """

    checkpoint: Path
    card: Card
    iteration: int
    validation: Validation | None


@dataclass(frozen=True)
class CardNote:
    """How the trained network is stored, as the user chose it.

    Attributes
    ----------
    name : str
        Name of the checkpoint, without its suffix.
    licence : str
        Licence of the weights.
    half : bool
        Store the weights as float16.
    """

    name: str
    licence: str
    half: bool


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
    """Train a network, or resume a training that was interrupted.

    Parameters
    ----------
    output_dir : path-like
        Folder of the training; an unfinished training in it with the same inputs and recipe is
        resumed, and the result is bit-identical to that of an uninterrupted one.
    data : Data
    plan : Plan
        The recipe.
    role : {'prediction', 'correction'}
    before : sequence of path-like
        Checkpoints that a correction network corrects, in their order.
    start : path-like, optional
        Checkpoint with the initial weights; its network has the same weights as the recipe's.
        Default: random weights.
    name : str, optional
        Name of the checkpoint, ``NAME.safetensors``. Default: the role.
    licence : str
        Licence of the weights, for the card.
    half : bool
        Store the weights as float16.
    save_every : int
        Iterations between two states.
    processes : Processes
        The processes that train together, with their devices; see `training.distributed.joined`.
    progress : callable, optional
        Called after each iteration, by the first process.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        If an input cannot be used, the folder holds a different training, the disk is full or the
        device runs out of memory; the last state is kept.
    QuicksilverError
        If the training diverges.
    """
    job = Job(plan, data, role, before, start)
    job.check()
    inputs = find_inputs(data)
    record = TrainingRecord(
        versions=versions(),
        command=shlex.join(sys.argv),
        role=role,
        recipe=plan.as_json(),
        before=[FileDigest.of(path) for path in before],
        start=[] if start is None else [FileDigest.of(start)],
        inputs=inputs.digests(),
        processes=processes.ranks,
        device=processes.device.type,
    )
    folder = TrainingFolder(output_dir, record, writes=processes.first)
    task = _task(job, inputs, processes)
    folder.start()  # only now, so that nothing is written if the inputs cannot be used
    loop = Loop(folder, task, plan, processes, save_every, progress)
    loop.run()
    return _finish(folder, task, loop, CardNote(name or role, licence, half))


def _task(job: Job, inputs: Inputs, processes: Processes) -> Task:
    """Build the network and return its trainer."""
    plan = job.plan
    torch.manual_seed(plan.training.seed)
    network = build_network(plan.architecture, dict(plan.parameters))
    if job.start is not None:
        _load_weights(network, job.start)
    network.to(processes.device)
    return plan.family.task(job, inputs, network, processes)


def _load_weights(network: nn.Module, path: PathLike) -> None:
    """Initialise a network with the weights of a checkpoint."""
    source, _ = load_checkpoint(path)
    try:
        network.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"{path}: has other weights than the network of the recipe; give a recipe with the "
            "same widths and scales"
        ) from error


def _finish(folder: TrainingFolder, task: Task, loop: Loop, note: CardNote) -> Trained:
    """Write the checkpoint and the curve."""
    trainer, best, plan, record = loop.trainer, loop.best, loop.plan, folder.record
    network = copy.deepcopy(trainer.network)
    network.load_state_dict(trainer.average if best.weights is None else best.weights)
    validation = None
    if best.weights is not None:
        validation = Validation(best.iteration, _rounded(loop.identity), _rounded(best.numbers))
    card = Card(
        architecture=plan.architecture,
        parameters=plan.parameters,
        role=record.role,
        spacing=task.model.spacing,
        velocity_factor=task.model.velocity_factor,
        kernel=task.model.kernel,
        steps=task.model.steps,
        percentile=PERCENTILE,
        equalize=False,
        match_contrast=plan.family.match_contrast,
        training={
            "inputs": _without_folders(record.inputs),
            "before": _without_folders(task.before),
            "start": _without_folders(record.start),
            "recipe": record.recipe,
            "iterations": trainer.iteration,
            "seconds": round(loop.seconds, 1),
            "processes": record.processes,
            "device": record.device,
            "versions": record.versions,
        },
        validation={} if validation is None else dataclasses.asdict(validation),
        licence=note.licence,
    )
    checkpoint = folder.path(f"{note.name}.safetensors")
    if folder.writes:
        card = save_checkpoint(
            checkpoint, network, card, dtype=torch.float16 if note.half else None
        )
        draw_curve(
            folder.path(CURVE), read_table(folder.path(LOG)), read_table(folder.path(VALIDATION))
        )
    return Trained(checkpoint, card, trainer.iteration, validation)


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    """Return the finite numbers, rounded: JSON cannot hold others."""
    return {name: round(value, 6) for name, value in numbers.items() if math.isfinite(value)}


def _without_folders(digests: Sequence[FileDigest]) -> list[dict[str, str]]:
    """Return digests for a card, with names of files alone."""
    return [digest.without_folder().as_json() for digest in digests]
