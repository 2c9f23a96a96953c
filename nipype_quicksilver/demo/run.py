"""The demonstration from end to end: make a pair, register it, compare with the truth."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nipype_quicksilver.demo.phantom import TISSUES, Pair
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.registration import Registration, register
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import write_momentum
from nipype_quicksilver.spatial.transforms import displacement_on_grid, write_displacement

if TYPE_CHECKING:
    import torch

    from nipype_quicksilver.lddmm.settings import Settings
    from nipype_quicksilver.registration.fit import Progress

#: What the demonstration writes besides the files of a registration and the pair itself.
PICTURE = "demo.png"
NUMBERS = "demo.json"
TRUE_DISPLACEMENT = "true_displacement.nii.gz"
TRUE_MOMENTUM = "true_momentum.nii.gz"


@dataclass(frozen=True, eq=False)
class Outcome:
    """A registration beside its truth.

    Attributes
    ----------
    pair : Pair
        The images.
    registration : Registration
        What was found.
    true_displacement : ndarray
        (X, Y, Z, 3), RAS mm, on the grid of the images: what was to be found.
    numbers : dict
        ``error_mm`` (``mean``, ``p95``, ``max`` over the fixed brain), ``local_correlation`` and
        ``dice`` (by tissue), each ``before`` and ``after``; ``jacobian``; ``seconds``.
    """

    pair: Pair
    registration: Registration
    true_displacement: np.ndarray
    numbers: dict[str, Any]

    def error(self, when: str) -> np.ndarray:
        """Return the distance of the map from the truth at each voxel, (X, Y, Z), mm."""
        found = self.registration.displacement if when == "after" else 0
        return np.linalg.norm(found - self.true_displacement, axis=-1)

    def save(self, output_dir: PathLike, inputs: dict[str, Path]) -> None:
        """Write everything and the picture, or nothing.

        Parameters
        ----------
        output_dir : path-like
            Folder, made if needed; files of the same names are replaced.
        inputs : dict
            The files of the pair by name.
        """
        from nipype_quicksilver.demo.picture import draw

        clock = Clock()
        truth, folder = self.pair.truth, Path(output_dir).absolute()
        # The files that were registered are found with the results.
        told: dict[str, str | None] = self.registration.summary["inputs"]
        told.update({name: str(folder / path.name) for name, path in inputs.items()})
        with staged_folder(output_dir) as stage:
            with clock.part("picture"):
                draw(self, stage / PICTURE)
            with clock.part("write"):
                self.registration.save(stage)
                for path in inputs.values():
                    shutil.copy(path, stage / path.name)
                # On its own grid the truth is small, and exact.
                write_displacement(
                    stage / TRUE_DISPLACEMENT, truth.displacement, truth.momentum.grid
                )
                write_momentum(stage / TRUE_MOMENTUM, truth.momentum)
            seconds = self.numbers["seconds"] | clock.seconds
            seconds.pop("total", None)
            self.numbers["seconds"] = seconds | {"total": sum(seconds.values())}
            write_json(stage / NUMBERS, self.numbers)


def run_demo(
    pair: Pair,
    inputs: dict[str, Path],
    *,
    settings: Settings | None = None,
    device: torch.device | str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Register a pair and compare the result with the truth.

    Parameters
    ----------
    pair : Pair
        The images and the deformation between them.
    inputs : dict
        Their files, as :meth:`Pair.write` returns them: the registration sees no more than these.
    settings : Settings, optional
        Of the registration; the default ones unless given.
    device : torch.device or str
        Where to compute.
    seed : int
        Recorded.
    progress : callable, optional
        Called after each iteration.
    clock : Clock, optional
        The seconds spent so far, to be told with those of the registration.

    Returns
    -------
    Outcome
        Nothing of it is written.
    """
    registration = register(
        inputs["fixed"],
        inputs["moving"],
        fixed_labels=inputs["fixed_labels"],
        moving_labels=inputs["moving_labels"],
        brain_extraction="none",
        affine=None,  # there is none between them, and the truth has none
        method="optimize",
        settings=settings,
        device=device,
        seed=seed,
        progress=progress,
    )
    spent = {**clock.seconds} if clock else {}
    clock = Clock()
    with clock.part("compare"):
        grid = Grid.from_image(pair.fixed)
        truth = displacement_on_grid(pair.truth.transform, grid)
        brain = np.asanyarray(pair.fixed.dataobj) > 0
        found = registration.displacement[brain]
        error = {
            "before": _distance(truth[brain]),
            "after": _distance(found - truth[brain]),
        }
    summary = registration.summary
    numbers = {
        "seed": seed,
        "error_mm": error,
        "local_correlation": {when: summary["similarity"][when] for when in ("before", "after")},
        "dice": {
            when: {tissue: overlap["labels"][label]["dice"] for label, tissue in TISSUES.items()}
            for when, overlap in summary["labels"].items()
        },
        "jacobian": summary["jacobian"],
        "seconds": spent | summary["seconds"] | clock.seconds,
    }
    return Outcome(pair, registration, truth, numbers)


def _distance(vectors: np.ndarray) -> dict[str, float]:
    """Summarise the lengths of vectors (N, 3)."""
    length = np.linalg.norm(vectors.astype(float), axis=-1)
    return {
        "mean": float(length.mean()),
        "p95": float(np.percentile(length, 95)),
        "max": float(length.max()),
    }
