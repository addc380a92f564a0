"""Locks on runs: a training process holds a lock on a file, which other processes can see."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltarl.errors import ConfigError
from deltarl.reading import NO_LINK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


class TakenError(ConfigError):
    """Another process is training in the folder."""


def taken(folder: Path) -> TakenError:
    """The error for a folder in which another process is training."""
    return TakenError(f"{folder}: another process is training there; give another out=")


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file."""
    if fcntl is None or not path.is_file():
        return False
    try:
        with locked(path):
            return False
    except ConfigError:
        return True
    except OSError:  # not writable, so nobody else can be training there either
        return False


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Lock a file for this process; the lock is released when the process ends, however it ends.

    The file is open for writing, because network file systems can lock nothing else. Systems without `fcntl` get a
    warning instead.
    """
    if fcntl is None:
        if not wait:
            log.warning("%s: this system has no file locks; do not start a second command on this folder", path.parent)
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise taken(path.parent) from None
        yield
    finally:
        os.close(descriptor)
