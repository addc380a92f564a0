"""`deltarl pull REPO [FILE.zip]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pull(
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="Repository of the Hugging Face Hub: user/name.", show_default=False)
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.zip]", help="File to write; default: the repository's name.", show_default=False),
    ] = None,
    *,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; default: main.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing FILE.")] = False,
) -> None:
    """Download a packed agent from the Hugging Face Hub; nothing in it is executed.

    Example: deltarl pull user/ppo-hopper hopper.zip
    """
    from deltarl.export.hub import pull_pack

    path = pull_pack(repo, file, revision=revision, overwrite=overwrite)
    typer.echo(f"{path}: {path.stat().st_size / 1024:,.0f} KiB")
