"""Tables for people, on a terminal or in a file."""

import sys

from rich.console import Console
from rich.table import Table

_WIDTH = 160  # characters, of tables in files


def show(table: Table) -> None:
    """Print a table."""
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
