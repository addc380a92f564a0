"""Temporary folders that do not outlive their process for long."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deltarl.reading import NO_LINK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "deltarl-unpacked-"
_NEW = 60.0  # seconds in which a folder may not be locked yet


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a temporary folder and remove it at the end.

    A killed process leaves its folder behind. It held a lock on it, so the next call sees that nobody uses it any more,
    and removes it.

    Raises:
        OSError: if the folder cannot be made.
    """
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    descriptor = _locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Remove the user's folders whose processes are gone."""
    for folder in parent.glob(f"{PREFIX}*") if fcntl is not None else ():
        with suppress(OSError):
            found = folder.stat(follow_symlinks=False)
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _NEW:
                continue
            if (descriptor := _locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Lock a folder; None if another process has, or the system has no locks.

    Raises:
        OSError: if it is not a folder.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | NO_LINK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
