"""Refuses what can be refused before PyTorch is imported, which takes longer than everything else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from deltarl.errors import ConfigError
from deltarl.library.layers import COMMAND_LINE, parse_override
from deltarl.library.lookup import KINDS, find


def check_config(name: str, overrides: Sequence[str] | None, kind: str = "configs") -> None:
    """Check that a config or comparison exists, and that overrides have the form key=value.

    Raises:
        ConfigError: if not.
    """
    find(kind, name, f"{COMMAND_LINE}: {KINDS[kind]}")
    for text in overrides or []:
        parse_override(text)


def check_folder(folder: Path, hint: str = "") -> None:
    """Check that a folder exists.

    Raises:
        ConfigError: if not; the message ends in `hint`.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder{hint}")


def say_loading() -> None:
    """Print on a terminal that the slow imports have started."""
    if sys.stderr.isatty():
        typer.echo("loading", err=True)
