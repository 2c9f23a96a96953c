"""The images of a cohort, from a BIDS data set or a table."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.tables import read_rows

SUFFIXES = ("T1w", "T2w")
_EXTENSIONS = (".nii.gz", ".nii")
_LABEL = re.compile(r"[0-9A-Za-z]+")


@dataclass(frozen=True)
class CohortImage:
    """An image of a participant.

    Attributes
    ----------
    path : Path
        The file.
    participant : str
        BIDS label, without ``sub-``.
    session : str or None
        BIDS label, without ``ses-``.
    stem : str
        Entities of its BIDS name, without suffix.
    suffix : str
        One of :data:`SUFFIXES`.
    mask, labels, lesion_mask : Path or None
        Its brain mask, its label map and the mask of its lesion, if there are any.

    Examples
    --------
    >>> image = CohortImage(Path("a.nii.gz"), "01", "2", "sub-01_ses-2_run-1", "T1w")
    >>> image.label, str(image.folder)
    ('sub01ses2run1', 'sub-01/ses-2/anat')
    """

    path: Path
    participant: str
    session: str | None
    stem: str
    suffix: str
    mask: Path | None = None
    labels: Path | None = None
    lesion_mask: Path | None = None

    def inputs(self) -> dict[str, Path]:
        """Return the image and what belongs to it, by what it is."""
        files = {
            "image": self.path,
            "mask": self.mask,
            "labels": self.labels,
            "lesion mask": self.lesion_mask,
        }
        return {what: file for what, file in files.items() if file is not None}

    def files(self) -> list[Path]:
        """Return the image and what belongs to it."""
        return list(self.inputs().values())

    @property
    def name(self) -> str:
        """Unique name among the images of both contrasts, also of its workflow."""
        return self.stem if self.suffix == "T1w" else f"{self.stem}_{self.suffix}"

    @property
    def label(self) -> str:
        """The entities with letters and digits only, for use as a BIDS label."""
        return "".join(_LABEL.findall(self.stem))

    @property
    def folder(self) -> Path:
        """Folder of its files in a BIDS data set."""
        parts = [f"sub-{self.participant}"]
        if self.session is not None:
            parts.append(f"ses-{self.session}")
        return Path(*parts, "anat")


def find_images(
    source: Path,
    *,
    suffix: str = "T1w",
    participants: Collection[str] = (),
    labels_dir: Path | None = None,
) -> list[CohortImage]:
    """Find the images of a cohort.

    Parameters
    ----------
    source : Path
        Folder of a BIDS data set, or a table of images (``.tsv``), see :func:`read_table`.
    suffix : {'T1w', 'T2w'}
        Contrast of the images.
    participants : collection of str
        Labels, with or without ``sub-``; all of them if empty.
    labels_dir : Path, optional
        BIDS folder with a label map (``*_dseg.nii.gz``) of each image.

    Returns
    -------
    list of CohortImage
        Sorted by name.

    Raises
    ------
    InputError
        If there are none, or a participant or the folder of labels is missing.
    """
    if labels_dir is not None and not labels_dir.is_dir():
        raise InputError(f"{labels_dir}: no such folder; check --labels")
    wanted = {name.removeprefix("sub-") for name in participants}
    if source.is_dir():
        images = _bids_images(source, suffix)
    elif source.suffix == ".tsv":
        images = [image for image in read_table(source, suffix) if image.suffix == suffix]
    else:
        raise InputError(f"{source}: no such folder; give a BIDS data set, or a .tsv table")
    if not images:
        raise InputError(f"{source}: has no {suffix} images; check the data set and --suffix")
    missing = wanted - {image.participant for image in images}
    if missing:
        raise InputError(
            f"{source}: has no {suffix} image of participant {', '.join(sorted(missing))}; check "
            "--participant-label"
        )
    chosen = [image for image in images if not wanted or image.participant in wanted]
    if labels_dir is not None:
        chosen = [replace(image, labels=_find_labels(image, labels_dir)) for image in chosen]
    return sorted(chosen, key=lambda image: image.stem)


def _bids_images(root: Path, suffix: str) -> list[CohortImage]:
    """Return the images that pybids finds."""
    try:
        from bids import BIDSLayout
        from bids.layout import BIDSLayoutIndexer
    except ImportError as error:
        raise InputError(
            f"{root}: to read BIDS data sets, install pybids (pip install "
            "'nipype-quicksilver[bids]'), or give a table of images (.tsv)"
        ) from error
    try:
        layout = BIDSLayout(root, indexer=BIDSLayoutIndexer(index_metadata=False))
    except (ValueError, OSError) as error:  # what pybids raises for a folder that is not BIDS
        raise InputError(
            f"{root}: is not a BIDS data set ({str(error).splitlines()[0]}); check its "
            "dataset_description.json"
        ) from error
    files = layout.get(suffix=suffix, datatype="anat", extension=list(_EXTENSIONS))
    images = [_bids_image(Path(file.path), file.get_entities(), suffix) for file in files]
    return [*images, *_folders(root, suffix)]


def _folders(root: Path, suffix: str) -> Iterator[CohortImage]:
    """Yield folders that have the name of an image, which pybids does not list.

    They fail when they are used, instead of being left out in silence.
    """
    label = _LABEL.pattern
    name = re.compile(rf"sub-({label})(?:_ses-({label}))?(?:_.+)?_{suffix}\.nii(\.gz)?")
    for anat in ("sub-*/anat", "sub-*/ses-*/anat"):
        for path in root.glob(f"{anat}/sub-*_{suffix}.nii*"):
            match = name.fullmatch(path.name)
            if match is not None and path.is_dir():
                yield _bids_image(path, {"subject": match[1], "session": match[2]}, suffix)


def _bids_image(path: Path, entities: dict[str, Any], suffix: str) -> CohortImage:
    name = path.name.split(".")[0]
    return CohortImage(
        path,
        entities["subject"],
        entities.get("session"),
        name.removesuffix(f"_{suffix}"),
        suffix,
        lesion_mask=_find_lesion(path.parent, name),
    )


def _find_lesion(folder: Path, name: str) -> Path | None:
    """Return the lesion mask next to an image, named as fMRIPrep expects it."""
    files = (folder / f"{name}_label-lesion_roi{extension}" for extension in _EXTENSIONS)
    # A link whose target is missing is a mask, too: without it, the lesion would count as brain.
    return next((file for file in files if os.path.lexists(file)), None)


def read_table(table: Path, suffix: str) -> list[CohortImage]:
    """Read a table of images.

    Parameters
    ----------
    table : Path
        Tab-separated, with the columns ``participant_id`` and ``image``, and optionally
        ``session_id``, ``mask``, ``labels`` and ``lesion_mask``; ``n/a`` means no value. Paths are
        relative to the table's folder.
    suffix : str
        Contrast of images whose names do not end in one of :data:`SUFFIXES`.

    Returns
    -------
    list of CohortImage
        In the order of the table.

    Raises
    ------
    InputError
        If the table cannot be used. Whether the files exist is checked when they are used.
    """
    rows = read_rows(table, "table of images", "give a table (.tsv)")
    for column in ("participant_id", "image"):
        if not rows or column not in rows[0]:
            raise InputError(
                f"{table}: has no column {column} or no rows; give the tab-separated columns "
                "participant_id and image"
            )
    return [_table_image(table, number, row, suffix) for number, row in enumerate(rows, start=2)]


def _table_image(table: Path, line: int, row: dict[str, str], suffix: str) -> CohortImage:
    def value(column: str) -> str | None:
        text = row.get(column, "").strip()
        if "\0" in text:
            raise InputError(f"{table}, line {line}: {column} has a null character; remove it")
        return None if text in ("", "n/a") else text

    def file(column: str) -> Path | None:
        name = value(column)
        if name is None:
            return None
        return (table.parent / name).absolute()

    def label(column: str, prefix: str) -> str | None:
        name = (value(column) or "").removeprefix(prefix)
        if name and not _LABEL.fullmatch(name):
            raise InputError(f"{table}, line {line}: {column} '{name}' is not letters and digits")
        return name or None

    participant, path = label("participant_id", "sub-"), file("image")
    session = label("session_id", "ses-")
    if participant is None or path is None:
        raise InputError(f"{table}, line {line}: give participant_id and image")
    stem = f"sub-{participant}" + (f"_ses-{session}" if session else "")
    last = path.name.split(".")[0].rpartition("_")[2]
    suffix = last if last in SUFFIXES else suffix
    files = {name: file(name) for name in ("mask", "labels", "lesion_mask")}
    return CohortImage(path, participant, session, stem, suffix, **files)


def _find_labels(image: CohortImage, folder: Path) -> Path:
    """Return the label map of an image in a BIDS folder, also if it does not exist."""
    files = sorted(_label_maps(image, folder))
    if len(files) > 1:
        raise InputError(f"{files[0]} and {files[1].name}: keep one label map of the image")
    expected = folder / image.folder / f"{image.stem}_dseg.nii.gz"
    return (files or [expected])[0].absolute()


def _label_maps(image: CohortImage, folder: Path) -> Iterator[Path]:
    # Further entities may follow, such as desc-aseg, but not another space than that of the image.
    name = re.compile(rf"{re.escape(image.stem)}(_(?!space-)[a-z]+-[^_]+)*_dseg\.nii(\.gz)?")
    anat = folder / image.folder
    if anat.is_dir():
        yield from (path for path in anat.iterdir() if name.fullmatch(path.name))
