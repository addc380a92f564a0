"""`deltarl validate [FILES]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltarl.errors import ConfigError


def validate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILES", help="YAML files; default: all that can be found from here.", show_default=False
        ),
    ] = None,
) -> None:
    """Check agents, environments, configs, comparisons and spaces without training.

    Example: deltarl validate configs/mine.yaml
    """
    from deltarl.library import KINDS, find, names

    paths = files or [find(kind, name, "validate") for kind in KINDS for name in names(kind)]
    failures = []
    for path in paths:
        try:
            _check(path)
        except ConfigError as error:
            failures.append(str(error))
    if len(failures) > 1:
        for failure in failures[:-1]:
            typer.echo(f"deltarl: error: {failure}", err=True)
    if failures:
        raise ConfigError(failures[-1])
    typer.echo(f"{len(paths)} file{'s are' if len(paths) > 1 else ' is'} valid")


def _check(path: Path) -> None:
    from deltarl.comparison import load_comparison
    from deltarl.library import check, read_yaml
    from deltarl.search.load import read_space

    keys = read_yaml(path).data.keys() if path.suffix in {".yaml", ".yml"} else set()
    if keys & {"arms", "tasks", "reference"}:
        load_comparison(str(path))
    elif "space" in keys:
        read_space(path)
    else:
        check(path)
