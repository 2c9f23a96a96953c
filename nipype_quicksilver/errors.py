"""Errors that a user can act on: one line that names the file and says what to do."""


class QuicksilverError(Exception):
    """The run could not be finished; the command ends with exit code 1."""


class InputError(QuicksilverError, ValueError):
    """Unusable input or usage; the command ends with exit code 2."""
