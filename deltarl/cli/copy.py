"""`deltarl copy NAME`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from deltarl import places
from deltarl.errors import ConfigError, suggestion
from deltarl.library.lookup import KINDS, find, names

SPACES = "configs/search"
LONGEST_NAME = 255  # the limit of most file systems


def copy(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A shipped file's name, or KIND/NAME.", show_default=False),
    ],
    to: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="Name of the copy; default: the original's.")
    ] = None,
) -> None:
    """Copy a shipped file into the current folder, where it takes precedence over the shipped one.

    Example: deltarl copy quickstart --to mine
    """
    kind, base = _which(name)
    target = Path(kind) / f"{to or base}.yaml"
    if Path(target.name).stem != (to or base) or len(target.name) > LONGEST_NAME:
        raise ConfigError(f"--to: '{to}' is not a name")
    if target.exists():
        raise ConfigError(f"copy: {target} already exists; give another name with --to")
    source = find(kind, base, "copy")
    places.check_folder(target.parent, "copy")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigError(f"copy: {target} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{target}, a copy of {source}")


def _which(name: str) -> tuple[str, str]:
    kind, slash, base = name.rpartition("/")
    if slash:
        if kind not in KINDS:
            raise ConfigError(f"copy: no kind '{kind}'{suggestion(kind, KINDS)}")
        return kind, base
    kinds = [kind for kind in KINDS if name in names(kind)]
    if not kinds:
        known = sorted({found for kind in KINDS for found in names(kind)})
        raise ConfigError(f"copy: no agent, environment, config, comparison or space '{name}'{suggestion(name, known)}")
    if len(kinds) > 1 and SPACES in kinds:  # ppo is the agent; the space is configs/search/ppo
        kinds.remove(SPACES)
    if len(kinds) > 1:
        raise ConfigError(f"copy: '{name}' is in {' and '.join(kinds)}; give {kinds[0]}/{name}")
    return kinds[0], name
