"""Reading of records, networks, and kept files: what the package itself has written."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz import seeds
from benchmarks.fuzz.judging import Nonsense, check_finite, same
from tests.helpers.summaries import summary_content


def write_summary(folder: Path) -> None:
    """Write the summary of a registration with all optional parts."""
    overlap = {"dice": 0.5, "jaccard": 0.4, "target_overlap": 0.6}
    labels = {"2": {**overlap, "target_mm3": 4.0, "source_mm3": 5.0}}
    both = {"labels": labels, "mean": overlap, "total": overlap}
    content = summary_content()
    content["labels"] = {"before": both, "after": both}
    content["uncertainty_mm"] = {"mean": 1.0, "p99": 2.0, "max": 3.0}
    content["sha256"] = {"fixed": "ab", "networks": ["cd", "ef"]}
    content["preprocessing"] = {
        "fixed_brain": {"how": "deepbet", "volume_ml": 1400.0},
        "affine": {"dof": 12, "scales": [1.0, 1.0, 1.0]},
        "template": {"file": "MNI152", "used": True, "matrix": np.eye(4).tolist()},
    }
    stage = {"stage": 1, "iterations": 2, "iterations_at_most": 3, "converged": True}
    numbers = {"loss": [1.0, 2.0], "energy": [1.0, 2.0], "dissimilarity": [2.0, 1.0]}
    content["stages"] = [{**stage, **numbers, "smallest_jacobian": 0.5}]
    content["parameters"] |= {"similarity": "lncc", "stages": [{"image": 1, "velocity": 2}]}
    (folder / "summary.json").write_text(json.dumps(content))


def read_summary(path: Path) -> None:
    """Read a summary, and write all texts of its report."""
    from nipype_quicksilver.reports.boilerplate import methods
    from nipype_quicksilver.reports.folder import read_summary as read
    from nipype_quicksilver.reports.single import _tables, _texts

    summary = read(path)
    texts = [_texts(summary, []), _tables(summary), methods(summary).text]
    json.dumps(texts, default=str, ensure_ascii=False).encode()


def write_record(folder: Path) -> None:
    """Write the record of a registration of a cohort."""
    write_summary(folder)
    content = json.loads((folder / "summary.json").read_text())
    job = {"name": "a", "participant_id": "sub-01", "session_id": None, "image": "a", "space": "b"}
    content |= {"made_from": "ab", "job": job, "derivatives": {"a.nii.gz": "0"}}
    anat = folder / "sub-01" / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    (anat / "sub-01_registration.json").write_text(json.dumps(content))


def read_record(path: Path) -> None:
    """Read the records below a folder, and write the table of the group."""
    from nipype_quicksilver.cohort.group import read_records, write_table

    write_table(read_records(path.parents[2]), path.parents[2])


def write_network(folder: Path) -> None:
    """Write a small network with its card, and one of the original project."""
    import torch

    from nipype_quicksilver.networks.original import _names
    from nipype_quicksilver.networks.patch_network import PatchNetwork
    from tests.helpers.tiny_networks import save_unet

    save_unet(folder / "net.safetensors", widths=[2, 2], scales=[2, 4])
    own = PatchNetwork(features=1, patch_size=7).state_dict()
    weights = {original: own[name] for name, original in _names() if name in own}
    features = {"network_feature": 1, "patch_size": 7, "state_dict": weights}
    deformation = {"diffOpParams": [0.01, 0.01, 0.001], "time_steps": 10}
    torch.save({**features, "deformation_params": deformation}, folder / "net.pth.tar")


def repair_network(folder: Path) -> None:
    """Put the hash of the weights into their card, where it is one."""
    card = folder / "net.json"
    try:
        content = json.loads(card.read_bytes())
        content["sha256"] = hashlib.sha256((folder / "net.safetensors").read_bytes()).hexdigest()
        card.write_text(json.dumps(content))
    except (ValueError, TypeError, RecursionError):
        return


def read_network(path: Path) -> None:
    """Load a network."""
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    network, _ = load_checkpoint(path.with_suffix(".safetensors"))
    for weights in network.parameters():
        check_finite(weights.detach().numpy())


def read_original(path: Path) -> None:
    """Read a network of the original project."""
    from nipype_quicksilver.networks.original import read_original as read

    read(path)


def kept_mask(path: Path) -> None:
    """Read a kept mask, or compute and write it."""
    from nibabel.nifti1 import Nifti1Image

    from nipype_quicksilver.preprocessing.brain import BrainSummary
    from nipype_quicksilver.registration.work_folder import WorkFolder

    like = Nifti1Image(np.zeros(seeds.MASK.shape, np.float32), seeds.AFFINE)
    data, _ = WorkFolder(_folder(path)).reuse_or_compute(
        "mask", ["parts"], lambda: (seeds.MASK, BrainSummary("x")), BrainSummary, like
    )
    same(data, seeds.MASK, "a mask")


def kept_affine(path: Path) -> None:
    """Read a kept affine, or compute and write it."""
    from nipype_quicksilver.preprocessing.matrices import AffineSummary
    from nipype_quicksilver.registration.work_folder import WorkFolder

    data, _ = WorkFolder(_folder(path)).reuse_or_compute(
        "affine", ["parts"], lambda: (seeds.MATRIX, AffineSummary("x")), AffineSummary
    )
    same(data, seeds.MATRIX, "a matrix")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def write_training(folder: Path) -> None:
    """Write the folder of a training: record, recipe and state."""
    loop = _loop(folder)
    loop._folder.start()
    loop._folder.save(
        {
            "training": loop.trainer.state(),
            "best": vars(loop.best),
            "identity": {"loss": 1.0},
            "last": {"loss": 0.5},
            "seconds": 3.0,
        }
    )


def read_training(path: Path) -> None:
    """Resume a training from its folder."""
    loop = _loop(path.parent)
    if not isinstance(loop.trainer.iteration, int) or not loop.seconds < 1e300:
        raise Nonsense("a state of a training with other values than numbers")


def _loop(folder: Path) -> Any:
    import torch

    from nipype_quicksilver.training.digests import FileDigest
    from nipype_quicksilver.training.distributed import Processes
    from nipype_quicksilver.training.folder import TrainingFolder, TrainingRecord
    from nipype_quicksilver.training.loop import Loop
    from nipype_quicksilver.training.recipes import plan_from_json
    from nipype_quicksilver.training.trainer import Losses, Task, Trainer

    class Parabola(Trainer[Any]):
        def step(self) -> Losses:
            raise NotImplementedError

    record = TrainingRecord(
        versions={"torch": "2"},
        command="quicksilver train",
        role="prediction",
        recipe=seeds.recipe(),
        before=[],
        start=[],
        inputs=[FileDigest("a.nii", "e3b0", "labels")],
        processes=1,
        device="cpu",
    )
    plan = plan_from_json(seeds.recipe())
    model: Any = None
    task = Task(Parabola(torch.nn.Linear(2, 2), plan.training, 0, 1), None, model, [])
    processes = Processes(0, 1, torch.device("cpu"))
    return Loop(TrainingFolder(folder, record), task, plan, processes, 1, None)
