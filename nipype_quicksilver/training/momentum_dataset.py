"""Data sets for training as in the 2017 paper: pairs of images and their optimised momenta.

A data set is a folder: ``index.tsv`` with a row for each pair, ``dataset.json`` with the LDDMM
model of the momenta, and the images (NIfTI), all on the grid of the momenta. For a correction
network the target is in the space of the moving image, and the momentum is the difference between
the optimised and the predicted one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.folding import remove_folds
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.networks.checkpoint import load_checkpoint
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import PatchPredictor
from nipype_quicksilver.registration.shooting import shoot_momentum
from nipype_quicksilver.spatial.files import PathLike, check_apart, staged, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.grids import Grid, check_same_grid
from nipype_quicksilver.spatial.images import image_name, read_image, write_image
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum, write_momentum
from nipype_quicksilver.spatial.resampling import pooled
from nipype_quicksilver.training.digests import FileDigest
from nipype_quicksilver.training.model import LddmmModel
from nipype_quicksilver.training.on_momenta import MomentumExample

FORMAT = "quicksilver-momenta"
VERSION = 1
INDEX, DESCRIPTION = "index.tsv", "dataset.json"
COLUMNS = ("moving", "target", "momentum", "moving_source", "fixed_source")
_MODEL_KEYS = tuple(field.name for field in fields(LddmmModel))

#: Called with the number of pairs done and the number of all pairs.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MomentumDataset:
    """A data set in memory.

    Attributes
    ----------
    role : {'prediction', 'correction'}
        Role of the networks that are trained on it.
    model : LddmmModel
    before : FileDigest or None
        The prediction network whose momenta are corrected.
    examples : list of MomentumExample
    """

    role: str
    model: LddmmModel
    before: FileDigest | None
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
        Images of each pair, normalised, on one working grid.
    momenta : sequence of path-like
        Optimised momentum of each pair; the LDDMM model is the same for all pairs.
    output_dir : path-like
        Folder, created if needed.
    prediction : path-like, optional
        Checkpoint of the paper's prediction network: the data set is for its correction network.
    device : torch.device
        Device on which momenta are predicted and shot.
    progress : callable, optional
        Called after each pair.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the lists differ in length, or a file cannot be used.
    """
    if not len(fixed) == len(moving) == len(momenta) > 0:
        raise InputError(
            f"{len(fixed)} fixed images, {len(moving)} moving images and {len(momenta)} momenta; "
            "give the same number of each, in the same order"
        )
    files = [Path(output_dir) / name for name in files_of(len(momenta))]
    check_apart(files, [*fixed, *moving, *momenta])
    residual = None if prediction is None else _Residual(prediction, device)
    model: LddmmModel | None = None
    rows = []
    with staged_folder(output_dir, record=DESCRIPTION) as stage:
        for number, paths in enumerate(zip(fixed, moving, momenta, strict=True), start=1):
            pair = _read_pair(*paths)
            if model is None:
                model = pair.model
            if pair.model != model:
                raise InputError(
                    f"{paths[2]}: has another kernel, number of steps or grid factor than "
                    f"{momenta[0]}; optimise all pairs in the same way"
                )
            if residual is not None:
                residual.check(pair, paths[2])
                pair = residual(pair)
            rows.append(_write_pair(stage, number, pair, paths))
            if progress is not None:
                progress(number, len(momenta))
        assert model is not None
        description = {
            "format": FORMAT,
            "version": VERSION,
            "role": "prediction" if residual is None else "correction",
            **model.as_json(),
            "before": None if residual is None else residual.network.as_json(),
        }
        write_json(stage / DESCRIPTION, description)
        _write_index(stage / INDEX, rows)
    return Path(output_dir)


@dataclass(frozen=True)
class _Pair:
    """Images on the working grid, (X, Y, Z), and the momentum."""

    target: np.ndarray
    moving: np.ndarray
    momentum: Momentum

    @property
    def model(self) -> LddmmModel:
        """The LDDMM model of the momentum."""
        return LddmmModel.of_momentum(self.momentum)


def _read_pair(fixed: PathLike, moving: PathLike, momentum: PathLike) -> _Pair:
    target = read_image(fixed, what="fixed image")
    source = read_image(moving, what="moving image")
    check_same_grid(target, source)
    optimised = read_momentum(momentum)
    if not optimised.working_grid.equals(Grid.from_image(target), tol=1e-2):
        raise InputError(
            f"{momentum}: is not on the working grid of {fixed}; give the momentum of this pair"
        )
    return _Pair(_data(target), _data(source), optimised)


def _data(image: Nifti1Image) -> np.ndarray:
    return np.asanyarray(image.dataobj)


