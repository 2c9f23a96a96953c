"""What commands print: names are shown as they are, but never act on the terminal."""

from pathlib import Path
from unicodedata import category

# Unicode's categories of characters that are not shown, but change what is.
_CONTROLS = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def shown(text: object) -> str:
    r"""Return a text whose control characters are escaped: a name may hold commands of a terminal.

    Examples
    --------
    >>> print(shown("a\x1b[2J.nii"))
    a\x1b[2J.nii
    """
    return "".join(
        char.encode("unicode_escape").decode() if category(char) in _CONTROLS else char
        for char in str(text)
    )


def print_path(what: str, path: Path) -> None:
    """Print where a result is, on one line: the cell of a table would break a long path."""
    from rich.console import Console

    line = f"{what}: {shown(path)}"
    Console().print(line, markup=False, highlight=False, soft_wrap=True)
