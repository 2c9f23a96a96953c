"""What a run may overwrite in the folder of derivatives: no inputs, no files of others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from nipype_quicksilver.cohort.jobs import CohortOptions, Job
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import check_no_input, label_table
from nipype_quicksilver.spatial.records import read_json

#: Name of this package in the description of its derivatives.
GENERATOR = "nipype-quicksilver"
#: Files of the folder of all derivatives; the description is written first.
DESCRIPTION, IGNORED, README = "dataset_description.json", ".bidsignore", "README.md"


def is_same_folder(first: Path, second: Path) -> bool:
    """Return whether two paths are one folder, also by links or by other spellings."""
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    try:
        return os.path.samefile(first, second)
    except OSError:  # one does not exist
        return False


def is_ours(output_dir: Path) -> bool:
    """Return whether a folder has the description of derivatives of this package.

    A run writes the description before all other files: in such a folder, all files of the names
    of derivatives are of this package, also those of a run that was killed.

    Raises
    ------
    InputError
        If the folder has another description, or one that cannot be read.
    """
    path = output_dir / DESCRIPTION
    if not os.path.lexists(path):
        return False
    remedy = "choose another OUT"
    content = read_json(path, "description of a data set", remedy)
    generators = content.get("GeneratedBy") if isinstance(content, dict) else None
    listed = generators if isinstance(generators, list) else [generators]
    if not any(isinstance(entry, dict) and entry.get("Name") == GENERATOR for entry in listed):
        raise InputError(f"{path}: is of a data set that {GENERATOR} did not write; {remedy}")
    return True


def check_outputs(
    jobs: Sequence[Job], chosen: CohortOptions, output_dir: Path, inputs: Iterable[Path] = ()
) -> None:
    """Refuse to overwrite inputs, and files of others, before anything is computed.

    Parameters
    ----------
    jobs : sequence of Job
        All jobs of the cohort.
    chosen : CohortOptions
        How the images are registered.
    output_dir : Path
        Folder of the derivatives.
    inputs : iterable of Path
        Files that are read besides those of `jobs` and `chosen`.

    Raises
    ------
    InputError
        If a derivative would have the name of a file that is read, or, in a folder without the
        description of this package, of any file.
    """
    names = dict.fromkeys((DESCRIPTION, IGNORED, README))
    for job in jobs:
        names |= dict.fromkeys(sorted({*job.written(), job.in_folder(job.record)}))
    outputs = [output_dir / name for name in names]
    check_no_input(outputs, [*_read(jobs), *chosen.files(), *inputs])
    if is_ours(output_dir):
        return
    foreign = [path for path in outputs if os.path.lexists(path)]
    if foreign:
        raise InputError(
            f"{foreign[0]}: would be overwritten ({len(foreign)} such files), and {output_dir} has "
            f"no {DESCRIPTION} of {GENERATOR}; move the files, or choose another OUT"
        )


def _read(jobs: Iterable[Job]) -> Iterable[Path]:
    """Return the files of the images, each of which belongs to several jobs if pairwise."""
    images = [image for job in jobs for image in (job.moving, job.fixed) if image is not None]
    files = dict.fromkeys(file for image in dict.fromkeys(images) for file in image.files())
    return [*files, *(label_table(i.labels) for i in dict.fromkeys(images) if i.labels)]
