"""Locks on runs: a process that trains holds a file, and another one sees it."""

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


def taken(folder: Path) -> ConfigError:
    """What is said of a folder in which another process trains."""
    return ConfigError(f"{folder}: another process is training there; give another out=")


def is_locked(path: Path) -> bool:
    """Whether a process holds a file."""
    if fcntl is None or not path.is_file():
        return False
    try:
        with locked(path):
            return False
    except ConfigError:
        return True
    except OSError:  # a place that may not be written; nobody else can be there either
        return False


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a file for this process; the lock goes with the process, however that ends.

    A file, and open for writing: network file systems lock nothing else. Systems without `fcntl` get a warning instead.
    """
    if fcntl is None:
        if not wait:
            log.warning("%s: this system has no file locks; start no second command on this folder", path.parent)
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
