"""`deltarl report DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltarl.cli.early import check_folder
from deltarl.errors import ConfigError


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A comparison's folder.", show_default=False)],
    reference: Annotated[
        str | None, typer.Option(metavar="ARM", help="Compare the other arms with this one.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder; default: report/ in the comparison's folder.", show_default=False),
    ] = None,
) -> None:
    """Write the report of a comparison: an HTML page, figures and tables.

    Example: deltarl report runs/quick --reference delta
    """
    check_folder(folder, hint="; deltarl compare makes them")

    from deltarl.comparison.spec import COMPARISON

    if not (folder / COMPARISON).is_file():
        raise ConfigError(f"{folder}: contains no comparison; deltarl compare makes them")

    from deltarl.comparison import write_report

    typer.echo(write_report(folder, reference, out))
