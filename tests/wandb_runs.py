"""Runs that W&B has recorded offline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deltarl.recording.wandb_files import records_in, rows_in


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
    finished(folder)
    [path] = folder.glob("*.wandb")
    return list(rows_in(path))
