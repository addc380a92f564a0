"""`deltarl plot RUN...`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltarl import places
from deltarl.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
WINDOWLESS = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}  # matplotlib's backends that only write files


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of runs, folders that hold runs, or packed agents.", show_default=False
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a .png, .svg or .pdf file instead of opening a window.", show_default=False
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Key in metrics.jsonl; default: the return of the evaluations, or of the training episodes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw learning curves; the seeds of each config form one curve with a 95% interval.

    Example: deltarl plot runs/quickstart runs/quickstart+residual-1a2b3c --to curves.png
    """
    if to is not None:
        _check(to)
    elif not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError("plot: no screen to open a window on; give --to FILE.png")
    from deltarl.comparison import runs as curves

    folders = curves.runs_in(runs)
    key = key or curves.default_key(folders)
    groups = curves.grouped([curves.curve_of(folder, key) for folder in folders])
    figure = curves.learning_curves(groups, key)
    if to is None:
        _show(figure)
        return
    try:
        figure.savefig(to, dpi=150)
    except OSError as error:
        raise ConfigError(f"--to: {to} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{to}: {key} of {len(folders)} run{'s' if len(folders) > 1 else ''}")


def _check(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--to: {path}: expected a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not path.parent.is_dir():
        raise ConfigError(f"--to: {path.parent}: no such folder")
    places.check_file(path, "--to")


def _show(figure: Figure) -> None:
    import matplotlib.pyplot as plt

    if plt.get_backend().lower() in WINDOWLESS:
        raise ConfigError("plot: matplotlib cannot open a window here; give --to FILE.png")
    # Open a pyplot window and replace its empty figure.
    canvas = plt.figure().canvas
    canvas.figure = figure
    figure.set_canvas(canvas)
    plt.show()
