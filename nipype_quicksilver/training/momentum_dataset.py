"""Data sets for the paper's way of training: pairs of images and their optimised momenta.

A data set is a folder: ``index.tsv`` with a row for each pair, ``dataset.json`` with the LDDMM
model of the momenta, and the images (NIfTI), all on the grid of the momenta. For a correction
network the target is in the space of the moving image, and the momentum is what the prediction
left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.shooting import shoot_momentum
from nipype_quicksilver.spatial.files import PathLike, sha256_of, staged, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import check_same_grid, image_name, read_image, write_image
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum, write_momentum
from nipype_quicksilver.spatial.resampling import pooled

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.networks.card import Card
    from nipype_quicksilver.training.on_momenta import MomentumExample

FORMAT = "quicksilver-momenta"
VERSION = 1
INDEX, FACTS = "index.tsv", "dataset.json"
COLUMNS = ("moving", "target", "momentum", "moving_source", "fixed_source")

#: Told the pairs done and the pairs in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MomentumDataset:
    """A data set, read.

    Attributes
    ----------
    role : str
        ``prediction`` or ``correction``.
    kernel : dict
    steps : int
    velocity_factor : int
        From the working grid to that of the momenta.
    spacing : float
        Of the working grid, mm.
    before : dict or None
        The prediction network whose momenta are corrected: ``file`` and ``sha256``.
    examples : list of MomentumExample
    """

    role: str
    kernel: dict[str, float]
    steps: int
    velocity_factor: int
    spacing: float
    before: dict[str, str] | None
    examples: list[MomentumExample]


def build_momentum_dataset(
    fixed: Sequence[PathLike],
    moving: Sequence[PathLike],
    momenta: Sequence[PathLike],
    output_dir: PathLike,
    *,
    prediction: PathLike | None = None,
    device: torch.device,
    progress: Progress | None = None,
) -> Path:
    """Write a data set of pairs.

    Parameters
    ----------
    fixed, moving : sequence of path-like
        Images on a working grid each pair shares, normalised.
    momenta : sequence of path-like
        Optimised momentum of each pair, with one kernel, on one kind of grid.
    output_dir : path-like
        Folder, made if needed.
    prediction : path-like, optional
        Checkpoint of the paper's prediction network: the data set is for its correction network.
    device : torch.device
        Where it predicts and shoots.
    progress : callable, optional

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the lists do not fit together, or a file cannot be used.
    """
    if not len(fixed) == len(moving) == len(momenta) > 0:
        raise InputError(
            f"{len(fixed)} fixed images, {len(moving)} moving images and {len(momenta)} momenta; "
            "give as many of each, in the same order"
        )
    predict = None if prediction is None else _Predicted(prediction, device)
    model: dict[str, Any] = {}
    rows = []
    with staged_folder(output_dir) as stage:
        for number, paths in enumerate(zip(fixed, moving, momenta, strict=True), start=1):
            pair = _read_pair(*paths)
            own = _model(pair.momentum)
            if (model := model or own) != own:
                raise InputError(
                    f"{paths[2]}: has another kernel, number of steps or grid factor than "
                    f"{momenta[0]}; optimise all pairs in the same way"
                )
            if predict is not None:
                predict.check(pair, paths[2])
                pair = predict(pair)
            rows.append(_write_pair(stage, number, pair, paths))
            if progress is not None:
                progress(number, len(momenta))
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "role": "prediction" if predict is None else "correction",
            **model,
            "before": None if predict is None else predict.facts,
        }
        write_json(stage / FACTS, facts)
        _write_index(stage / INDEX, rows)
    return Path(output_dir)


@dataclass(frozen=True)
class _Pair:
    """Images on the working grid, (X, Y, Z), and the momentum."""

    target: np.ndarray
    moving: np.ndarray
    momentum: Momentum


def _read_pair(fixed: PathLike, moving: PathLike, momentum: PathLike) -> _Pair:
    target = read_image(fixed, what="fixed image")
    source = read_image(moving, what="moving image")
    check_same_grid(target, source)
    found = read_momentum(momentum)
    if not found.working_grid.equals(Grid.from_image(target), tol=1e-2):
        raise InputError(
            f"{momentum}: is not on the working grid of {fixed}; give the momentum of this pair"
        )
    return _Pair(_data(target), _data(source), found)


def _data(image: Nifti1Image) -> np.ndarray:
    return np.asanyarray(image.dataobj)


def _model(momentum: Momentum) -> dict[str, Any]:
    """Return what all momenta of a data set share."""
    return {
        "kernel": momentum.kernel,
        "steps": momentum.steps,
        "velocity_factor": _factor(momentum),
        "spacing": round(momentum.working_grid.spacing[0], 6),
    }


def _factor(momentum: Momentum) -> int:
    return momentum.working_grid.shape[0] // momentum.grid.shape[0]


class _Predicted:
    """Pairs as the correction network of a prediction network sees them."""

    def __init__(self, path: PathLike, device: torch.device) -> None:
        from nipype_quicksilver.networks.checkpoint import load_checkpoint
        from nipype_quicksilver.networks.patches import PatchPredictor

        network, self.card = load_checkpoint(path)
        if self.card.architecture != "patch":
            raise InputError(
                f"{path}: is a {self.card.architecture} network; momenta are corrected of patch "
                "networks only"
            )
        self.predictor = PatchPredictor(network, devices=[device])
        self.device = device
        self.path = path
        self.facts = {"file": Path(path).name, "sha256": self.card.sha256}

    def check(self, pair: _Pair, name: PathLike) -> None:
        """Refuse a pair whose LDDMM model is another than the network's."""
        own = _model(pair.momentum)
        if own != _model_of_card(self.card):
            raise InputError(
                f"{name}: has another kernel, number of steps or grid than {self.path} was trained "
                "for; give momenta of that model"
            )

    def __call__(self, pair: _Pair) -> _Pair:
        import torch

        from nipype_quicksilver.lddmm.fields import sample
        from nipype_quicksilver.lddmm.folding import unfold
        from nipype_quicksilver.lddmm.kernel import KernelOperator
        from nipype_quicksilver.lddmm.settings import Kernel

        momentum = pair.momentum
        grid, kernel = momentum.grid, Kernel(**momentum.kernel)
        operator = KernelOperator(kernel, grid.shape, grid.spacing, torch.float32, self.device)
        small = [pooled(image, _factor(momentum)) for image in (pair.moving, pair.target)]
        moving, target = (torch.from_numpy(image)[None, None].to(self.device) for image in small)
        state = operator.apply(self.predictor(moving, target), 0.5)
        # Mended as a registration mends it: a map that folds shows the correction nothing.
        state, _ = unfold(state, operator, steps=momentum.steps, factor=_factor(momentum))
        found = np.moveaxis(operator.apply(state, -0.5)[0].cpu().numpy(), 0, -1)
        predicted = Momentum(
            found, momentum.grid, momentum.kernel, momentum.steps, momentum.working_grid
        )
        forward = np.moveaxis(shoot_momentum(predicted, self.device).forward, -1, 0)
        image = torch.from_numpy(pair.target)[None, None].to(self.device)
        warp = torch.from_numpy(np.ascontiguousarray(forward))[None].to(self.device)
        carried = sample(image, warp, momentum.working_grid.spacing)[0, 0].cpu().numpy()
        left = Momentum(
            momentum.data - found,
            momentum.grid,
            momentum.kernel,
            momentum.steps,
            momentum.working_grid,
        )
        return _Pair(carried, pair.moving, left)


