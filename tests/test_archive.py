"""Archives from anybody: whatever is wrong with one, it is refused before anything is written or much is read."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZipFile, ZipInfo

import pytest

from deltarl import archive
from deltarl.errors import ConfigError
from deltarl.reading import readable

FILES = {"a.txt": b"first\n", "b/c.txt": b"second\n"}
LARGEST = 10 * 2**20


def most(name: str) -> int | None:
    return LARGEST if name in FILES else None


def members(*entries: tuple[str | ZipInfo, bytes], compression: int = ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with ZipFile(content, "w", compression) as file:
        for name, data in entries:
            file.writestr(name, data)
    return content.getvalue()


def special(name: str, kind: int) -> tuple[ZipInfo, bytes]:
    member = ZipInfo(name)
    member.create_system, member.external_attr = 3, (kind | 0o644) << 16
    return member, b"/etc/passwd"


def patched(offset: int, value: int, what: str = "<H") -> bytes:
    """A member's entry in the directory with another value, in its local header too if that has the value."""
    content = bytearray(archive.packed({"a.txt": b"first\n"}))
    directory = content.index(b"PK\1\2")
    content[directory + offset : directory + offset + struct.calcsize(what)] = struct.pack(what, value)
    local = {8: 6, 10: 8}.get(offset)
    if local is not None:
        content[local : local + 2] = struct.pack("<H", value)
    return bytes(content)


def renamed(name: bytes) -> bytes:
    """An archive with a name that `ZipFile` would not write."""
    return members(("x" * len(name), b"")).replace(b"x" * len(name), name)


WHOLE = archive.packed(FILES)
ATTACKS: dict[str, tuple[bytes, str]] = {
    "no archive": (b"hello", "is not a zip archive"),
    "empty": (b"", "is not a zip archive"),
    "no members": (members(), "is not a zip archive"),
    "truncated": (WHOLE[:-30], "is not a complete zip archive"),
    "cut in the middle": (WHOLE[: len(WHOLE) // 2], "is not a complete zip archive"),
    "something before": (b"#!/bin/sh\n" + WHOLE, "is not a zip archive"),
    "something after": (WHOLE + b"#!/bin/sh\n", "does not end where it should"),
    "an archive before": (WHOLE + WHOLE, "contains something besides its members"),
    "a comment": (WHOLE[:-2] + b"\4\0evil", "does not end where it should"),
    "parent": (members(("../a.txt", b"")), r"contains '\.\./a\.txt', which does not belong"),
    "parent within": (members(("b/../a.txt", b"")), "does not belong"),
    "absolute": (members(("/etc/a.txt", b"")), "does not belong"),
    "backslash": (renamed(rb"b\c.txt"), "does not belong"),
    "drive": (members(("C:/a.txt", b"")), "does not belong"),
    "share": (renamed(rb"\\host\a.txt"), "does not belong"),
    "null byte": (renamed(b"a.txt\0.sh"), "does not belong"),
    "colours": (renamed(b"\x1b[2Ja.txt"), r"'\\x1b\[2Ja\.txt', which does not belong"),
    "another case": (members(("A.txt", b"")), "does not belong"),
    "a folder": (members(("b/", b"")), "'b/' is not a regular file"),
    "an archive inside": (members(("a.txt", b""), ("inner.zip", WHOLE)), "'inner.zip', which does not belong"),
    "twice": (members(("a.txt", b"1"), ("b.txt", b"2")).replace(b"b.txt", b"a.txt"), "contains 'a.txt' twice"),
    "link": (members(special("a.txt", stat.S_IFLNK)), "'a.txt' is a link"),
    "link to a folder": (members(special("b", stat.S_IFLNK)), "'b' is a link"),
    "device": (members(special("a.txt", stat.S_IFCHR)), "'a.txt' is not a regular file"),
    "pipe": (members(special("a.txt", stat.S_IFIFO)), "'a.txt' is not a regular file"),
    "folder by its mode": (members(special("a.txt", stat.S_IFDIR)), "'a.txt' is not a regular file"),
    "encrypted": (patched(8, 1), "a.txt is encrypted"),
    "strongly encrypted": (patched(8, 0x41), "a.txt is encrypted"),
    "bzip2": (members(("a.txt", b"first"), compression=ZIP_BZIP2), r"a\.txt has an unknown compression \(12\)"),
    "lzma": (members(("a.txt", b"first"), compression=ZIP_LZMA), r"unknown compression \(14\)"),
    "no such compression": (patched(10, 99), r"unknown compression \(99\)"),
    "wrong checksum": (patched(16, 1, "<I"), "Bad CRC-32"),
    "larger than it says": (patched(24, 2, "<I"), "Bad CRC-32"),
    "smaller than it says": (patched(24, 600, "<I"), "expected 600 bytes, got 6"),
    "other name in the header": (WHOLE.replace(b"a.txt", b"z.txt", 1), "differ"),
    "too large": (members(("a.txt", b"1" * (LARGEST + 1))), r"a\.txt has 10,485,761 bytes, more than 10,485,760"),
    "ratio": (members(("a.txt", bytes(2**21))), "unpacks to more than 100 times its size"),
    "many members": (members(*((f"{i}", b"") for i in range(65))), "has 65 members, more than 64"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_in_one_line(attack: str, tmp_path: Path) -> None:
    content, message = ATTACKS[attack]
    (tmp_path / "agent.zip").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"agent\.zip: .*{message}") as caught, readable(tmp_path / "agent.zip"):
        archive.unpacked(tmp_path / "agent.zip", most)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


def test_the_sum_of_sizes_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agent.zip").write_bytes(members(*((name, bytes(1000)) for name in FILES)))
    monkeypatch.setattr(archive, "MOST_BYTES", 1999)
    with pytest.raises(ValueError, match="has 2,000 bytes unpacked, more than 1,999"):
        archive.unpacked(tmp_path / "agent.zip", most)


def bomb() -> bytes:
    """A member that unpacks to a gigabyte while the archive says ten bytes."""
    content = bytearray(members(("a.txt", bytes(2**26))))
    directory = content.index(b"PK\1\2")
    content[directory + 24 : directory + 28] = struct.pack("<I", 10)
    return bytes(content)


def many() -> bytes:
    """A directory of a million entries, for which the end of the archive claims one."""
    one = archive.packed({"a.txt": b""})
    directory, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    entries = one[directory:end] * 200_000
    return one[:directory] + entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entries), directory, 0)


@pytest.mark.parametrize("attack", [bomb, many])
def test_archives_that_lie_about_their_size_take_no_memory(attack: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(attack())
    tracemalloc.start()
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        archive.unpacked(tmp_path / "agent.zip", most)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * (tmp_path / "agent.zip").stat().st_size + 2**22


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(WHOLE)
    assert archive.unpacked(tmp_path / "agent.zip", most) == FILES
    (tmp_path / "link.zip").symlink_to("agent.zip")
    assert archive.names_in(tmp_path / "link.zip") == set(FILES)
    assert archive.unpacked(tmp_path / "link.zip", most) == FILES


def test_the_same_files_give_the_same_bytes() -> None:
    assert archive.packed(dict(reversed(FILES.items()))) == WHOLE


def test_an_archive_may_come_from_another_program(tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(members(*FILES.items(), compression=zipfile.ZIP_STORED))
    assert archive.unpacked(tmp_path / "agent.zip", most) == FILES
