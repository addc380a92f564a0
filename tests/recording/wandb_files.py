"""Reads the files that W&B records a run in: LevelDB's log format, each record a protocol buffer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32_768, 7
PADDING, FULL, LAST = 0, 1, 4


def records_in(path: Path) -> Iterator[Any]:
    """The records of a file, in order."""
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415

    content, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # no room for another header
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in {FULL, LAST}:
            yield Record.FromString(parts)
            parts = b""


def finished(folder: Path) -> list[Any]:
    """The records of an offline run, which another process writes until shortly after the run's end."""
    [path] = folder.glob("*.wandb")
    until = time.monotonic() + 30
    while not (records := list(records_in(path))) or records[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < until, [each.WhichOneof("record_type") for each in records]
        time.sleep(0.02)
    return records


def history_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of an offline run, with `_step`."""
    rows = []
    for record in finished(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows
