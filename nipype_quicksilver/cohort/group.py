"""The measures of all registrations of a cohort, as a table and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype_quicksilver.cohort.derivatives import read_record, write_text
from nipype_quicksilver.errors import InputError

#: File names of the table and of the page on all registrations.
TABLE = "group_registration.tsv"
PAGE = "group_registration.html"

# Of each column: its keys in a record, its description, and its unit.
_COLUMNS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "participant_id": (("job", "participant_id"), "Participant", ""),
    "session_id": (("job", "session_id"), "Session", ""),
    "image": (("job", "image"), "Image that was registered", ""),
    "space": (("job", "space"), "Space of the fixed image", ""),
    "similarity_before": (("similarity", "before"), "Mean squared local correlation, affine", ""),
    "similarity_after": (("similarity", "after"), "The same after the registration", ""),
    "dice_before": (("labels", "before", "mean", "dice"), "Mean Dice of the labels, affine", ""),
    "dice_after": (("labels", "after", "mean", "dice"), "The same after the registration", ""),
    "folded_voxels": (("jacobian", "folded"), "Voxels where the transform folds", ""),
    "folded_percent": (("jacobian", "folded_percent"), "Their fraction of the brain", "%"),
    "log_jacobian_mean": (
        ("jacobian", "log_jacobian", "mean"),
        "Mean over the brain of the log of the Jacobian determinant",
        "",
    ),
    "log_jacobian_sd": (("jacobian", "log_jacobian", "sd"), "Its standard deviation", ""),
    "inverse_consistency": (
        ("inverse_consistency_mm", "mean"),
        "Mean distance between a point and its image under both transforms",
        "mm",
    ),
    "seconds": (("seconds", "total"), "Seconds of the registration", "s"),
}


def read_records(output_dir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the records of all registrations in a folder of derivatives, with their paths.

    Parameters
    ----------
    output_dir : Path
        Folder of the derivatives.

    Raises
    ------
    InputError
        If there is none.
    """
    files = sorted(output_dir.glob("sub-*/**/*_registration.json"))
    read = [(file, read_record(file)) for file in files]
    records = [(file, record) for file, record in read if record is not None]
    if not records:
        raise InputError(
            f"{output_dir}: contains no registrations; run the participant level first"
        )
    return records


def write_table(output_dir: Path) -> list[dict[str, Any]]:
    """Write the measures of all registrations as a table, with its description as JSON.

    Parameters
    ----------
    output_dir : Path
        Folder of the derivatives.

    Returns
    -------
    list of dict
        The rows; None where a registration has no such measure.

    Raises
    ------
    InputError
        If there are no registrations, or the table cannot be written.
    """
    rows = [row_of(record) for _, record in read_records(output_dir)]
    columns = [name for name in _COLUMNS if any(row[name] is not None for row in rows)]
    write_text(output_dir / TABLE, _as_text(rows, columns))
    descriptions = {name: _describe(name, rows) for name in columns}
    text = json.dumps(descriptions, indent=2) + "\n"
    write_text((output_dir / TABLE).with_suffix(".json"), text)
    return rows


def write_page(output_dir: Path) -> Path:
    """Write the page on all registrations, with links to the pages on single ones.

    Parameters
    ----------
    output_dir : Path
        Folder of the derivatives.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If there are no registrations, or the page cannot be written.
    """
    from nipype_quicksilver.reports import write_group_report  # matplotlib takes a second

    named = {record["job"]["name"]: file for file, record in read_records(output_dir)}
    pages = {name: output_dir / f"{name}.html" for name in named}
    return write_group_report(named, output_dir / PAGE, reports=pages)


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the measures of one registration."""
    return {name: _value(record, keys) for name, (keys, _, _) in _COLUMNS.items()}


def _value(record: Any, keys: Sequence[str]) -> Any:
    for name in keys:
        record = record.get(name) if isinstance(record, dict) else None
    return record


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
    _, description, units = _COLUMNS[name]
    column: dict[str, Any] = {"Description": description, **({"Units": units} if units else {})}
    values = sorted(v for row in rows if isinstance(v := row[name], (int, float)))
    if values:
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        column |= {"Median": middle, "Minimum": values[0], "Maximum": values[-1]}
    return column
