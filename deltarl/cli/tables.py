"""Tables on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deltarl.errors import plain

UNLIMITED_WIDTH = 1_000


def add_row(table: Table, cells: Iterable[str]) -> None:
    """Add a row literally: names from files are not interpreted as markup or control characters."""
    table.add_row(*(Text(plain(cell)) for cell in cells))


def print_table(table: Table) -> None:
    """Print to a terminal of any width, and to a file or a pipe, without cutting anything but what is for reading."""
    console = Console()
    # A row that is wider than the terminal is continued by the terminal, and copied from it as one line.
    console.width = max(console.width, console.measure(table).minimum) if console.is_terminal else UNLIMITED_WIDTH
    with console.capture() as captured:
        console.print(table, crop=False)
    # Without the spaces at the ends of lines, which a narrow terminal would continue as empty ones.
    typer.echo(re.sub(r" +((\x1b\[[0-9;]*m)*)$", r"\1", captured.get().rstrip("\n"), flags=re.MULTILINE))
