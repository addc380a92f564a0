"""Files and folders that survive a kill and a power failure.

Everything that a run's safety depends on is written here, with individual system calls of `os`. Content is forced to
the disk before it gets its name, by a single rename, so a reader sees either the old state or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError

from deltarl.reading import NO_LINK

_MODE = 0o666
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How libraries report a full disk in their own errors. An environment's error may mention disks too.
_SIGNS = (
    (SafetensorError, re.compile("|".join(rf"\(os error {number}\)" for number in _FULL))),
    (RuntimeError, re.compile(r"PytorchStreamWriter failed writing|inline_container.*unexpected pos")),
    (OSError, re.compile("|".join(re.escape(os.strerror(number)) for number in _FULL))),  # without a number
)


class FullDiskError(RuntimeError):
    """The disk had no room for anything that a run could be resumed from."""


def is_full(error: BaseException) -> bool:
    """Whether an error is due to a full disk, a quota or a file size limit, whichever library raised it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(isinstance(cause, kind) and sign.search(str(cause)) for kind, sign in _SIGNS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file, replacing one that is not a link, and force it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK, _MODE)
    try:
        rest = memoryview(content).cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically: readers see the old file or the new one, never part of it."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.unlink(missing_ok=True)  # it may be a hard link to a file elsewhere
    write(beside, content)
    beside.rename(path)
    sync(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder; durable when this returns."""
    source.rename(target)
    sync(target.parent)


def link(source: Path, target: Path) -> bool:
    """Create a hard link; False if that is impossible: the file is gone, or the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def unshare(path: Path) -> None:
    """Give a file its own copy of its content if other hard links share it, as in some backups."""
    if path.stat().st_nlink > 1:
        replace(path, path.read_bytes())


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link; it may already be gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def free(folder: Path) -> int:
    """Free bytes on the file system of `folder`."""
    return shutil.disk_usage(folder).free


def digest(content: bytes | memoryview) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(content).hexdigest()
