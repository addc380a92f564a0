"""Finds runs. Imports nothing slow, because verbs look for their runs before they import PyTorch."""

from __future__ import annotations

from pathlib import Path

from deltarl.errors import ConfigError
from deltarl.reading import check_plain
from deltarl.training import packed

CONFIG = packed.CONFIG
GATES = packed.GATES


def runs_in(folder: Path) -> list[Path]:
    """The runs that a path names: the run itself, or those of the seeds in it, in order.

    A packed agent counts as one run; a bare name may be that of a shipped one.

    Raises:
        ConfigError: if there is none, if one is a link, or if a packed agent is damaged.
    """
    folder = packed.found(folder)
    if folder.is_file():
        packed.read_pack(folder)
        return [folder]
    found = [folder] if (folder / CONFIG).is_file() else []
    if not found:
        seeds = [path for path in folder.glob("seed-*") if path.name[5:].isdecimal()]
        for path in sorted(seeds, key=lambda path: int(path.name[5:])):
            if path.is_symlink():
                raise ConfigError(f"{path}: is a link; give its target instead")
            if (path / CONFIG).is_file():
                found.append(path)
    if not found:
        raise ConfigError(f"{folder}: contains no run" if folder.is_dir() else packed.nothing_at(folder))
    for path in found:
        check_plain(path)
    return found


def resumable_in(folder: Path) -> list[Path]:
    """The runs that a path names, as `runs_in`, but without packed agents, which cannot be resumed.

    Raises:
        ConfigError: as `runs_in`, and for a packed agent.
    """
    found = runs_in(folder)
    if found[0].is_file():
        raise ConfigError(
            f"{folder}: a packed agent has no optimizer and no replay buffer to resume with; "
            f"train a new run from its policy with init_from={folder}"
        )
    return found
