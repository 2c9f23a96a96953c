"""Errors that a user can act on: one line that names the file and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

# Phrases in the RuntimeErrors that torch and ITK raise if a GPU or the machine has no memory left.
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "ALLOC_FAILED",
    "Failed to allocate memory",
)


class QuicksilverError(Exception):
    r"""The run could not be completed; the command ends with exit code 1.

    Its text is one line, also where it quotes a file that holds line breaks.

    Examples
    --------
    >>> print(QuicksilverError("table.tsv: has no column 'a\nb'; rename it"))
    table.tsv: has no column 'a b'; rename it
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class InputError(QuicksilverError, ValueError):
    """Unusable input or usage; the command ends with exit code 2."""


@contextmanager
def naming(file: object) -> Iterator[None]:
    """Prefix the message of an `InputError` with a file name.

    This is for functions that have the data of the file, but not its name.

    Parameters
    ----------
    file : object
        The file; its text is the prefix.

    Yields
    ------
    None

    Raises
    ------
    InputError
        If the block raises one.

    Examples
    --------
    >>> with naming("head.nii"):
    ...     raise InputError("the image has no contrast; check it")
    Traceback (most recent call last):
    ...
    nipype_quicksilver.errors.InputError: head.nii: the image has no contrast; check it
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error reports that a device ran out of memory.

    Parameters
    ----------
    error : Exception
        Any error.

    Returns
    -------
    bool
        True for a `MemoryError`, and for the errors of torch and ITK on a full CPU or GPU memory.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."))
    True
    >>> is_out_of_memory(RuntimeError("broken"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
