"""Records of registrations: which derivatives belong to one, and whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype_quicksilver.cohort.jobs import CohortOptions, Job, digest
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import sha256_of
from nipype_quicksilver.spatial.records import read_json


def description(job: Job, chosen: CohortOptions) -> dict[str, str | None]:
    """Return what identifies a registration in its record."""
    session = job.moving.session
    return {
        "name": job.name,
        "participant_id": f"sub-{job.moving.participant}",
        "session_id": None if session is None else f"ses-{session}",
        "image": job.moving.path.name,
        "space": job.space,
        "fixed": Path(chosen.fixed).name if job.fixed is None else job.fixed.path.name,
    }


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a registration; None if there is none, or it is damaged."""
    try:
        record = read_json(path, "record", "the image is registered again")
    except InputError:
        return None
    return record if _is_valid(record) else None


def _is_valid(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    job, files = record.get("job"), record.get("derivatives")
    if not isinstance(job, dict) or not isinstance(files, dict):
        return False
    names = ("name", "participant_id", "image", "space")
    texts = [record.get("made_from"), *map(job.get, names), *files.values()]
    return all(isinstance(text, str) for text in texts)


def is_complete(job: Job, chosen: CohortOptions, output_dir: Path) -> bool:
    """Return whether all derivatives of a job exist, made from the same files and options.

    Parameters
    ----------
    job : Job
        The registration.
    chosen : CohortOptions
        How the image is registered.
    output_dir : Path
        Folder of the derivatives. All bytes of the files are read.
    """
    record = read_record(output_dir / job.moving.folder / job.record)
    if record is None:
        return False
    files = record["derivatives"]
    # A record names nothing but files of its own job: other files are not even read.
    if not job.always_written() <= files.keys() <= job.written():
        return False
    try:
        if record["made_from"] != digest(job, chosen):
            return False
        return all(_is_file(output_dir / name, content) for name, content in files.items())
    except (OSError, InputError):  # an image or a derivative cannot be read
        return False


def _is_file(path: Path, content: str) -> bool:
    return path.is_file() and sha256_of(path) == content


def check_same_fixed(job: Job, chosen: CohortOptions, output_dir: Path) -> None:
    """Refuse to replace the registration to another fixed image whose space has the same name.

    Raises
    ------
    InputError
        If the derivatives of the job's names were made with another fixed image.
    """
    path = output_dir / job.moving.folder / job.record
    record = read_record(path)
    if record is None:
        return
    earlier, fixed = record["job"].get("fixed"), description(job, chosen)["fixed"]
    if isinstance(earlier, str) and earlier != fixed:
        raise InputError(
            f"{path}: is of a registration to {earlier}, and {fixed} would give the same names "
            f"(space {job.space}); choose another OUT, or rename the fixed image"
        )
