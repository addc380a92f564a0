"""Finds runs. Imports nothing slow, because verbs look for their runs before they import PyTorch."""

from __future__ import annotations

from pathlib import Path

from deltarl.errors import ConfigError
from deltarl.reading import check_plain

CONFIG = "config.yaml"
GATES = "gates.npz"


def runs_in(folder: Path) -> list[Path]:
    """The runs that a path names: the run itself, or those of the seeds in it, in order.

    Raises:
        ConfigError: if there is none, or if one is a link.
    """
    found = [folder] if (folder / CONFIG).is_file() else []
    if not found:
        seeds = [path for path in folder.glob("seed-*") if path.name[5:].isdecimal()]
        for path in sorted(seeds, key=lambda path: int(path.name[5:])):
            if path.is_symlink():
                raise ConfigError(f"{path}: is a link; give its target instead")
            if (path / CONFIG).is_file():
                found.append(path)
    if not found:
        raise ConfigError(f"{folder}: contains no run" if folder.is_dir() else f"{folder}: no such folder")
    for path in found:
        check_plain(path)
    return found
