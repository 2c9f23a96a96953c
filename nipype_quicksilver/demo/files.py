"""The output folder of the demonstration."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from nipype_quicksilver.demo.outcome import Numbers, Outcome
from nipype_quicksilver.demo.phantom import IMAGES
from nipype_quicksilver.demo.picture import draw
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.registration.summary import with_total
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.momentum import write_momentum
from nipype_quicksilver.spatial.records import as_json
from nipype_quicksilver.spatial.transforms import write_displacement

#: Files of the demonstration, in addition to those of a registration and of the pair.
PICTURE = "demo.png"
NUMBERS = "demo.json"
TRUE_DISPLACEMENT = "true_displacement.nii.gz"
TRUE_MOMENTUM = "true_momentum.nii.gz"
#: All files.
NAMES = (
    *FILES.values(),
    *(f"{name}.nii.gz" for name in IMAGES),
    *(PICTURE, NUMBERS, TRUE_DISPLACEMENT, TRUE_MOMENTUM),
)


def save(outcome: Outcome, output_dir: PathLike, inputs: dict[str, Path]) -> Numbers:
    """Write all files and the picture; if anything fails, nothing is written.

    Parameters
    ----------
    outcome : Outcome
        The registration and its measures.
    output_dir : path-like
        Folder, created if needed; the files of an earlier demonstration are replaced.
    inputs : dict
        The files of the pair by name.

    Returns
    -------
    Numbers
        Measures, with the seconds of drawing and writing.
    """
    clock = Clock()
    truth, folder = outcome.pair.truth, Path(output_dir).absolute()
    # The files that were registered are written next to the results.
    summary = outcome.registration.summary
    copies = {name: str(folder / path.name) for name, path in inputs.items()}
    registration = replace(
        outcome.registration, summary=replace(summary, inputs={**summary.inputs, **copies})
    )
    with staged_folder(output_dir, NAMES, FILES["summary"]) as stage:
        with clock.part("picture"):
            draw(outcome, stage / PICTURE)
        with clock.part("write"):
            registration.save(stage)
            for path in inputs.values():
                shutil.copy(path, stage / path.name)
            # On its own grid the true field is small and exact.
            write_displacement(stage / TRUE_DISPLACEMENT, truth.displacement, truth.momentum.grid)
            write_momentum(stage / TRUE_MOMENTUM, truth.momentum)
        seconds = with_total(outcome.numbers.seconds | clock.seconds)
        numbers = replace(outcome.numbers, seconds=seconds)
        write_json(stage / NUMBERS, as_json(numbers))
    return numbers
