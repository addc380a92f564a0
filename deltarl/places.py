"""Where files go: whether a place can be used is said before any work is done for it."""

from __future__ import annotations

import os
from pathlib import Path

from deltarl.errors import ConfigError


def expanded(path: str | Path, asker: str) -> Path:
    """A path with `~` and `~user` spelled out.

    Args:
        path: as the user gave it.
        asker: the key or option that it is from, for the message.

    Raises:
        ConfigError: if there is no such user, or no system has such a path.
    """
    if "\0" in str(path):
        raise ConfigError(f"{asker}: {str(path)!r} is no path: it holds a zero byte")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{asker}: {path}: {str(error).lower().rstrip('.')}") from None


def check_file(path: Path, asker: str) -> None:
    """As `check_folder`, for a file that is to be written into a folder."""
    try:
        if path.is_dir():
            raise ConfigError(f"{asker}: {path} is a folder")
    except OSError as error:
        raise ConfigError(f"{asker}: {path} cannot be used: {error.strerror or error}") from None
    check_folder(path.parent, asker)


def check_folder(folder: Path, asker: str) -> None:
    """See whether files can be written into a folder, or the folder be made; nothing is touched.

    Args:
        folder: where files are to go.
        asker: the key or option that it is from, for the message.

    Raises:
        ConfigError: if they cannot, with the reason.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            reason = f"{there} is not a folder"
        elif not os.access(there, os.W_OK | os.X_OK):
            reason = f"{there} may not be written"
        else:
            return
    except OSError as error:  # names that are too long, folders that may not be looked into
        reason = error.strerror or str(error)
    raise ConfigError(f"{asker}: {folder} cannot be used: {reason}")