class _Residual:
    """Turns pairs into those on which the correction network of a prediction network is trained.

    Parameters
    ----------
    path : path-like
        Checkpoint of the prediction network.
    device : torch.device
    """

    def __init__(self, path: PathLike, device: torch.device) -> None:
        network, card = load_checkpoint(path)
        if not isinstance(network, PatchNetwork):
            raise InputError(
                f"{path}: is a {card.architecture} network; data sets of momenta are for "
                "correcting patch networks only"
            )
        self._predictor = PatchPredictor(network, devices=[device])
        self._device = device
        self._path = path
        self._model = LddmmModel.of_card(card)
        #: The prediction network.
        self.network = FileDigest(Path(path).name, card.sha256)

    def check(self, pair: _Pair, name: PathLike) -> None:
        """Refuse a pair with another LDDMM model than the network's.

        Parameters
        ----------
        pair : _Pair
        name : path-like
            File of its momentum.
        """
        if pair.model != self._model:
            raise InputError(
                f"{name}: has another kernel, number of steps or grid than {self._path} was "
                "trained for; give momenta of that model"
            )

    def __call__(self, pair: _Pair) -> _Pair:
        """Return the pair with the target carried back by the prediction, and the residual."""
        optimised = pair.momentum
        predicted = replace(optimised, data=self._predict(pair))
        forward = np.moveaxis(shoot_momentum(predicted, self._device).forward, -1, 0)
        image = torch.from_numpy(pair.target)[None, None].to(self._device)
        displacement = torch.from_numpy(np.ascontiguousarray(forward))[None].to(self._device)
        spacing = optimised.working_grid.spacing
        target = sample(image, displacement, spacing)[0, 0].cpu().numpy()
        return _Pair(target, pair.moving, replace(optimised, data=optimised.data - predicted.data))

    def _predict(self, pair: _Pair) -> np.ndarray:
        """Return the predicted momentum of a pair, (X, Y, Z, 3)."""
        grid, factor = pair.momentum.grid, pair.momentum.factor
        kernel = Kernel(**pair.momentum.kernel)
        operator = KernelOperator(kernel, grid.shape, grid.spacing, torch.float32, self._device)
        coarse = [pooled(image, factor) for image in (pair.moving, pair.target)]
        moving, target = (torch.from_numpy(image)[None, None].to(self._device) for image in coarse)
        state = operator.apply(self._predictor(moving, target), 0.5)
        # Folds are removed as in a registration: where a map folds, there is nothing to correct.
        state, _ = remove_folds(state, operator, steps=pair.momentum.steps, factor=factor)
        return np.moveaxis(operator.apply(state, -0.5)[0].cpu().numpy(), 0, -1)


def _write_pair(
    folder: Path, number: int, pair: _Pair, sources: Sequence[PathLike]
) -> dict[str, str]:
    momentum = pair.momentum
    names = _names(number)
    for key, image in (("moving", pair.moving), ("target", pair.target)):
        coarse = pooled(image, momentum.factor)
        write_image(folder / names[key], coarse, momentum.grid.affine)
    write_momentum(folder / names["momentum"], momentum)
    fixed, moving, _ = (str(Path(path).absolute()) for path in sources)
    return {**names, "moving_source": moving, "fixed_source": fixed}


def _names(number: int) -> dict[str, str]:
    """Return the files of a pair by column."""
    return {key: f"pair-{number:04d}_{key}.nii.gz" for key in COLUMNS[:3]}


def files_of(number: int) -> list[str]:
    """Return the names of the files of a data set of a number of pairs."""
    pairs = [name for pair in range(1, number + 1) for name in _names(pair).values()]
    return [*pairs, INDEX, DESCRIPTION]


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
        A folder that :func:`build_momentum_dataset` wrote.

    Returns
    -------
    MomentumDataset

    Raises
    ------
    InputError
        If the folder is not a data set, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    description, rows = _read_description(folder), _read_index(folder)
    model = LddmmModel(*(description[key] for key in _MODEL_KEYS))
    examples = []
    for row in rows:
        momentum = read_momentum(folder / row["momentum"])
        if LddmmModel.of_momentum(momentum) != model:
            raise InputError(
                f"{folder / row['momentum']}: has another model than {DESCRIPTION} describes; "
                "build the data set again"
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
    before = description["before"]
    return MomentumDataset(
        role=description["role"],
        model=model,
        before=None if before is None else FileDigest(before["file"], before["sha256"]),
        examples=examples,
    )


def dataset_files(folder: PathLike) -> list[Path]:
    """Return the files of a data set.

    Raises
    ------
    InputError
        If the folder is not a data set.
    """
    folder = Path(folder)
    _read_description(folder)
    names = [row[key] for row in _read_index(folder) for key in COLUMNS[:3]]
    return [folder / name for name in (DESCRIPTION, INDEX, *names)]


def _read_description(folder: Path) -> dict[str, Any]:
    message = f"{folder}: is not a data set of momenta ('quicksilver dataset' builds one)"
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(message) from error
    keys = {"role", *_MODEL_KEYS, "before"}
    if not isinstance(content, dict) or content.get("format") != FORMAT or not keys <= set(content):
        raise InputError(message)
    if content.get("version") != VERSION:
        raise InputError(f"{folder}: is of a later format; update nipype-quicksilver")
    return content


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
