"""Untrusted files are read, or refused in one line that names them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.table import Table

from deltarl import ConfigError
from deltarl.cli.tables import add_row, print_table
from deltarl.errors import plain
from deltarl.reading import (
    check_plain,
    neutralised,
    read_arrays,
    read_json,
    read_json_lines,
    read_rows,
    read_text,
    read_yaml,
)

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def of_trillions() -> bytes:
    """An array whose header claims more numbers than fit into any memory."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("mean.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return content.getvalue()


def bomb() -> bytes:
    """A small file that unpacks to more than the limit; only the archive's directory gives that size."""
    content = bytearray(npz(mean=np.zeros(3)))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 2**31)
    return bytes(content)


def spoiled() -> bytes:
    """A compressed archive whose data are overwritten."""
    content = io.BytesIO()
    np.savez_compressed(content, mean=np.random.default_rng(0).normal(size=100))
    data = bytearray(content.getvalue())
    data[60:200] = b"\xff" * 140
    return bytes(data)


FAULTS: list[tuple[Callable[[Path], Any], bytes, str]] = [
    (read_text, b"\xff\xfe", "invalid start byte"),
    (read_json, b"", "Expecting value"),
    (read_json, b"5", "expected an object, got 5"),
    (read_json, b"[1]", "expected an object"),
    (read_json, b'{"a": NaN}', "NaN is not a JSON number"),
    (read_json, b'{"a": -Infinity}', "-Infinity is not a JSON number"),
    (read_json, b'{"a": ' + b"[" * 30 + b"]" * 30 + b"}", "nested more than 20"),
    (read_json, b'{"a": ' + b"[" * 100_000, "nested more than 20"),
    (read_json, b'{"a": ' + b"9" * 5_000 + b"}", "digits"),
    (read_json, b'{"a": "\xff"}', "invalid start byte"),
    (read_json_lines, b'{"a": 1}\n5\n', "line 2: expected an object, got 5"),
    (read_json_lines, b'{"a": 1}\n{"a"', "line 2: "),
    (read_yaml, LAUGHS.encode(), "aliases"),
    (read_yaml, b"a: !!python/object/apply:os.system [ls]", "tags"),
    (read_yaml, b"[" * 50, "nested more than 20"),
    (read_yaml, b"a: [", "expected"),
    (read_yaml, b'name: "\\e[31mred"', "contains control characters"),
    (read_yaml, b"name: \x1b[31mred", "not allowed"),
    (read_yaml, b"? [a]\n: b", "unhashable"),
    (read_yaml, b"a: " + b"9" * 5_000, "digits"),
    (read_rows, b"step,return\n1\n", "more or fewer columns"),
    (read_rows, b"step,return\n1,2,3\n", "more or fewer columns"),
    (read_rows, b"step\n" + b"9" * 200_000, "field larger than"),
    (read_arrays, b"", "not a zip"),
    (read_arrays, b"PK\x03\x04 and no more", "not a zip"),
    (read_arrays, npz(a=np.array([{}], object)), "allow_pickle=False"),
    (read_arrays, pickle.dumps({"a": 1}), "not a zip"),
    (read_arrays, of_trillions(), ""),
    (read_arrays, spoiled(), "Error -3 while decompressing"),
    (read_arrays, bomb(), "bytes unpacked, more than"),
]


@pytest.mark.parametrize(("read", "content", "message"), FAULTS)
def test_what_cannot_be_read_is_named_in_one_line(
    read: Callable[[Path], Any], content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: missing or damaged: ")
    assert message in text
    assert text.isprintable()
    assert len(text) < len(str(path)) + 350


@pytest.mark.parametrize("read", [read_text, read_json, read_json_lines, read_yaml, read_rows, read_arrays])
def test_no_link_is_followed_no_pipe_waited_for_and_no_file_endless(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    for name, message in (
        ("link", "symbolic links"),
        ("pipe", "is not a regular file"),
        ("folder", "directory"),
        ("sparse", "bytes, more than"),
        ("nothing", "No such file"),
    ):
        with pytest.raises(ConfigError, match=rf"{name}: missing or damaged: .*{message}"):
            read(tmp_path / name)


def test_valid_files_are_read_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps(data := {"a": [1, 2.5, None, True], "ü": "Zoë\n\t☃"}))
    assert read_json(path) == data
    assert read_json_lines(path) == [data]
    path.write_text("a: [1, 2.5, null, true]\nb: Zoë\n", encoding="utf-8")
    assert read_yaml(path) == {"a": [1, 2.5, None, True], "b": "Zoë"}
    path.write_text("step,return\r\n1,2.5\r\n")
    assert read_rows(path) == [{"step": "1", "return": "2.5"}]
    path.write_bytes(npz(a=np.arange(3)))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]


def test_a_folder_of_files_and_folders_is_plain(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_text("")
    check_plain(tmp_path)
    with pytest.raises(ConfigError, match="nowhere: missing or damaged"):
        check_plain(tmp_path / "nowhere")
    (tmp_path / "a" / "b" / "link").symlink_to("../file")  # even one that stays inside
    with pytest.raises(ConfigError, match="a/b/link: is a link"):
        check_plain(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Zoë ☃ 漢字\n\t", "plain Zoë ☃ 漢字\n\t"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("over\rwritten\x08\x7f", r"over\rwritten\x08\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("turned \u202e back", r"turned \u202e back"),
        ("lone \udcff", r"lone \udcff"),
    ],
)
def test_texts_from_elsewhere_move_no_cursor(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(text) == shown == plain(shown)
    assert neutralised({text: [text, 1, None]}) == {shown: [shown, 1, None]}
    assert str(ConfigError(text)) == shown
    assert str(pickle.loads(pickle.dumps(ConfigError(text)))) == shown
    table = Table(box=None)
    table.add_column("name")
    add_row(table, [f"[bold]{text}[/nothing]"])
    print_table(table)
    assert f"[bold]{shown}[/nothing]".split() == capsys.readouterr().out.split()[1:]
