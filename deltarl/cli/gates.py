"""`deltarl gates RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deltarl.cli.evaluate import RunArgument
from deltarl.cli.list import UNLIMITED_WIDTH
from deltarl.errors import ConfigError
from deltarl.gates import read_record
from deltarl.gates.figures import FIGURES, Record, gated_networks
from deltarl.training import folder as files

# Statistic, heading, format.
COLUMNS = (
    ("beta_mean", "beta", ".2f"),
    ("beta_p10", "p10", ".2f"),
    ("beta_p90", "p90", ".2f"),
    ("identity_fraction", "passes", ".0%"),
    ("projection_fraction", "overwrites", ".0%"),
    ("reflection_fraction", "reflects", ".0%"),
    ("update_ratio", "|dX|/|X|", ".2f"),
    ("erase_share", "erases", ".2f"),
    ("cos_k_x_over_chance", "cos/chance", ".1f"),
)


def gates(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures; `figures` in the run's if not given.")
    ] = None,
) -> None:
    """Say and draw what a run's gates did while it learned.

    Example: deltarl gates runs/quickstart/seed-0
    """
    if not run.is_dir():
        raise ConfigError(f"{run}: no such folder")
    if not (run / files.GATES).is_file():
        raise ConfigError(f"{run}: no gates were measured there; {files.GATES} is missing")
    record = read_record(run / files.GATES)
    if not gated_networks(record):
        raise ConfigError(f"{run}: its networks have no gates; their features and updates are in {files.GATES}")
    console = Console()
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH  # nobody cuts a pipe's lines
    console.print(_table(record))
    folder = run / "figures" if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        for suffix in ("png", "svg"):
            path = folder / f"gates_{name}.{suffix}"
            draw(record).savefig(path, metadata={"Date": None} if suffix == "svg" else None)
            console.print(str(path), highlight=False, soft_wrap=True)


def _table(record: Record) -> Table:
    """Each block at the last measurement, beta at the first beside it."""
    steps = record["steps"]
    table = Table(
        box=None, pad_edge=False, title=f"at step {steps[-1]:,}; first: at step {steps[0]:,}", title_justify="left"
    )
    for heading in ("network", "block", "first", *(heading for _, heading, _ in COLUMNS)):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "network" else "right")
    for net in gated_networks(record):
        first = record[f"gates/{net}/beta_mean"][0]
        for block in range(len(first)):
            cells = [format(record[f"gates/{net}/{name}"][-1, block], style) for name, _, style in COLUMNS]
            table.add_row(net, str(block), f"{first[block]:.2f}", *cells)
    return table
