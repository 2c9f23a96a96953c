"""What commands print: names are shown as they are, but never act on the terminal."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast
from unicodedata import category

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.signals import Ended

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


@contextmanager
def standard_output() -> Iterator[None]:
    """Let the block end as other programs do where its standard output cannot be written.

    Raises
    ------
    Ended
        By SIGPIPE, if the reader is gone, as after `| head`.
    InputError
        If it is a file on a full disk.
    """
    stream = sys.stdout
    if stream is None:  # closed by the shell: Python prints nothing
        yield
        return
    with redirect_stdout(cast(TextIO, _StandardOutput(stream))):
        yield
        sys.stdout.flush()


class _StandardOutput:
    """The standard output, which tells its errors from those of other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._told():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python would fail once more, when it flushes the rest at its end.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise Ended(signal.SIGPIPE) from error
            raise InputError(
                f"the standard output cannot be written ({error.strerror}); direct it elsewhere"
            ) from error


def print_path(what: str, path: Path) -> None:
    """Print where a result is, on one line: the cell of a table would break a long path."""
    from rich.console import Console

    line = f"{what}: {shown(path)}"
    Console().print(line, markup=False, highlight=False, soft_wrap=True)
