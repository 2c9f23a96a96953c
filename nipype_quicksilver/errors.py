"""Errors that a user can act on: one line that names the file and says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


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
