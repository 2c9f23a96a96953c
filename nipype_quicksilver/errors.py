"""Errors that a user can act on: one line that names the file and says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

# What a RuntimeError of torch says where memory ran out, of a GPU or of the machine.
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


class QuicksilverError(Exception):
    """The run could not be finished; the command ends with exit code 1."""


class InputError(QuicksilverError, ValueError):
    """Unusable input or usage; the command ends with exit code 2."""


@contextmanager
def naming(file: object) -> Iterator[None]:
    """Name the file in an `InputError` of what only saw its content.

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
    """Tell whether an error says that the memory of a device did not suffice.

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
