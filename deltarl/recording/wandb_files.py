"""Reads the files that W&B records a run in: LevelDB's log format, each record a protocol buffer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32_768, 7
FULL, LAST = 1, 4


def records_in(path: Path) -> Iterator[Any]:
    """The records of a file in order, up to the first that is incomplete, because its process was killed."""
    record: Any = import_module("wandb.proto.wandb_internal_pb2")
    content, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        if (left := BLOCK - at % BLOCK) < HEADER:  # no room for another header
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in {FULL, LAST}:
            try:
                yield record.Record.FromString(parts)
            except Exception:  # protobuf's own
                return
            parts = b""


def rows_in(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, with `_step`; nested keys are joined by slashes."""
    for record in records_in(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def newest_step(folder: Path, run_id: str) -> int | None:
    """The newest step that W&B's folder has of a run, over all its processes; None if it has no file of the run.

    A row is written when one of a later step follows, and some time later reaches the disk. So a killed process has
    fewer rows there than it logged.
    """
    paths = list(folder.glob(f"*-{run_id}/run-{run_id}.wandb"))
    if not paths:
        return None
    return max((int(row.get("_step", -1)) for path in paths for row in rows_in(path)), default=-1)
