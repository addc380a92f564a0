"""Reads and writes zip archives of a closed set of files.

An archive may come from anybody. It is read into memory in full before anything is done with it, and all of it is
checked: names, kinds, sizes and ratios of its members, and that it contains nothing besides them.
"""

from __future__ import annotations

import io
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from deltarl.reading import content_of

MOST_BYTES = 2**29  # of an archive, and of its members together
MOST_MEMBERS = 64
LARGEST_RATIO = 100  # of members beyond 1 MiB; weights shrink by a tenth, text by up to 20 times
_UNSUSPICIOUS = 2**20
_END = struct.Struct("<4s4H2LH")  # of an archive: signature, disks, members, the directory's size and place, comment
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def packed(files: Mapping[str, bytes]) -> bytes:
    """An archive of files; the same files give the same bytes."""
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, data in sorted(files.items()):
            member = ZipInfo(name, _EARLIEST)
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, data, ZIP_DEFLATED, 9)
    return content.getvalue()


def names_in(path: Path) -> set[str]:
    """The names in an archive, which may be anything.

    Raises:
        OSError, ValueError, BadZipFile, ...: if it is no archive.
    """
    content = content_of(path.resolve(), MOST_BYTES)
    _check_ends(content)
    with ZipFile(io.BytesIO(content)) as archive:
        return set(archive.namelist())


def unpacked(path: Path, most: Callable[[str], int | None]) -> dict[str, bytes]:
    """The files of an archive by name; nothing is written.

    Args:
        path: the archive.
        most: the largest size of a file by its name in bytes; None if the archive must not contain that name.

    Raises:
        OSError, ValueError, BadZipFile, zlib.error, ...: if anything is not as it should be (see `reading.readable`).
    """
    content = content_of(path.resolve(), MOST_BYTES)
    _check_ends(content)
    with ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        for member in members:
            _check(member, most)
        names = [member.filename.casefold() for member in members]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"contains {twice!r} twice")
        if (size := sum(member.file_size for member in members)) > MOST_BYTES:
            raise ValueError(f"has {size:,} bytes unpacked, more than {MOST_BYTES:,}")
        return {member.filename: _content(archive, member) for member in members}


def _check_ends(content: bytes) -> None:
    """Check that the archive has few members, no comment, and nothing before, after or beside them.

    Python would read a directory with millions of members into memory, and ignores what surrounds an archive.
    """
    if not content.startswith(b"PK\3\4"):
        raise ValueError("is not a zip archive")
    if len(content) < _END.size or content[-_END.size :][:4] != b"PK\5\6":
        raise ValueError("is not a complete zip archive, or does not end where it should")
    _, disk, first_disk, here, members, size, start, comment = _END.unpack(content[-_END.size :])
    if members > MOST_MEMBERS or size > MOST_MEMBERS * 512:
        raise ValueError(f"has {members:,} members, more than {MOST_MEMBERS}")
    locator = content[-_END.size - 20 :][:4] == b"PK\6\7"  # of zip64, which would overrule these numbers
    if disk or first_disk or here != members or comment or locator or start + size + _END.size != len(content):
        raise ValueError("contains something besides its members")


def _check(member: ZipInfo, most: Callable[[str], int | None]) -> None:
    name = member.orig_filename  # `filename` is cut off at a null byte
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise ValueError(f"{name[:80]!r} is {'a link' if kind == stat.S_IFLNK else 'not a regular file'}")
    if (largest := most(name)) is None:
        raise ValueError(f"contains {name[:80]!r}, which does not belong in it")
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if member.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        raise ValueError(f"{name} has an unknown compression ({member.compress_type})")
    if member.file_size > largest:
        raise ValueError(f"{name} has {member.file_size:,} bytes, more than {largest:,}")
    if member.file_size > max(_UNSUSPICIOUS, LARGEST_RATIO * member.compress_size):
        raise ValueError(f"{name} unpacks to more than {LARGEST_RATIO} times its size")


def _content(archive: ZipFile, member: ZipInfo) -> bytes:
    with archive.open(member) as file:
        found = file.read(member.file_size)  # never more, whatever is compressed in there
    if len(found) != member.file_size:
        raise ValueError(f"{member.filename}: expected {member.file_size:,} bytes, got {len(found):,}")
    return found
