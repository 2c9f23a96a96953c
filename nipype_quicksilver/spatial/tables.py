"""Read tables: text in UTF-8 with a header, whose cells are numbers only if they look like one."""

from __future__ import annotations

import csv
import re

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike, check_readable

# Python's `float` also accepts 1_000, infinity, and digits of other scripts.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def read_rows(path: PathLike, what: str, remedy: str) -> list[dict[str, str]]:
    """Read a tab-separated table.

    Parameters
    ----------
    path : path-like
        Text in UTF-8; the first line names the columns.
    what : str
        Role of the table, for messages.
    remedy : str
        What to do if it cannot be read, for messages.

    Returns
    -------
    list of dict
        The cells of each row that is not empty, by column; missing cells at the end of a row are
        empty. No rows if the table has none.

    Raises
    ------
    InputError
        If it cannot be read, is not such a text, names a column twice, or if a row has more cells
        than the header, or a cell several lines.
    """
    check_readable(path, what)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file, delimiter="\t") if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a table in UTF-8 ({error}); {remedy}") from error
    header, *rows = lines or [[]]
    if any(len(cell.splitlines()) > 1 for line in lines for cell in line):
        raise InputError(f"{path}: has a cell of several lines (a quotation mark?); {remedy}")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise InputError(f"{path}: has the column {min(repeated)} twice; {remedy}")
    for number, row in enumerate(rows, start=2):
        if len(row) > len(header):
            raise InputError(f"{path}: row {number} has more cells than the header; correct it")
    return [dict(zip(header, row + [""] * (len(header) - len(row)), strict=True)) for row in rows]


def number(text: str) -> float:
    """Return the number in a cell.

    Raises
    ------
    ValueError
        If it is not a decimal number, or too large for one.

    Examples
    --------
    >>> number(" -1.5e3 ")
    -1500.0
    >>> number("1_000")
    Traceback (most recent call last):
    ...
    ValueError: '1_000' is not a number
    """
    text = text.strip()
    value = float(text) if _NUMBER.fullmatch(text) else float("inf")
    if abs(value) == float("inf"):
        raise ValueError(f"{text[:40]!r} is not a number")
    return value


def whole(text: str) -> int:
    """Return the whole number in a cell.

    Raises
    ------
    ValueError
        If it is not one, or has more than 18 digits.

    Examples
    --------
    >>> whole("+17")
    17
    """
    text = text.strip()
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)
