"""Results as BIDS derivatives: files are written atomically, the record of a set last."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype_quicksilver import __version__
from nipype_quicksilver.cohort.jobs import PAIRWISE, CohortOptions, Job, digest, sidecar
from nipype_quicksilver.cohort.ownership import DESCRIPTION, GENERATOR, IGNORED, README, is_ours
from nipype_quicksilver.cohort.records import description, read_record
from nipype_quicksilver.spatial.files import label_table, sha256_of, staged

#: Folder of Nipype's crash files.
LOGS = "logs"
#: Folder of intermediate files (default).
WORK = "work"

_BIDS_VERSION = "1.10.0"
# Files that BIDS does not define yet; the validator ignores them.
_IGNORED = ("*_xfm.*", "*_registration.*", "*_map.*", "*.html", LOGS, WORK)
_README = """\
# Registrations by nipype-quicksilver

Every image was registered to a fixed image by `quicksilver cohort`; the sidecar of each file lists
its sources and parameters.

| file | content |
|---|---|
| `*_from-A_to-B_mode-image_xfm.h5` | resamples images from A to B (maps points from B to A) |
| `*_space-B_desc-preproc_T1w.nii.gz` | the image on the grid of B |
| `*_space-B_dseg.nii.gz` | its labels on the grid of B |
| `*_space-B_desc-jacobian_map.nii.gz` | logarithm of the Jacobian determinant of the transform |
| `*_space-B_desc-uncertainty_map.nii.gz` | uncertainty of the displacement, mm |
| `*_desc-brain_mask.nii.gz` | brain mask, on the image's own grid |
| `sub-*.html` | report on the registration, for the browser |
| `*_registration.json` | measures, parameters, versions, computing times |
"""

# Names of files that are being written.
_STAGED = re.compile(r"\.(quicksilver-.+-)?[0-9a-f]{16}(\..*)?")


@dataclass(frozen=True)
class Place:
    """Folders of the derivatives and of their images.

    Attributes
    ----------
    output_dir : Path
        Folder of the derivatives.
    source_dir : Path or None
        Folder of the BIDS data set.
    """

    output_dir: Path
    source_dir: Path | None = None

    def uri(self, path: Path) -> str:
        """Return the name of a file in sidecars: a BIDS URI if possible.

        Examples
        --------
        >>> place = Place(Path("/out"), Path("/data"))
        >>> place.uri(Path("/data/sub-1/anat/a.nii")), place.uri(Path("/else/b.nii"))
        ('bids:raw:sub-1/anat/a.nii', 'file:///else/b.nii')
        """
        for root, name in ((self.source_dir, "bids:raw:"), (self.output_dir, "bids::")):
            if root is not None and path.is_relative_to(root):
                return name + path.relative_to(root).as_posix()
        return path.as_uri()


def prepare(place: Place, jobs: Sequence[Job] = ()) -> None:
    """Make the folder of derivatives a BIDS data set, without temporary files of a killed run.

    Parameters
    ----------
    place : Place
        The folder is made if needed.
    jobs : sequence of Job, optional
        Without effect since version 0.3.

    Raises
    ------
    InputError
        If it is another data set, or cannot be written.
    """
    root = place.output_dir
    is_ours(root)
    root.mkdir(parents=True, exist_ok=True)
    # Only one run at a time writes here: the files are those of a run that was killed.
    for path in (*root.glob(".*"), *root.glob("sub-*/**/.*")):
        if _STAGED.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)
    data_set: dict[str, Any] = {
        "Name": "Registrations by nipype-quicksilver",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": GENERATOR, "Version": __version__}],
    }
    if place.source_dir is not None:
        uri = place.source_dir.as_uri()
        data_set |= {"SourceDatasets": [{"URL": uri}], "DatasetLinks": {"raw": uri}}
    write_text(root / DESCRIPTION, json.dumps(data_set, indent=2) + "\n")
    write_text(root / IGNORED, "\n".join(_IGNORED) + "\n")
    write_text(root / README, _README)


def save(job: Job, chosen: CohortOptions, place: Place, outputs: Mapping[str, str]) -> Path:
    """Save the outputs of a registration as derivatives.

    Parameters
    ----------
    job : Job
        The registration.
    chosen : CohortOptions
        How the image was registered.
    place : Place
        Folders of the derivatives and of the images.
    outputs : mapping
        Files by the names in :meth:`Job.files`, ``summary``, and optionally ``report``.

    Returns
    -------
    Path
        The record: the summary, the SHA-256 of all files, and a hash of what they were made from.
        It is removed first and written last: without it, the derivatives count as missing. Files
        of the job that an earlier record lists and that are not written again are removed.

    Raises
    ------
    InputError, QuicksilverError
        If files cannot be written.
    """
    folder = place.output_dir / job.moving.folder
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / job.record
    earlier = read_record(record)
    record.unlink(missing_ok=True)
    made_from = digest(job, chosen)  # before anything is read: inputs may change meanwhile
    sidecars = _sidecars(job, chosen, place, outputs)
    written: dict[str, str] = {}
    for name, file in job.files().items():
        if name not in outputs:
            continue
        with _durable(folder / file) as temporary:
            _copy(Path(outputs[name]), temporary)
            written[job.in_folder(file)] = sha256_of(temporary)
        text = json.dumps(sidecars[name], indent=2) + "\n"
        written[job.in_folder(sidecar(file))] = write_text(folder / sidecar(file), text)
    if "report" in outputs:
        with _durable(place.output_dir / job.report) as temporary:
            shutil.copyfile(outputs["report"], temporary)
            written[job.report] = sha256_of(temporary)
    table = _label_table(job)
    if table is not None and "warped_labels" in outputs:
        text = table.read_text(encoding="utf-8")
        written[job.in_folder(job.label_table)] = write_text(folder / job.label_table, text)
    for name in _outdated(job, earlier, written):
        (place.output_dir / name).unlink(missing_ok=True)
    summary = json.loads(Path(outputs["summary"]).read_text(encoding="utf-8"))
    summary.pop("files", None)  # of the folder of the registration
    content = {
        "job": description(job, chosen),
        **summary,
        "made_from": made_from,
        "derivatives": written,
    }
    write_text(record, json.dumps(content, indent=2) + "\n")
    return record


def _outdated(
    job: Job, record: dict[str, Any] | None, written: Mapping[str, str]
) -> Collection[str]:
    """Return the files of a job that its earlier record lists and that were not written again.

    A brain mask stays: it belongs to the image alone, and other registrations of the image have
    it as well. Names that are not those of the job's files are ignored, since a record could name
    any file.
    """
    if record is None:
        return ()
    listed = job.written() & record["derivatives"].keys()
    return {name for name in listed - written.keys() if "brain_mask." not in name}


def _copy(source: Path, target: Path) -> None:
    """Copy a file; recompress a compressed one with zlib, so that runs give identical bytes.

    igzip, which wrote it, can give different bytes for the same voxels.
    """
    if source.suffix != ".gz":
        shutil.copyfile(source, target)
        return
    with (
        gzip.open(source, "rb") as original,
        open(target, "wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as stream,
    ):
        shutil.copyfileobj(original, stream, 2**20)


def _label_table(job: Job) -> Path | None:
    """Return the table of an image's labels, if there is one next to the label map."""
    if job.moving.labels is None:
        return None
    table = label_table(job.moving.labels)
    return table if table.exists() else None


