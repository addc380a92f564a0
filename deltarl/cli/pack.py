"""`deltarl pack RUN [FILE.zip]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltarl.cli.evaluate import BestOption
from deltarl.training.lookup import runs_in


def pack(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run's folder, .../seed-<n>, or the folder that holds its seeds.", show_default=False
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.zip]", help="File to write; default: the run's name.", show_default=False),
    ] = None,
    *,
    best: BestOption = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Which seed's policy to pack; default: the one with the best score.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing FILE.")] = False,
) -> None:
    """Pack a trained agent into one file to share: its policy, config, scores, gates and a card.

    The file contains data only, nothing that is executed, and stands wherever a run's folder does. The card has the
    scores of all seeds.

    Example: deltarl pack runs/quickstart hopper.zip
    """
    runs_in(run)

    from deltarl.export.pack import pack_run

    path = pack_run(run, file, best=best, seed=seed, overwrite=overwrite)
    typer.echo(f"{path}: {path.stat().st_size / 1024:,.0f} KiB")
