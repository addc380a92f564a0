"""Checks whether files can be written to a path before any work is done for them."""

from __future__ import annotations

import os
from pathlib import Path

from deltarl.errors import ConfigError

LOGS = "logs"  # folder for what the jobs of a launcher print, beside their runs


def shipped() -> Path:
    """The folder of the shipped files.

    It is the checkout if this is one (an editable install has a stale `_specs` too), else a folder of the package.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parent
    return checkout if (checkout / "pyproject.toml").is_file() else package / "_specs"


def expanded(path: str | Path, asker: str) -> Path:
    """Expand `~` and `~user` in a path.

    Args:
        path: the path given by the user.
        asker: the key or option it was given for, for the message.

    Raises:
        ConfigError: if there is no such user, or the path is impossible.
    """
    if "\0" in str(path):
        raise ConfigError(f"{asker}: {str(path)!r} is not a path: it contains a null byte")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{asker}: {path}: {str(error).lower().rstrip('.')}") from None


def check_file(path: Path, asker: str) -> None:
    """Check that a file can be written, including its folder.

    Raises:
        ConfigError: if not, with the reason.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{asker}: {path} is a folder")
    except OSError as error:
        raise ConfigError(f"{asker}: {path} cannot be used: {error.strerror or error}") from None
    check_folder(path.parent, asker)


def check_folder(folder: Path, asker: str) -> None:
    """Check that files can be written into a folder, or the folder created; nothing is changed.

    Args:
        folder: the folder to write to.
        asker: the key or option it was given for, for the message.

    Raises:
        ConfigError: if not, with the reason.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            reason = f"{there} is not a folder"
        elif not os.access(there, os.W_OK | os.X_OK):
            reason = f"{there} is not writable"
        else:
            return
    except OSError as error:  # a name that is too long, or a folder without permission
        reason = error.strerror or str(error)
    raise ConfigError(f"{asker}: {folder} cannot be used: {reason}")