def _sidecars(
    job: Job, chosen: CohortOptions, place: Place, outputs: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the content of the sidecar of each derivative."""
    moving, fixed = job.moving, job.space
    reference = _reference(job, chosen, place)
    common = {
        "Sources": [place.uri(moving.path), *([] if job.fixed is None else [reference])],
        "SpatialReference": reference,
        "GeneratedBy": {"Name": GENERATOR, "Version": __version__},
        "Parameters": chosen.described(),
    }
    inverse = {**common, "SpatialReference": place.uri(moving.path)}
    labels = [] if moving.labels is None else [place.uri(moving.labels)]
    mask = place.uri(moving.path if moving.mask is None else moving.mask)
    composite = "ITK composite transform (affine and diffeomorphism)"
    return {
        "composite_transform": {
            "Description": f"{composite} that resamples images from {moving.suffix} to {fixed}",
            **common,
        },
        "inverse_composite_transform": {
            "Description": f"{composite} that resamples images from {fixed} to {moving.suffix}",
            **inverse,
        },
        "warped_image": {
            "Description": f"{moving.suffix} image, resampled once to {fixed}",
            "SkullStripped": _is_stripped(moving.path, outputs.get("brain_mask")),
            **common,
        },
        "warped_labels": {
            "Description": f"Labels, resampled once to {fixed}",
            **common,
            "Sources": [*labels, place.uri(moving.path)],
        },
        "log_jacobian": {
            "Description": "Natural logarithm of the Jacobian determinant of the transform, with "
            f"its affine; above 0 where the image is larger than {fixed}",
            **common,
        },
        "uncertainty": {
            "Description": "Uncertainty of the displacement",
            "Units": "mm",
            **common,
        },
        "brain_mask": {
            "Description": "Brain mask",
            "Type": "Brain",
            "Sources": [mask],
            "SpatialReference": place.uri(moving.path),
            "GeneratedBy": common["GeneratedBy"],
        },
    }


def _reference(job: Job, chosen: CohortOptions, place: Place) -> str:
    """Return the name of the fixed image in sidecars."""
    if job.fixed is not None:
        return place.uri(job.fixed.path)
    if chosen.fixed_file is not None:
        return place.uri(chosen.fixed_file.absolute())
    assert chosen.fixed != PAIRWISE
    return f"{job.space} ({chosen.fixed})"


def _is_stripped(image: Path, mask: str | None) -> bool:
    """Return whether an image is zero outside the brain; True without a mask."""
    if mask is None:
        return True
    import numpy as np

    from nipype_quicksilver.spatial.images import read_image, read_mask

    data, inside = read_image(image), read_mask(mask)
    if data.shape != inside.shape:
        return False
    return not np.asanyarray(data.dataobj)[np.asanyarray(inside.dataobj) == 0].any()


def write_text(path: Path, text: str) -> str:
    """Write a text file atomically; return its SHA-256.

    It is complete or absent, also after a power failure.
    """
    content = text.encode()
    with _durable(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when its bytes are on the disk.

    Otherwise, a renamed file may be incomplete after a power failure.
    """
    with staged(path) as temporary:
        yield temporary
        _flush(temporary)
    _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
