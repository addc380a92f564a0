"""`deltarl gates RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from deltarl import places, training
from deltarl.cli.evaluate import RunArgument, SeedOption
from deltarl.cli.tables import UNLIMITED_WIDTH
from deltarl.errors import ConfigError
from deltarl.gates.episode import draw_episode, play_episode
from deltarl.gates.figures import Record, figures, gated_networks
from deltarl.reading import check_plain
from deltarl.training import folder as files
from deltarl.training.run import one_message
from deltarl.training.spec import FIRST_EVALUATION_SEED

NOTHING = "\N{EN DASH}"
# Statistic, heading, format.
COLUMNS = (
    ("beta_mean", "beta", ".2f"),
    ("erase_share", "erase share", ".2f"),
    ("beta_p10", "p10", ".2f"),
    ("beta_p90", "p90", ".2f"),
    ("identity_fraction", "beta<.25", ".0%"),
    ("projection_fraction", "beta~1", ".0%"),
    ("reflection_fraction", "beta>1.75", ".0%"),
    ("update_ratio", "|dX|/|X|", ".2f"),
    ("cos_k_x_over_pairs", "cos/pairs", ".1f"),
)


def gates(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures; `figures` in the run's if not given.")
    ] = None,
    episode: Annotated[bool, typer.Option("--episode", help="Draw the gates along one episode.")] = False,
    seed: SeedOption = FIRST_EVALUATION_SEED,
) -> None:
    """Say and draw what a run's gates did while it learned, or what they do along one episode.

    Example: deltarl gates runs/quickstart/seed-0
    """
    if not run.is_dir():
        raise ConfigError(f"{run}: no such folder")
    check_plain(run)
    folder = run / "figures" if out is None else out
    places.check_folder(folder, "--out")
    if episode:
        _save("gates_episode", _episode(run, seed), folder)
        return
    if not (run / files.GATES).is_file():
        raise ConfigError(f"{run}: no gates were measured there; {files.GATES} is missing")
    record = files.read_gates(run)
    if not gated_networks(record):
        raise ConfigError(f"{run}: its networks have no gates; their features and updates are in {files.GATES}")
    console = Console()
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH  # nobody cuts a pipe's lines
    console.print(_table(record))
    for name, draw in figures(record).items():
        _save(f"gates_{name}", draw(record), folder)


def _episode(run: Path, seed: int) -> Figure:
    loaded = training.load_run(run)
    with one_message(f"env: {loaded.spec.env.id} cannot be played"):
        episode = play_episode(loaded.policy, loaded.spec.env, loaded.normalizer, seed)
    if not episode.beta:
        raise ConfigError(f"{run}: its networks have no gates")
    return draw_episode(episode)


def _save(name: str, figure: Figure, folder: Path) -> None:
    """As PNG and SVG; their paths are printed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, metadata={"Date": None} if suffix == "svg" else None)
            typer.echo(str(path))
    except OSError as error:
        raise ConfigError(f"--out: {folder} cannot be used: {error.strerror or error}") from None


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
            cells = [_cell(record.get(f"gates/{net}/{name}"), block, style) for name, _, style in COLUMNS]
            table.add_row(net, str(block), f"{first[block]:.2f}", *cells)
    return table


def _cell(values: NDArray[Any] | None, block: int, style: str) -> str:
    """The last value; a dash where the block has no such thing, or an older version did not measure it."""
    return NOTHING if values is None else format(values[-1, block], style)
