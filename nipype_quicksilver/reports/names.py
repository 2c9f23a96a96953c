"""Names of files without the folders in which they are: reports are shared, disks are private."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

from nipype_quicksilver.registration.summary import RegistrationSummary
from nipype_quicksilver.spatial.records import as_json, from_json

# A path that starts at the root, at a home, or at the working folder or its parent; not the end of
# a word, or of an address.
_PATH = re.compile(r"(?<![\w.:/<-])(?:~[\w.-]*|\.{1,2})?(?:/[\w.,+@%=~-]+)+/?")


def without_folders(summary: RegistrationSummary) -> RegistrationSummary:
    """Return a summary in which files are named without their folders.

    Parameters
    ----------
    summary : RegistrationSummary
        Of a registration.

    Returns
    -------
    RegistrationSummary
        With file names in the place of paths, also in warnings and in the command.
    """
    shorten = shortener(summary)
    content = _mapped(as_json(summary), shorten)
    content["command"] = shlex.join(map(shorten, _words(summary))) or None
    return from_json(RegistrationSummary, content, "summary", "")


def shortener(summary: RegistrationSummary) -> Callable[[str], str]:
    """Return a function that replaces paths by names in texts about a registration.

    Parameters
    ----------
    summary : RegistrationSummary
        Of the registration.

    Returns
    -------
    callable
        From a text to a text.
    """
    known = {text for text in _strings(as_json(summary)) if _is_path(text)}
    values = (w.partition("=")[2] if w.startswith("-") else w for w in _words(summary))
    return name_files(known | {value for value in values if _is_path(value)})


def name_files(known: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces paths in a text by names.

    Parameters
    ----------
    known : iterable of str
        Paths that may be in a text, and may contain spaces. Others are recognised by their start.

    Returns
    -------
    callable
        From a text to a text.

    Examples
    --------
    >>> name_files(["/home/jo/a study/T1w.nii"])("/home/jo/a study/T1w.nii: dark; see ../log.txt")
    'T1w.nii: dark; see log.txt'
    """
    names: dict[str, str] = {}
    for path in known:
        parts = PurePath(path).parts
        # A file may be named from any folder above it.
        names |= {"/".join(parts[i:]): parts[-1] for i in range(len(parts) - 1)}
        names[path] = parts[-1]
    longest = sorted(names, key=len, reverse=True)
    listed = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, longest))})(?![\w-])")

    def shorten(text: str) -> str:
        if names:
            text = listed.sub(lambda match: names[match[0]], text)
        return _PATH.sub(lambda match: PurePath(match[0]).name, text)

    return shorten


def _words(summary: RegistrationSummary) -> list[str]:
    """Return the words of the command; none for a registration by the Python API."""
    return shlex.split(summary.command or "")


def _is_path(text: str) -> bool:
    """Return whether a text is nothing but a path with a folder."""
    return "/" in text.strip("/") and "\n" not in text and ": " not in text and "://" not in text


def _strings(content: Any) -> Iterator[str]:
    """Yield all values that are text, but for the command and the warnings."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, value in content.items():
            if name not in ("command", "warnings"):
                yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def _mapped(content: Any, change: Callable[[str], str]) -> Any:
    """Return JSON in which all values that are text are changed."""
    if isinstance(content, str):
        return change(content)
    if isinstance(content, dict):
        return {name: _mapped(value, change) for name, value in content.items()}
    if isinstance(content, list):
        return [_mapped(value, change) for value in content]
    return content
