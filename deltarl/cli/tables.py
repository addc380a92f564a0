"""Tables on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

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
    if console.is_terminal:
        # A row that is wider than the terminal is continued by the terminal, and copied from it as one line.
        console.width = max(console.width, console.measure(table).minimum)
        console.print(table, crop=False, soft_wrap=True)
        return
    console.width = UNLIMITED_WIDTH
    with console.capture() as captured:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