def _model_of_card(card: Card) -> dict[str, Any]:
    return {
        "kernel": card.kernel,
        "steps": card.steps,
        "velocity_factor": card.velocity_factor,
        "spacing": card.spacing,
    }


def _write_pair(
    folder: Path, number: int, pair: _Pair, sources: Sequence[PathLike]
) -> dict[str, str]:
    momentum = pair.momentum
    names = {key: f"pair-{number:04d}_{key}.nii.gz" for key in COLUMNS[:3]}
    for key, image in (("moving", pair.moving), ("target", pair.target)):
        small = pooled(image, _factor(momentum))
        write_image(folder / names[key], small, momentum.grid.affine)
    write_momentum(folder / names["momentum"], momentum)
    fixed, moving, _ = (str(Path(path).absolute()) for path in sources)
    return {**names, "moving_source": moving, "fixed_source": fixed}


def _write_index(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with staged(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_momentum_dataset(folder: PathLike) -> MomentumDataset:
    """Read a data set.

    Parameters
    ----------
    folder : path-like
        As :func:`build_momentum_dataset` made it.

    Returns
    -------
    MomentumDataset

    Raises
    ------
    InputError
        If it is none, or a file of it is missing or damaged.
    """
    import torch

    from nipype_quicksilver.training.on_momenta import MomentumExample

    folder = Path(folder)
    facts, rows = _read_facts(folder), _read_index(folder)
    examples = []
    for row in rows:
        momentum = read_momentum(folder / row["momentum"])
        if _model(momentum) != {key: facts[key] for key in _model(momentum)}:
            raise InputError(
                f"{folder / row['momentum']}: is not of the model in {FACTS}; build it again"
            )
        images = [read_image(folder / row[key], what=f"{key} image") for key in COLUMNS[:2]]
        for image in images:
            if not Grid.from_image(image).equals(momentum.grid, tol=1e-2):
                raise InputError(
                    f"{image_name(image)}: is not on the grid of its momentum; build the data set "
                    "again"
                )
        moving, target = (torch.from_numpy(_data(image).copy())[None, None] for image in images)
        field = np.ascontiguousarray(np.moveaxis(momentum.data, -1, 0))
        examples.append(MomentumExample(moving, target, torch.from_numpy(field)[None]))
    return MomentumDataset(
        role=facts["role"],
        kernel=facts["kernel"],
        steps=facts["steps"],
        velocity_factor=facts["velocity_factor"],
        spacing=facts["spacing"],
        before=facts["before"],
        examples=examples,
    )


def dataset_digests(folder: PathLike) -> list[tuple[Path, str]]:
    """Return the files of a data set with their SHA-256."""
    folder = Path(folder)
    _read_facts(folder)
    names = [row[key] for row in _read_index(folder) for key in COLUMNS[:3]]
    return [(folder / name, sha256_of(folder / name)) for name in (FACTS, INDEX, *names)]


def _read_facts(folder: Path) -> dict[str, Any]:
    what = f"{folder}: is no data set of momenta ('quicksilver dataset' makes one)"
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(what) from error
    keys = ("role", "kernel", "steps", "velocity_factor", "spacing", "before")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not set(keys) <= set(facts):
        raise InputError(what)
    if facts.get("version") != VERSION:
        raise InputError(f"{folder}: is of a later format; update nipype-quicksilver")
    return facts


def _read_index(folder: Path) -> list[dict[str, str]]:
    path = folder / INDEX
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read; build the data set again") from error
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    if not rows or any(row.get(key) is None for row in rows for key in COLUMNS[:3]):
        raise InputError(f"{path}: lists no pairs; build the data set again")
    return rows
