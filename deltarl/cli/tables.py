"""Tables on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

UNLIMITED_WIDTH = 1_000


def print_table(table: Table) -> None:
    """Print to a terminal as it is wide; to a file or a pipe without cutting anything."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    console.width = UNLIMITED_WIDTH
    with console.capture() as captured:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
