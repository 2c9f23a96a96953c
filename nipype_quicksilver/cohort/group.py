"""The measures of all registrations of a cohort, as a table and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nipype_quicksilver.cohort.derivatives import write_text
from nipype_quicksilver.cohort.records import read_record
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.records import from_json

#: File names of the table and of the page on all registrations.
TABLE = "group_registration.tsv"
PAGE = "group_registration.html"


@dataclass(frozen=True)
class _Column:
    """A column of the table: its description, its unit, and how to read it."""

    description: str
    read: Callable[[RegistrationSummary], float | None]
    units: str = ""


# Columns that identify a registration, by their names in a record, and their descriptions.
_NAMES = {
    "participant_id": "Participant",
    "session_id": "Session",
    "image": "Image that was registered",
    "space": "Space of the fixed image",
}
_MEASURES = {
    "similarity_before": _Column(
        "Mean squared local correlation, affine", lambda s: s.similarity.before
    ),
    "similarity_after": _Column("The same after the registration", lambda s: s.similarity.after),
    "dice_before": _Column(
        "Mean Dice of the labels, affine", lambda s: s.labels.before.mean.dice if s.labels else None
    ),
    "dice_after": _Column(
        "The same after the registration", lambda s: s.labels.after.mean.dice if s.labels else None
    ),
    "folded_voxels": _Column("Voxels where the transform folds", lambda s: s.jacobian.folded),
    "folded_percent": _Column(
        "Their fraction of the brain", lambda s: s.jacobian.folded_percent, "%"
    ),
    "log_jacobian_mean": _Column(
        "Mean over the brain of the log of the Jacobian determinant",
        lambda s: s.jacobian.log_jacobian.get("mean"),
    ),
    "log_jacobian_sd": _Column(
        "Its standard deviation", lambda s: s.jacobian.log_jacobian.get("sd")
    ),
    "inverse_consistency": _Column(
        "Mean distance between a point and its image under both transforms",
        lambda s: s.inverse_consistency_mm.mean,
        "mm",
    ),
    "seconds": _Column("Seconds of the registration", lambda s: s.seconds.get("total"), "s"),
}


@dataclass(frozen=True)
class Record:
    """The record of a registration among the derivatives.

    Attributes
    ----------
    file : Path
        Its file.
    job : dict
        ``name``, ``participant_id``, ``session_id``, ``image`` and ``space``.
    summary : RegistrationSummary
        Of the registration.
    """

    file: Path
    job: dict[str, str | None]
    summary: RegistrationSummary


def read_records(output_dir: Path) -> list[Record]:
    """Return the records of all registrations in a folder of derivatives.

    Parameters
    ----------
    output_dir : Path
        Folder of the derivatives.

    Returns
    -------
    list of Record
        Sorted by their files; files that are not records are left out.

    Raises
    ------
    InputError
        If there is none, or one is incomplete.
    """
    records = []
    for file in sorted(output_dir.glob("sub-*/**/*_registration.json")):
        content = read_record(file)
        if content is not None:
            remedy = "run the participant level again"
            summary = from_json(RegistrationSummary, content, str(file), remedy)
            records.append(Record(file, content["job"], summary))
    if not records:
        raise InputError(
            f"{output_dir}: contains no registrations; run the participant level first"
        )
    return records


def write_table(records: Sequence[Record], output_dir: Path) -> list[dict[str, Any]]:
    """Write the measures of all registrations as a table, with its description as JSON.

    Parameters
    ----------
    records : sequence of Record
        Result of :func:`read_records`.
    output_dir : Path
        Folder of the derivatives.

    Returns
    -------
    list of dict
        The rows; None where a registration has no such measure.

    Raises
    ------
    InputError
        If the table cannot be written.
    """
    rows = [row_of(record) for record in records]
    columns = [name for name in (*_NAMES, *_MEASURES) if any(row[name] is not None for row in rows)]
    write_text(output_dir / TABLE, _as_text(rows, columns))
    descriptions = {name: _describe(name, rows) for name in columns}
    text = json.dumps(descriptions, indent=2) + "\n"
    write_text((output_dir / TABLE).with_suffix(".json"), text)
    return rows


def write_page(records: Sequence[Record], output_dir: Path) -> Path:
    """Write the page on all registrations, with links to the pages on single ones.

    Parameters
    ----------
    records : sequence of Record
        Result of :func:`read_records`.
    output_dir : Path
        Folder of the derivatives.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If the page cannot be written.
    """
    from nipype_quicksilver.reports import write_group_report  # matplotlib takes a second

    named = {str(record.job["name"]): record.file for record in records}
    pages = {name: output_dir / f"{name}.html" for name in named}
    return write_group_report(named, output_dir / PAGE, reports=pages)


def row_of(record: Record) -> dict[str, Any]:
    """Return the row of one registration."""
    names = {name: record.job.get(name) for name in _NAMES}
    return {**names, **{name: column.read(record.summary) for name, column in _MEASURES.items()}}


def _as_text(rows: list[dict[str, Any]], columns: list[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns, restval="n/a", extrasaction="ignore", delimiter="\t", lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        shown = {name: _cell(value) for name, value in row.items() if value is not None}
        writer.writerow(shown)
    return text.getvalue()


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _describe(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return BIDS's description of a column, with the median and the range of its numbers."""
    if name in _NAMES:
        return {"Description": _NAMES[name]}
    measure = _MEASURES[name]
    column: dict[str, Any] = {"Description": measure.description}
    if measure.units:
        column["Units"] = measure.units
    values = [row[name] for row in rows if row[name] is not None]
    return {**column, "Median": median(values), "Minimum": min(values), "Maximum": max(values)}
